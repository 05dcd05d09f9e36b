package transport

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"peerstate/store"
)

// A backup becomes the session only when nobody can be holding that any more: its holder is out, or has come
// back in a new run, or was forgotten; every node that is up has said that it does not hold it; and no node
// is just on the way between up and out. Of several who have one, the newest is promoted, and of equal
// ones that of the node which comes first in the session's order of keepers (store.Rank).
//
// What a node has loaded from its journal is promoted in the same way, its own sessions as those of its run that is
// over. But nobody knows of these copies, and there may be newer ones: so each node that had the session
// or a copy when it was written down is waited for, until it is asked or gone for good.

// reviewPause is how long backups that could not be promoted wait for another look. It doubles each time.
const (
	reviewPause = time.Second
	reviewMost  = 30 * time.Second
)

// vacant tells whether nobody can hold sessions by the right of a holder any more.
func (m *Mesh) vacant(h store.Peer) bool {
	if h.Node == m.me {
		return h.Instance != m.config.Instance
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[h.Node]
	switch {
	case n == nil:
		return true // forgotten
	case n.way() != nil:
		return n.way().instance != h.Instance
	}
	return n.state == Out || n.gone()
}

// reviewSoon has the backups that are here looked at: a node has gone, or has come back.
func (m *Mesh) reviewSoon() {
	select {
	case m.review <- struct{}{}:
	default: // they will be
	}
}

// reviewBackups promotes the backups of holders that are gone, without waiting for somebody who asks, so
// that there are soon enough copies again.
func (m *Mesh) reviewBackups() {
	pause := reviewPause
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		select {
		case <-m.review:
			pause = reviewPause
		case <-again.C:
			pause = min(2*pause, reviewMost)
		case <-m.ctx.Done():
			return
		}
		all := m.allMet()
		vacant := map[store.Peer]bool{}
		left, promoted := m.promoteEach(m.ctx, func(f func([]store.Backup) bool) {
			m.store.EachBackup(func(all []store.Backup) bool {
				return m.ctx.Err() == nil && f(slices.DeleteFunc(all, func(b store.Backup) bool {
					v, known := vacant[b.Holder]
					if !known {
						v = m.vacant(b.Holder)
						vacant[b.Holder] = v
					}
					return !v
				}))
			})
		})
		if promoted > 0 {
			m.log.Info("sessions of earlier runs, or of nodes that are gone, have been compared; they are served here or on another node",
				"sessions", promoted, "left", left)
		}
		if all && m.ctx.Err() == nil {
			m.sayCompared()
		}
		if left > 0 {
			again.Reset(pause)
		}
	}
}

// promoteEach promotes what may be promoted of the backups that each gives, whose holders are gone. It counts those that
// have to be looked at again; of the others each is either held here now, or by another node, or has ended.
func (m *Mesh) promoteEach(ctx context.Context, each func(func([]store.Backup) bool)) (left, done int) {
	var waiting, settled atomic.Int64
	_ = inFrames(each, keyOfBackup, func(some []store.Backup) error { // it gives no error
		n := len(m.promoteBatch(ctx, some))
		waiting.Add(int64(n))
		settled.Add(int64(len(some) - n))
		return nil
	})
	return int(waiting.Load()), int(settled.Load())
}

func keyOfBackup(b store.Backup) string { return b.Key }

// promoteNow is promoteEach for one backup that is asked for; false: it has to be looked at again.
func (m *Mesh) promoteNow(ctx context.Context, b store.Backup) bool {
	return len(m.promoteBatch(ctx, []store.Backup{b})) == 0
}

// promoteBatch is promoteEach for as many as fit into a frame. It gives those that have to be looked at again.
func (m *Mesh) promoteBatch(ctx context.Context, all []store.Backup) (left []store.Backup) {
	m.mu.Lock()
	var links []*link
	for _, n := range m.nodes {
		switch {
		case n.way() != nil:
			links = append(links, n.way())
		case n.state != Out && !n.gone():
			m.mu.Unlock()
			return all // it may be up in a moment, and hold them
		}
	}
	m.mu.Unlock()
	of := make([]peerRef, len(all))
	for i, b := range all {
		of[i] = peerRef(b.Holder)
	}
	answers, keys := make([][]compared, len(links)), toAsk(all)
	asked, ctx := errgroup.WithContext(ctx)
	for i, l := range links {
		asked.Go(func() (err error) {
			answers[i], err = m.compare(ctx, l, "", keys, of)
			return err
		})
	}
	if err := asked.Wait(); err != nil {
		m.log.Debug("a node could not be asked for sessions whose holder is gone", "error", err)
		return all
	}
	for i, b := range all {
		var said []compared
		for j := range links {
			said = append(said, answers[j][i])
		}
		if !m.promoteOne(b, links, said) {
			left = append(left, b)
		}
	}
	return left
}

