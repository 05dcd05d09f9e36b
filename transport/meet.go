package transport

import (
	"slices"
	"time"

	"peerstate/store"
)

// When a node is up that was not, linked or through others, each of the two tells the other which sessions it has used, deleted or taken
// over meanwhile, many in a frame, and what both hold is settled. So two sides of a farm that was cut in
// two are one again within a second, and what one of them has deleted does not come back from the other.

const (
	// meetMargin is how much earlier than a link's end the two may have gone different ways: it is noticed
	// late.
	meetMargin = 15 * time.Second
	// meetAtOnce is how many frames are under way at a time.
	meetAtOnce = 8
	forever    = time.Duration(1<<63 - 1)
)

// meet compares what both hold over a link, until that has been done or the link has ended.
func (m *Mesh) meet(l *link) {
	for m.ctx.Err() == nil {
		m.mu.Lock()
		n := l.node
		if n.way() != l || n.met {
			m.mu.Unlock()
			return
		}
		d := forever
		if !n.apart.IsZero() {
			d = time.Since(n.apart) + meetMargin
		}
		parted := n.parted
		needless := n.apart.IsZero() && !l.holds && !m.unsure && !m.store.Recalled()
		m.mu.Unlock()
		var err error
		if !needless {
			err = m.compareAll(l, d)
		}
		if err == nil {
			err = m.verifyBackups(l)
		}
		if err == nil {
			m.mu.Lock()
			if n.way() != nil && n.parted == parted {
				n.met = true
				m.changed()
			}
			m.mu.Unlock()
			m.reviewSoon()
			return
		}
		m.log.Debug("sessions could not be compared with a node; it is tried again", "peer", l.node.name, "error", err)
		select {
		case <-m.ctx.Done():
		case <-l.ended():
			return
		case <-time.After(time.Second):
		}
	}
}

// compareAll tells the other side what this node has used in the last d, and settles what both have.
func (m *Mesh) compareAll(l *link, d time.Duration) error {
	compared := 0
	each := func(f func([]store.Holding) bool) {
		m.store.Holdings(d, func(some []store.Holding) bool {
			compared += len(some)
			select {
			case <-l.ended():
				return false
			default:
				return f(some)
			}
		})
	}
	err := inFrames(each, func(h store.Holding) string { return h.Key }, func(batch []store.Holding) error { return m.compareBatch(l, batch) })
	if err == nil && compared > 0 {
		m.log.Debug("sessions have been compared with a node", "peer", l.node.name, "sessions", compared)
	}
	return err
}

// compareBatch is compareAll for what fits into a frame.
func (m *Mesh) compareBatch(l *link, batch []store.Holding) error {
	answers, err := m.compare(m.ctx, l, m.me, batch, nil)
	if err != nil {
		return err
	}
	for i, a := range answers {
		key := batch[i].Key
		alone := false // it has to be settled with all nodes
		switch a.Kind {
		case store.SettleMine:
			mine := m.store.Settle(key, a.Version, l.node.name)
			alone = mine.Kind == store.SettleMine || mine.Kind == store.SettleBusy
		case store.SettleBusy:
			alone = true
		case store.SettleMoved:
			alone = a.Node != m.me
		}
		if alone {
			m.settleSoon(key)
		}
	}
	return nil
}

// verifyBackups asks the other side for the sessions of which this node has backups in its name: it may have
// ended some that it could not say so of.
func (m *Mesh) verifyBackups(l *link) error {
	holder := store.Peer{Node: l.node.name, Instance: l.instance}
	its := func(f func([]store.Backup) bool) {
		m.store.EachBackup(func(some []store.Backup) bool {
			return f(slices.DeleteFunc(some, func(b store.Backup) bool { return b.Holder != holder }))
		})
	}
	return inFrames(its, keyOfBackup, func(batch []store.Backup) error {
		answers, err := m.compare(m.ctx, l, "", toAsk(batch), nil)
		if err != nil {
			return err
		}
		for i, a := range answers {
			// It does not know of a copy that was loaded, and would not say when the session ends; it makes its own.
			if batch[i].Loaded && a.Kind != store.SettleBusy || a.Kind == store.SettleNone ||
				a.Kind == store.SettleMine && a.Version.Tombstone && a.Version.Compare(batch[i].Version) >= 0 {
				m.store.DropBackup(batch[i])
			}
		}
		return nil
	})
}

// toAsk is what is asked of the sessions of some backups.
func toAsk(all []store.Backup) (keys []store.Holding) {
	for _, b := range all {
		keys = append(keys, store.Holding{Key: b.Key})
	}
	return keys
}

// watchPauses has everything compared when the store says that this process has stood still, and tells it
// when that is done. It is called every second.
func (m *Mesh) watchPauses() {
	sure := m.store.Sure()
	m.mu.Lock()
	begin := !sure && !m.unsure
	m.unsure = !sure
	done := true
	var links []*link
	for _, n := range m.nodes {
		if begin {
			n.met, n.apart = false, time.Time{}
			n.parted++
		}
		way := n.way()
		if way != nil {
			links = append(links, way)
		}
		done = done && (way != nil && n.met || way == nil && n.state != Connecting)
	}
	m.mu.Unlock()
	switch {
	case sure:
	case begin:
		for _, l := range links {
			m.start(func() { m.meet(l) })
		}
	case done:
		m.store.Compared()
	}
}
