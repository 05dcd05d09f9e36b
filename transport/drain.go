package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

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