// promoteOne decides about one backup by what all nodes that are up have said; false: it is to be looked at again.
func (m *Mesh) promoteOne(b store.Backup, links []*link, said []compared) bool {
	older := false
	if b.Loaded && !m.allSettled(b, links) {
		return false
	}
	by := func(p store.Peer) *compared {
		for i, l := range links {
			if l.node.name == p.Node && l.instance == p.Instance {
				return &said[i]
			}
		}
		return nil
	}
	for _, a := range said {
		if a.ofUp {
			return false // it is there for that node: not gone, but cut off from here; or that one has not noticed yet
		}
	}
	for i, a := range said { // before what others say of copies: that may be a copy of this one's
		switch {
		case a.Kind != store.SettleMine:
		case a.Version.Compare(b.Version) < 0:
			older = true // it is settled below
		case a.Version.Tombstone:
			m.store.DropBackup(b)
			return true
		default:
			m.store.RelabelBackup(b, store.Peer{Node: links[i].node.name, Instance: links[i].instance})
			return true
		}
	}
	for i, a := range said {
		switch a.Kind {
		case store.SettleBusy:
			return false
		case store.SettleMoved:
			// Who received it has it, or has given it on, which raised the epoch. Otherwise it was asked before.
			to := by(a.Holder)
			if to != nil && to.Kind != store.SettleMine && to.Version.Epoch <= a.Version.Epoch {
				return false
			}
			if a.Version.Compare(b.Version) > 0 && m.expects(a.Holder.Node, links) {
				return false // it is newer there, and may come back
			}
		case store.SettleKept:
			if a.up && by(a.Holder) == nil && a.Holder.Node != m.me {
				return false // its holder is there for that node: not gone, but cut off from here
			}
			if c := a.Version.Compare(b.Version); c > 0 || c == 0 && m.goesFirst(links[i].node.name, b, a.Holder) {
				return false // that one promotes it
			}
		}
	}
	if !m.store.PromoteBackup(b) {
		// What is known here has changed meanwhile; or nothing has, and this node takes no session in: it leaves.
		same, ok := m.store.BackupOf(b.Key)
		return !ok || same != b
	}
	m.metrics.backup(incoming, "promoted")
	if b.Holder.Node != m.me && m.repeats.first("promoted "+b.Holder.Node) {
		m.log.Warn("sessions of a node that is gone are served from their backups here", "peer", b.Holder.Node)
	}
	if older {
		m.start(func() { m.settleSoon(b.Key) })
	}
	return true
}

// goesFirst tells whether of two equal copies, one of which is here, that of another node is promoted: what comes from
// the journal of the node that held the session goes first, and then the session's order of keepers. holder is whose
// session the other copy is.
func (m *Mesh) goesFirst(other string, b store.Backup, holder store.Peer) bool {
	switch {
	case b.Holder.Node == m.me:
		return false
	case holder.Node == other:
		return true
	}
	return store.Rank(b.Key, other) > store.Rank(b.Key, m.me)
}

// allSettled tells whether each node that may have had a session since it was written to this node's journal is among
// those that were asked, or is gone for good.
func (m *Mesh) allSettled(b store.Backup, asked []*link) bool {
	return !slices.ContainsFunc(m.store.PlacesOf(b), func(name string) bool { return m.expects(name, asked) })
}

// expects tells whether a node was not asked, and may yet come back: it is known and not lost, drained or forgotten.
func (m *Mesh) expects(name string, asked []*link) bool {
	if slices.ContainsFunc(asked, func(l *link) bool { return l.node.name == name }) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	return n != nil && !n.gone()
}

// Compared is closed when what the store has loaded from its journal has been compared with all nodes that are up, each
// that was known being up or out by then. What waits longer waits for nodes that are not up.
func (m *Mesh) Compared() <-chan struct{} { return m.compared }

// sayCompared is called by the goroutine that reviews backups.
func (m *Mesh) sayCompared() {
	select {
	case <-m.compared:
	default:
		s := m.store.Stats()
		m.log.Info("what the journal had has been compared with the nodes that are up", "sessions", s.Active, "waiting", s.Recalled)
		close(m.compared)
	}
}

// allMet tells whether both sides know what both hold, of all nodes that were known and are not out.
func (m *Mesh) allMet() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.way() != nil && !n.met {
			return false
		}
	}
	return m.hasJoined()
}
