package store

import "slices"

// copies is what a holder knows of the backups of one session.
type copies struct {
	at []copyAt
	// since is when (monotonic ns) the oldest change was made that too few backups have; 0: enough have all.
	since int64
	// came is when (monotonic ns) this node became the holder, other than by creating the session.
	came int64
	wait chan struct{} // closed when something has become of a copy; made by who waits first
}

// copyAt is one keeper's copy.
type copyAt struct {
	out   *Outbox
	stamp Stamp // of the record that it has by its own word; 0: none
	// told is when that expires (monotonic ns) as far as it was told, 1 if never; 0: it does not know
	// that this node is the holder.
	told   int64
	wanted bool // otherwise it is to be forgotten, once enough others have one
	queued bool // it stands in the outbox, or is on its way
	placed bool // it is not in the journal yet
}

func (c *copies) find(o *Outbox) *copyAt {
	for i := range c.at {
		if c.at[i].out == o {
			return &c.at[i]
		}
	}
	return nil
}

// takePlaced tells whether there was one that is not in the journal yet. It counts as written now.
func (c *copies) takePlaced() (any bool) {
	for i := range c.at {
		any = any || c.at[i].placed
		c.at[i].placed = false
	}
	return any
}

// changed says that a session, or its deletion, is not what its backups are any more. The shard is locked.
func (st *Store) changed(s *session, now int64) {
	if st.backups == 0 {
		return
	}
	if s.copies == nil {
		if s.state == deleted {
			return // nobody has a copy of it
		}
		s.copies = new(copies)
	}
	if s.copies.since == 0 {
		s.copies.since = max(now, 1)
		st.unsafe.Add(1)
	}
	st.tend(s, now)
	if s.copies != nil {
		s.copies.takePlaced() // it is written down by whoever changed it
	}
}

// tended is tend for a session that has not changed itself: it is written down if it has got another keeper. The shard
// is locked.
func (st *Store) tended(sh *shard, s *session, now int64) {
	st.tend(s, now)
	if s.copies != nil && s.copies.takePlaced() {
		sh.disk.session(s)
	}
}

// tend sends a session to its keepers as far as they have not got it, chooses others where some cannot be
// reached, and has those forget it that need not have it. The shard is locked.
func (st *Store) tend(s *session, now int64) {
	switch s.state {
	case held:
		st.place(s, now)
	case deleted:
		st.spread(s)
	default:
		return
	}
	if s.copies != nil && s.copies.wait != nil {
		close(s.copies.wait)
		s.copies.wait = nil
	}
}

func (st *Store) place(s *session, now int64) {
	c, k := s.copies, st.keepers.Load()
	c.at = slices.DeleteFunc(c.at, func(a copyAt) bool { return a.out.gone.Load() && !a.queued })
	have, preferred := 0, 0
	count := func(a *copyAt) {
		have++
		if a.out.preferred.Load() {
			preferred++
		}
	}
	for i := range c.at {
		if a := &c.at[i]; a.wanted && st.sent(s, a) {
			count(a)
		}
	}
	for have < st.backups || preferred < min(st.backups, k.preferred) {
		o := k.next(s.key, c, now)
		if o == nil || have >= st.backups && !o.preferred.Load() {
			break
		}
		a := c.find(o)
		if a == nil {
			c.at = append(c.at, copyAt{out: o})
			a = &c.at[len(c.at)-1]
			a.placed = true
		}
		a.wanted = true
		if !st.sent(s, a) {
			break // it has just gone, and all are seen to again
		}
		count(a)
	}
	if !st.enough(c, s.stamp) {
		if c.since == 0 { // one that had it is gone
			c.since = max(now, 1)
			st.unsafe.Add(1)
		}
		return
	}
	if c.since != 0 {
		c.since = 0
		st.unsafe.Add(-1)
	}
	// One that cannot be reached has to be told later that it has an old copy.
	c.at = slices.DeleteFunc(c.at, func(a copyAt) bool {
		return !a.wanted && !a.queued && a.out.push(item{key: s.key, version: s.version()})
	})
}

// has tells whether the keeper has the record of a stamp, and knows who holds the session.
func (a *copyAt) has(stamp Stamp) bool { return a.stamp == stamp && a.told != 0 && !a.out.gone.Load() }

// sent tells whether a keeper has the session as it is, or will be sent it. The shard is locked.
func (st *Store) sent(s *session, a *copyAt) bool {
	if a.has(s.stamp) {
		return true
	}
	if !a.queued && !a.out.gone.Load() {
		a.queued = a.out.push(item{session: s, since: s.copies.since})
	}
	return a.queued
}

// enough tells whether as many keepers as there should be have the record of a stamp. If they have, those
// that have not are wanted no more, nor are those too many, the ones that are not preferred first. The
// shard is locked.
func (st *Store) enough(c *copies, stamp Stamp) bool {
	n := 0
	for i := range c.at {
		if a := &c.at[i]; a.wanted && a.has(stamp) {
			n++
		}
	}
	if n < st.backups {
		return false
	}
	for i := range c.at {
		a := &c.at[i]
		a.wanted = a.wanted && a.has(stamp)
	}
	for _, preferred := range []bool{false, true} {
		for i := len(c.at) - 1; i >= 0 && n > st.backups; i-- {
			if a := &c.at[i]; a.wanted && a.out.preferred.Load() == preferred {
				a.wanted = false
				n--
			}
		}
	}
	return true
}

// spread sends a deletion to all who have a copy of the session, as far as they can be reached. The others
// find out when they are linked again. The shard is locked.
func (st *Store) spread(s *session) {
	c := s.copies
	c.at = slices.DeleteFunc(c.at, func(a copyAt) bool { return a.stamp >= s.stamp && !a.queued })
	for i := range c.at {
		if a := &c.at[i]; !a.queued {
			a.queued = a.out.push(item{session: s, since: c.since})
		}
	}
	c.at = slices.DeleteFunc(c.at, func(a copyAt) bool { return !a.queued })
	if len(c.at) == 0 {
		st.dropCopies(s, false)
	}
}

// dropCopies ends this node's care for a session's backups; with tell, who has one is told to forget it.
// The shard is locked.
func (st *Store) dropCopies(s *session, tell bool) {
	c := s.copies
	if c == nil {
		return
	}
	s.superseded() // whatever becomes of it now, it does not know of that parcel any more
	s.copies = nil
	if c.since != 0 {
		st.unsafe.Add(-1)
	}
	if c.wait != nil {
		close(c.wait)
	}
	if !tell {
		return
	}
	for _, a := range c.at {
		a.out.push(item{key: s.key, version: s.version()}) // not linked: it lets it expire
	}
}

// inherit takes over what is known of a session's backups from the node that gave it: peers have a copy,
// the giver, if it is among them, of this very record. They are tended later. The shard is locked.
func (st *Store) inherit(s *session, r *Record, giver Peer, now int64) {
	if st.backups == 0 {
		return
	}
	st.dropCopies(s, false)
	c := &copies{came: now, since: max(now, 1)}
	s.copies = c
	st.unsafe.Add(1)
	known := st.keepers.Load().by
	for _, p := range r.Keepers {
		o := known[p.Node]
		if o == nil || o.Peer != p || c.find(o) != nil {
			continue
		}
		a := copyAt{out: o, stamp: r.Stamp, wanted: true} // to be renewed: it does not know who holds it now
		if p == giver {
			a.told = max(s.expires, 1)
		}
		c.at = append(c.at, a)
	}
}
