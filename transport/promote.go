package transport

import (
	"context"
	"slices"
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
		left, promoted := 0, 0
		vacant := map[store.Peer]bool{}
		m.store.EachBackup(func(all []store.Backup) bool {
			all = slices.DeleteFunc(all, func(b store.Backup) bool {
				v, known := vacant[b.Holder]
				if !known {
					v = m.vacant(b.Holder)
					vacant[b.Holder] = v
				}
				return !v
			})
			n := len(m.promoteBackups(m.ctx, all))
			left += n
			promoted += len(all) - n
			return m.ctx.Err() == nil
		})
		if promoted > 0 {
			m.log.Info("sessions of nodes that are gone are served from their backups, here or on another node", "sessions", promoted, "left", left)
		}
		if all && m.ctx.Err() == nil {
			m.sayCompared()
		}
		if left > 0 {
			again.Reset(pause)
		}
	}
}

// promoteBackups promotes what may be promoted of some backups, whose holders are gone. It gives those that
// have to be looked at again; of the others each is either held here now, or by another node, or has ended.
func (m *Mesh) promoteBackups(ctx context.Context, all []store.Backup) (left []store.Backup) {
	for len(all) > 0 {
		var batch []store.Holding
		for _, b := range all[:min(len(all), settleMost)] {
			batch = append(batch, store.Holding{Key: b.Key})
		}
		n := 0
		_ = batches(batch, func(some []store.Holding) error { // f gives no error
			left = append(left, m.promoteBatch(ctx, all[n:n+len(some)], some)...)
			n += len(some)
			return nil
		})
		all = all[n:]
	}
	return left
}

// promoteBatch is promoteBackups for as many as fit into a frame.
func (m *Mesh) promoteBatch(ctx context.Context, all []store.Backup, keys []store.Holding) (left []store.Backup) {
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
	answers := make([][]compared, len(links))
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
	for i, a := range said {
		peer := store.Peer{Node: links[i].node.name, Instance: links[i].instance}
		if a.ofUp {
			return false // it is there for that node: not gone, but cut off from here; or that one has not noticed yet
		}
		switch a.Kind {
		case store.SettleMine:
			if a.Version.Compare(b.Version) < 0 {
				older = true // it is settled below
				continue
			}
			if a.Version.Tombstone {
				m.store.DropBackup(b)
			} else {
				m.store.RelabelBackup(b, peer)
			}
			return true
		case store.SettleBusy:
			return false
		case store.SettleMoved:
			// Who received it has it, or has given it on, which raised the epoch. Otherwise it was asked before.
			to := by(a.Holder)
			if to != nil && to.Kind != store.SettleMine && to.Version.Epoch <= a.Version.Epoch {
				return false
			}
			if to == nil && b.Loaded && a.Version.Compare(b.Version) > 0 && m.mayReturn(a.Holder.Node) {
				return false // it may have been written there since
			}
		case store.SettleKept:
			if a.up && by(a.Holder) == nil && a.Holder.Node != m.me {
				return false // its holder is there for that node: not gone, but cut off from here
			}
			if c := a.Version.Compare(b.Version); c > 0 || c == 0 && m.goesFirst(peer.Node, b, a.Holder) {
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
	if m.repeats.first("promoted " + b.Holder.Node) {
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
	for _, name := range m.store.PlacesOf(b) {
		if !slices.ContainsFunc(asked, func(l *link) bool { return l.node.name == name }) && m.mayReturn(name) {
			return false
		}
	}
	return true
}

// mayReturn tells whether a node is known and not lost, drained or forgotten.
func (m *Mesh) mayReturn(name string) bool {
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
