package transport

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"peerstate/store"
)

const (
	// giveStreams is how many streams to each node give sessions away at the same time.
	giveStreams = 4
	// giveBatch is how many sessions are frozen at a time for one stream, and giveBytes about how large
	// they are together: requests for them wait until the batch is through.
	giveBatch = 128
	giveBytes = 256 << 10
	// giveWindow is how many batches may be on their way on one stream.
	giveWindow = 4
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

// giving is one stream on which sessions are given away. The next ones are sent while receipts of those before are awaited: a node
// with a journal forces what has come to disk before it answers, if nobody else has a copy.
type giving struct {
	s    *stream
	mesh *Mesh
	to   *link
	room *semaphore.Weighted // for as many batches as may be on their way
	sent chan sentBatch
	size atomic.Int64 // bytes on their way

	mu     sync.Mutex
	full   error // it has refused some: only those that it keeps a backup of are left
	over   error // why no more is sent
	broken bool  // no receipt can be read any more; the goroutine that reads them says so
}

// sentBatch is sessions that were sent whole.
type sentBatch struct {
	all   []*store.Handover
	size  int64
	which store.Choice
	room  int64
}

// giveAway gives sessions to one node on one stream, of so many in all, until there are none.
func (l *link) giveAway(ctx context.Context, which store.Choice, streams int, given *atomic.Int64, each func()) error {
	s, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	g := &giving{s: s, mesh: l.mesh, to: l, room: semaphore.NewWeighted(giveWindow), sent: make(chan sentBatch, giveWindow)}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		receipts := bufio.NewReader(s)
		for b := range g.sent {
			given.Add(int64(g.receive(receipts, b)))
			g.room.Release(b.room)
			each()
		}
	})
	more := true
	for more && err == nil {
		more, err = g.next(ctx, which, streams)
	}
	close(g.sent)
	receiving.Wait()
	if err != nil || g.over != nil {
		return errors.Join(g.full, g.over, err)
	}
	// The end of the stream says that all receipts were read, and that nobody will ask what became of a hand-over.
	return errors.Join(g.full, ctx.Err(), s.Close())
}

// next sends some sessions when there is room for them on the way; without more there are none, or no more are sent. The error says
// that not all were sent whole.
func (g *giving) next(ctx context.Context, which store.Choice, streams int) (more bool, err error) {
	// Never more than a part of this stream's share, or a few sessions would all go to whoever comes first.
	share, room := g.mesh.store.Stats().Active/(2*streams), int64(1)
	if share < giveBatch {
		room = giveWindow
	}
	if g.room.Acquire(ctx, room) != nil {
		return false, nil // ctx has ended
	}
	g.mu.Lock()
	over := g.over != nil
	if g.full != nil {
		which = store.There // it has no memory for others, it may be
	}
	g.mu.Unlock()
	var batch []*store.Handover
	if !over {
		to := store.Peer{Node: g.to.node.name, Instance: g.to.instance}
		batch = g.mesh.store.HandOut(to, min(max(share, 1), giveBatch), giveBytes, which)
	}
	if len(batch) == 0 {
		g.room.Release(room)
		return false, nil
	}
	size := int64(0)
	for _, h := range batch {
		size += int64(len(h.Record.Body))
	}
	g.size.Add(size)
	n, err := sendGives(g.s, batch)
	for _, h := range batch[n:] {
		h.Declined(store.Version{}) // it stays here
	}
	g.sent <- sentBatch{batch[:n], size, which, room}
	return true, err
}

// stop has no more sent, and with broken nothing more read.
func (g *giving) stop(err error, broken bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = errors.Join(g.over, err)
	if broken {
		g.broken = true
	}
}

// receive reads the receipts of sessions, and tells how many have arrived. What has no receipt is in doubt.
func (g *giving) receive(receipts *bufio.Reader, b sentBatch) (given int) {
	defer g.size.Add(-b.size)
	for i, h := range b.all {
		back, err := g.receipt(receipts)
		if err != nil {
			for _, h := range b.all[i:] {
				g.mesh.metrics.handover(outgoing, "doubt")
				h.Doubt()
			}
			g.mesh.doubted(g.to.node.name)
			return given
		}
		switch {
		case !back.Accepted:
			g.mesh.metrics.handover(outgoing, "declined")
			h.Declined(back.Version.of())
			g.refused(&back, b.which)
		case h.Received():
			g.mesh.metrics.handover(outgoing, "received")
			given++
		default:
			g.mesh.resolve(g.to.node.name)
			g.stop(errors.New("a receipt came after this node had begun to serve its own copy again"), false)
		}
	}
	return given
}

// receipt reads the next receipt. After an error there is none any more.
func (g *giving) receipt(receipts *bufio.Reader) (back receipt, err error) {
	if g.broken { // which is written by this goroutine
		return back, errNoReceipt
	}
	if receipts.Buffered() == 0 {
		// All streams share the path.
		err = g.s.SetReadDeadline(time.Now().Add(stall + underWay(giveStreams*int(g.size.Load()))))
	}
	if err == nil {
		err = expect(receipts, kindReceipt, &back)
	}
	if err != nil {
		g.stop(err, true)
	}
	return back, err
}

var errNoReceipt = errors.New("the receipts have ended")

// refused takes note that the node did not take a session of those that were chosen so. It says that it has no memory for it, or
// nothing; with a version, it has a newer one.
func (g *giving) refused(back *receipt, which store.Choice) {
	err := errRefused
	switch {
	case back.Full:
		err = errNoRoomThere
	case back.Version != nil:
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if which == store.There {
		g.over = cmp.Or(g.over, err)
	}
	if !errors.Is(g.full, errNoRoomThere) {
		g.full = err
	}
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
