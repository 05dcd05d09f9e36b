package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"peerstate/store"
)

const (
	// giveStreams is how many streams to each node give sessions away at the same time.
	giveStreams = 4
	// giveBatch is how many sessions are frozen at a time for one stream, and giveBytes about how large
	// they are together: requests for them wait until the batch is through.
	giveBatch = 128
	giveBytes = 256 << 10
	// giveBuffer is how many bytes of small sessions go into one write, and come out of one read.
	giveBuffer = 64 << 10
	// fullFor is how long a node is given nothing that has refused a session.
	fullFor = time.Second
)

// give offers a session that the receiver has not asked for. A stream brings any number of them, each
// with its body behind it; receipts come back in the same order. The giver ends the stream when it has
// read them all.
type give struct {
	Key    string      `cbor:"1,keyasint"`
	Giver  uint64      `cbor:"2,keyasint"`
	Number uint64      `cbor:"3,keyasint"`
	Record *recordHead `cbor:"4,keyasint"`
}

// giveRound gives away what can be given, on several streams to each node. The streams take the next
// sessions when they are done with some, so that a faster node gets more.
func (m *Mesh) giveRound(ctx context.Context, links []*link, given *atomic.Int64, each func()) (refused map[*link]error) {
	refused = map[*link]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, l := range links {
		for range giveStreams {
			all.Go(func() {
				for _, which := range []store.Choice{store.Apart, store.Unlocked, store.Anything} {
					if err := l.giveAway(ctx, which, len(links)*giveStreams, given, each); err != nil {
						m.log.Debug("a node takes no more sessions", "peer", l.node.name, "error", err)
						mu.Lock()
						if !errors.Is(refused[l], errNoRoomThere) {
							refused[l] = err
						}
						mu.Unlock()
						return
					}
				}
			})
		}
	}
	all.Wait()
	return refused
}

// errRefused says that a node does not take a session, and errNoRoomThere why.
var (
	errRefused     = errors.New("it refused a session")
	errNoRoomThere = fmt.Errorf("%w: it has no memory left for it (PEERSTATE_MAX_MEMORY)", errRefused)
)

// giveAway gives sessions to one node on one stream, of so many in all, until there are none.
func (l *link) giveAway(ctx context.Context, which store.Choice, streams int, given *atomic.Int64, each func()) error {
	s, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	receipts := bufio.NewReader(s)
	to := store.Peer{Node: l.node.name, Instance: l.instance}
	var full error
	for ctx.Err() == nil {
		// Never more than a part of this stream's share, or a few sessions would all go to whoever comes first.
		share := l.mesh.store.Stats().Active / (2 * streams)
		batch := l.mesh.store.HandOut(to, min(max(share, 1), giveBatch), giveBytes, which)
		if len(batch) == 0 {
			// The end of the stream says that all receipts were read.
			return errors.Join(full, s.Close())
		}
		n, err := l.giveBatch(s, receipts, batch)
		given.Add(int64(n))
		each()
		switch {
		case errors.Is(err, errRefused) && full == nil:
			full, which = err, store.There // it has no memory for others, it may be
		case err != nil:
			return errors.Join(full, err)
		}
	}
	return errors.Join(full, ctx.Err(), s.Close())
}

// giveBatch sends sessions and reads their receipts. What was not sent whole stays here; what has no
// receipt is in doubt. errRefused says that the node did not take all, and that the stream is as good as before.
func (l *link) giveBatch(s *stream, receipts *bufio.Reader, batch []*store.Handover) (given int, err error) {
	m := l.mesh
	sent, err := sendGives(s, batch)
	for _, h := range batch[sent:] {
		h.Declined(store.Version{})
	}
	size := 0
	for _, h := range batch[:sent] {
		size += len(h.Record.Body)
	}
	var refused error
	for i, h := range batch[:sent] {
		var back receipt
		var rerr error
		if receipts.Buffered() == 0 {
			rerr = s.SetReadDeadline(time.Now().Add(stall + underWay(giveStreams*size))) // they share the path
		}
		if rerr == nil {
			rerr = expect(receipts, kindReceipt, &back)
		}
		if rerr != nil {
			for _, h := range batch[i:sent] {
				m.metrics.handover(outgoing, "doubt")
				h.Doubt()
			}
			m.doubted(l.node.name)
			return given, errors.Join(err, rerr)
		}
		switch {
		case !back.Accepted:
			m.metrics.handover(outgoing, "declined")
			h.Declined(back.Version.of())
			if back.Version == nil {
				refused = errRefused
			}
			if back.Full {
				refused = errNoRoomThere
			}
		case h.Received():
			m.metrics.handover(outgoing, "received")
			given++
		default:
			m.resolve(l.node.name)
			err = errors.Join(err, errors.New("a receipt came after this node had begun to serve its own copy again"))
		}
	}
	if err == nil {
		err = refused
	}
	return given, err
}

