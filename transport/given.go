package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"peerstate/store"
)

// gives reads what a node gives away. Receipts are gathered, and passed on whenever it is waited for more to the goroutine that
// sends them, so that sessions come in while others get to disk.
type gives struct {
	s      *stream
	next   receipts
	ready  chan receipts
	within time.Duration // how long the next bytes may take
}

// receipts are sent when all that they are for is on disk, where that has to be.
type receipts struct {
	frames []byte
	got    store.Receipt
}

// Read reads what has come, or waits for it.
func (g *gives) Read(p []byte) (int, error) {
	if len(g.next.frames) > 0 {
		g.ready <- g.next
		g.next.frames = nil
	}
	if err := g.s.SetReadDeadline(time.Now().Add(g.within)); err != nil {
		return 0, err
	}
	return g.s.Read(p)
}

// send sends receipts until there are no more. After an error nothing more is read.
func (g *gives) send() (err error) {
	for r := range g.ready {
		for range len(g.ready) { // one wait is for all that are there
			more := <-g.ready
			r.frames, r.got = append(r.frames, more.frames...), r.got.And(more.got)
		}
		if err != nil {
			continue
		}
		g.s.link.mesh.forced(r.got)
		if _, err = writeSteps(g.s, r.frames); err != nil {
			g.s.CancelRead(streamGivenUp)
		}
	}
	return err
}

// serveGives takes in what a node that leaves gives away.
func (l *link) serveGives(s *stream, header []byte) error {
	m := l.mesh
	leave, err := l.enterBulk()
	if err != nil {
		return err
	}
	defer leave()
	in := &gives{s: s, ready: make(chan receipts, giveWindow)}
	sent := make(chan error, 1)
	go func() { sent <- in.send() }()
	ids, err := l.takeGives(in, header)
	close(in.ready)
	if err = errors.Join(err, <-sent); err != nil {
		return err
	}
	for _, id := range ids {
		m.store.Settled(id)
	}
	return nil
}

// takeGives takes in what comes on a stream, until its end. It gives the hand-overs that were accepted.
func (l *link) takeGives(in *gives, header []byte) (ids []store.HandoverID, err error) {
	m := l.mesh
	r := bufio.NewReaderSize(in, giveBuffer)
	for {
		var g give
		if err := decode(header, &g); err != nil {
			return ids, err
		}
		if err := checkKey(g.Key); err != nil {
			return ids, err
		}
		if g.Giver != l.instance {
			return ids, fmt.Errorf("%w: a hand-over in another node's name", errFrame)
		}
		if err := m.checkHead(g.Key, g.Record); err != nil {
			return ids, err
		}
		rec := g.Record.record(g.Key)
		in.within = stall
		id := store.HandoverID{Giver: g.Giver, N: g.Number}
		back, got, err := l.takeGiven(in.s, r, id, rec, g.Record.Size)
		if err != nil {
			return ids, err
		}
		if got.Accepted {
			in.next.got = in.next.got.And(got)
		}
		if in.next.frames, err = appendFrame(in.next.frames, kindReceipt, back); err != nil {
			return ids, err
		}
		if back.Accepted {
			ids = append(ids, id)
		}
		in.within = stall + 2*m.config.FetchTimeout // the receipts wait for the disk, and the giver for them
		var k kind
		k, header, err = readFrame(r)
		if errors.Is(err, io.EOF) {
			return ids, nil // the giver has read all receipts
		}
		if err != nil {
			return ids, err
		}
		if k != kindGive {
			return ids, fmt.Errorf("%w: kind %d among sessions that are given away", errFrame, k)
		}
	}
}

// takeGiven reads the body of a session that is given away, and takes it in if there is memory for it.
func (l *link) takeGiven(s *stream, r io.Reader, id store.HandoverID, rec store.Record, size int64) (back receipt, got store.Receipt, err error) {
	if err := s.link.quota.records.Wait(s.Context()); err != nil {
		return back, got, err
	}
	done, err := s.link.quota.body(s.Context(), size)
	if err != nil {
		return back, got, err
	}
	defer done()
	switch rec.Body, err = l.mesh.readContents(r, size, nil); {
	case errors.Is(err, errNoRoom):
		return l.mesh.noRoom(size), got, nil
	case err != nil:
		return back, got, err
	}
	rec.Counted = size
	defer l.mesh.store.GiveBack(size)
	back, got = l.mesh.takeIn(l, id, rec, l.mesh.store.Adopt)
	return back, got, nil
}
