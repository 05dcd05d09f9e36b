package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
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

// DrainProgress is how far a drain has come.
type DrainProgress struct {
	Given int     `json:"given"` // sessions handed over so far
	Left  int     `json:"left"`  // that are still here
	Rate  float64 `json:"rate"`  // handed over a second, on average
}

// Drain hands all sessions over to the linked nodes, those last that a page has locked. From its begin
// on the node takes no sessions in; it goes on answering. It ends when all are gone, when ctx ends, or
// when there is no node that could take any; the error says how many are left. report is called about
// once a second, and at the end.
func (m *Mesh) Drain(ctx context.Context, report func(DrainProgress)) error {
	m.awaitCompared(ctx)
	m.store.Leave()
	for _, l := range m.takers(nil) {
		l.say(kindLeave, bye{})
	}
	begun := time.Now()
	var given atomic.Int64
	progress := func() DrainProgress {
		n := int(given.Load())
		return DrainProgress{Given: n, Left: m.store.Stats().Active, Rate: float64(n) / max(time.Since(begun).Seconds(), 0.001)}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	full := map[*link]time.Time{}
	noRoom := map[string]bool{} // nodes that have said so
	for m.store.Stats().Active > 0 {
		links := m.heirs(full)
		if len(links) == 0 && len(m.heirs(nil)) == 0 && !m.mayLink() {
			break
		}
		before := given.Load()
		refused := m.giveRound(ctx, links, &given, func() {
			select {
			case <-tick.C:
				report(progress())
			default:
			}
		})
		for l, err := range refused {
			full[l] = time.Now()
			if errors.Is(err, errNoRoomThere) {
				noRoom[l.node.name] = true
			}
		}
		if given.Load() > before {
			continue
		}
		// Nothing went: all refuse, or what is left is in doubt. Some of that ends by itself.
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
		if ctx.Err() != nil {
			break
		}
	}
	last := progress()
	report(last)
	if n := m.store.Stats().Recalled; n > 0 && last.Left == 0 {
		return fmt.Errorf("%d sessions from the journal could not be compared with all nodes that may have them", n)
	}
	if last.Left > 0 && len(m.heirs(nil)) == 0 {
		return fmt.Errorf("%d sessions could not be handed over: no other node is linked", last.Left)
	}
	if last.Left > 0 && len(noRoom) > 0 {
		return fmt.Errorf("%d of %d sessions could not be handed over: no memory is left for them on %s (PEERSTATE_MAX_MEMORY)",
			last.Left, last.Left+last.Given, strings.Join(slices.Sorted(maps.Keys(noRoom)), ", "))
	}
	if last.Left > 0 {
		return fmt.Errorf("%d of %d sessions could not be handed over", last.Left, last.Left+last.Given)
	}
	return nil
}

// awaitCompared waits until it is known, as far as the nodes that are up can tell, which sessions from the journal are
// this node's to give: one that leaves promotes none.
func (m *Mesh) awaitCompared(ctx context.Context) {
	t := time.NewTimer(2 * m.config.Grace)
	defer t.Stop()
	select {
	case <-m.compared:
	case <-t.C:
	case <-ctx.Done():
	case <-m.ctx.Done():
	}
}

// takers are the links to nodes that have not refused a session just now.
func (m *Mesh) takers(full map[*link]time.Time) (links []*link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.byName() {
		if n.link != nil && !n.link.leaving.Load() && time.Since(full[n.link]) >= fullFor {
			links = append(links, n.link)
		}
	}
	return links
}

// heirs are the links over which sessions are given away: those of takers, or, where there is none, ways to
// nodes that are reached only through others.
func (m *Mesh) heirs(full map[*link]time.Time) []*link {
	links := m.takers(full)
	if len(links) > 0 {
		return links
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.byName() {
		if n.link == nil && n.far != nil && time.Since(full[n.far]) >= fullFor {
			links = append(links, n.far)
		}
	}
	return links
}

// mayLink: a node has been without a link for less than the grace time.
func (m *Mesh) mayLink() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.state == Connecting {
			return true
		}
	}
	return false
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
			in.last = got
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

// GoodBye tells the linked nodes, after Drain, that no session is left here, so that nobody waits for this
// node. It is for when no request comes in any more; sessions that came since Drain are handed over first.
// Nothing is said, and the error says why, if some are left.
func (m *Mesh) GoodBye(ctx context.Context) error {
	if err := m.Drain(ctx, func(DrainProgress) {}); err != nil {
		return err
	}
	// A session that was promoted here while its receiver was out is still to be settled.
	for range 100 {
		if m.store.Stats().Doubts == 0 || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	if n := m.store.Stats().Doubts; n > 0 {
		return fmt.Errorf("it is not known of %d sessions whether they have arrived", n)
	}
	m.flush(ctx)
	m.leave(ctx)
	var all sync.WaitGroup
	for _, l := range m.takers(nil) {
		all.Go(func() {
			l = l.latest()
			l.say(kindBye, bye{})
			if !l.alive(ctx) { // its pong comes after it has read the good-bye
				m.log.Warn("a node could not be told that this one leaves; it will wait for it", "peer", l.node.name)
			}
		})
	}
	all.Wait()
	return nil
}

// flush waits for a moment until the keepers of backups know what was deleted here.
func (m *Mesh) flush(ctx context.Context) {
	for range 50 {
		if m.store.Flushed() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// bye says that the sender stops: with kindLeave, that it hands over its sessions, takes none in, and will
// keep no backups; with kindBye, that it holds no session any more.
type bye struct{}

// leave takes another node's word that it stops. Others have to keep the backups that it has.
func (l *link) leave() {
	m := l.mesh
	l.leaving.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed()
}