// sendGives sends sessions, small ones together in one write, and tells how many were sent whole.
func sendGives(s *stream, batch []*store.Handover) (sent int, err error) {
	buf := make([]byte, 0, giveBuffer)
	var ends []int // in buf, of those that are whole with it
	flush := func() error {
		n, err := writeSteps(s, buf)
		for _, end := range ends {
			if end <= n {
				sent++
			}
		}
		buf, ends = buf[:0], ends[:0]
		return err
	}
	for _, h := range batch {
		if buf, err = appendFrame(buf, kindGive, give{Key: h.Record.Key, Giver: h.ID.Giver, Number: h.ID.N, Record: headOf(&h.Record)}); err != nil {
			break
		}
		if body := h.Record.Body; len(body) < giveBuffer/4 {
			buf = append(buf, body...)
			ends = append(ends, len(buf))
		} else {
			if err = flush(); err == nil {
				_, err = writeSteps(s, body)
			}
			if err != nil {
				break
			}
			sent++
		}
		if len(buf) >= giveBuffer/2 {
			if err = flush(); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = flush()
	}
	if err != nil {
		err = fmt.Errorf("sending sessions: %w", err)
	}
	return sent, err
}

// gives reads what a node gives away. Receipts are gathered, and sent whenever it is waited for more.
type gives struct {
	s        *stream
	receipts []byte
	last     store.Receipt
	within   time.Duration // how long the next bytes may take
}

// Read reads what has come, or waits for it.
func (g *gives) Read(p []byte) (int, error) {
	if err := g.flush(); err != nil {
		return 0, err
	}
	if err := g.s.SetReadDeadline(time.Now().Add(g.within)); err != nil {
		return 0, err
	}
	return g.s.Read(p)
}

func (g *gives) flush() error {
	if len(g.receipts) == 0 {
		return nil
	}
	g.s.link.mesh.forced(g.last)
	_, err := writeSteps(g.s, g.receipts)
	g.receipts = g.receipts[:0]
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
	in := &gives{s: s}
	r := bufio.NewReaderSize(in, giveBuffer)
	var ids []store.HandoverID
	for {
		var g give
		if err := decode(header, &g); err != nil {
			return err
		}
		if err := checkKey(g.Key); err != nil {
			return err
		}
		if g.Giver != l.instance {
			return fmt.Errorf("%w: a hand-over in another node's name", errFrame)
		}
		if err := m.checkHead(g.Key, g.Record); err != nil {
			return err
		}
		rec := g.Record.record(g.Key)
		in.within = stall
		id := store.HandoverID{Giver: g.Giver, N: g.Number}
		back, got, err := l.takeGiven(s, r, id, rec, g.Record.Size)
		if err != nil {
			return err
		}
		if got.Accepted {
			in.last = in.last.And(got)
		}
		if in.receipts, err = appendFrame(in.receipts, kindReceipt, back); err != nil {
			return err
		}
		if back.Accepted {
			ids = append(ids, id)
		}
		in.within = stall + m.config.FetchTimeout
		var k kind
		k, header, err = readFrame(r)
		if errors.Is(err, io.EOF) {
			break // the giver has read all receipts
		}
		if err != nil {
			return err
		}
		if k != kindGive {
			return fmt.Errorf("%w: kind %d among sessions that are given away", errFrame, k)
		}
	}
	for _, id := range ids {
		m.store.Settled(id)
	}
	return nil
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
