package store

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"peerstate/store/journal"
)

// HandoverID names one attempt to hand one session over: the giver's instance and a running
// number. It is never used twice.
type HandoverID struct {
	Giver uint64
	N     uint64
}

// Handover is a session on its way to another node. The session is frozen: nothing changes it, and
// this node answers nothing about it, until the giver knows what became of it. Whoever sends it
// calls one of Received, Declined and Doubt, and after Doubt, Resolve.
type Handover struct {
	ID     HandoverID
	To     Peer
	Record Record // to be sent; it has no body any more after Doubt

	store   *Store
	retains bool // the giver keeps its copy as a backup
	// guarded by the shard's lock:
	doubtful bool // it may or may not have arrived
}

// freeze begins a hand-over. The shard is locked, the session held and unlocked.
func (st *Store) freeze(s *session, to Peer, now instant) *Handover {
	h := &Handover{
		ID: HandoverID{Giver: st.instance, N: st.handovers.Add(1)}, To: to,
		Record: s.record(now.mono), store: st,
	}
	if st.backups > 0 && !st.leaving.Load() && st.room.fitsBackup(st.room.backupOf(s.key, s.body), int64(len(s.body))) {
		h.retains = true
		h.Record.Keepers = append(h.Record.Keepers, Peer{st.node, st.instance})
	}
	if s.copies != nil {
		for _, a := range s.copies.at[:min(len(s.copies.at), maxKeepers-1)] {
			if a.stamp == s.stamp {
				h.Record.Keepers = append(h.Record.Keepers, a.out.Peer)
			}
		}
	}
	s.state, s.extra().handover = frozen, h
	st.shardOf(s.key).disk.session(s) // with the name of the node that may have it from now on
	return h
}

// thaw ends that the session is frozen for this hand-over, by calling f under the shard's lock. It gives false when it
// is not frozen for it any more: this node has promoted its copy meanwhile, or the hand-over has ended.
func (h *Handover) thaw(f func(sh *shard, s *session, now instant)) bool {
	st := h.store
	sh := st.shardOf(h.Record.Key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[h.Record.Key]
	if s == nil || s.busy == nil || s.busy.handover != h {
		return false
	}
	s.busy.handover = nil
	f(sh, s, now)
	st.serveTurns(sh, s, now)
	s.wake()
	s.idle()
	return true
}

// end is thaw for a hand-over of which it is known what became of it: it is not in doubt any more.
func (h *Handover) end(f func(sh *shard, s *session, now instant)) bool {
	return h.thaw(func(sh *shard, s *session, now instant) {
		f(sh, s, now)
		h.store.doubts.remove(h)
	})
}

// Received gives the session up: the receiver holds it. A note says where it went. It gives false
// when the word came too late and this node serves its own copy again: then the hand-over is among
// the Doubts, to be settled.
func (h *Handover) Received() bool {
	arrived := func(sh *shard, s *session, now instant) {
		kept := h.store.retain(sh, s, h, now)
		h.forgetOthers(s)
		h.store.leave(sh, s, h.To, s.epoch+1, now, kept)
	}
	if h.end(arrived) {
		return true
	}
	h.store.doubts.add(h)
	return false
}

// forgetOthers has those forget their copies of a session of whom its new holder was not told: what was on its way to them when it
// was frozen has arrived since, or they have an older record. The shard is locked.
func (h *Handover) forgetOthers(s *session) {
	if s.copies == nil {
		return
	}
	for _, a := range s.copies.at {
		if !a.queued && !slices.Contains(h.Record.Keepers, a.out.Peer) { // see Parcel.Kept
			a.out.push(item{key: s.key, version: s.version()}) // not linked: it lets it expire
		}
	}
}

// leave makes a session that is held or frozen here a note that another node has it, with an epoch
// that is no higher than it has there. The note is written down when the copy that is kept here is on disk, whose mark
// is given; 0: none is kept. The shard is locked.
func (st *Store) leave(sh *shard, s *session, to Peer, epoch uint64, now instant, kept journal.Mark) {
	st.dropCopies(s, false)
	sh.drop(s)
	s.state, s.extra().to, s.epoch = moved, to, epoch
	sh.owe(s, to.Node)
	sh.note(s.key, EventGiven, to.Node, now.mono)
	s.expires = now.mono + max(int64(movedNote), 4*int64(st.fetchTimeout))
	sh.disk.sessionAfter(kept, s)
}

// to is who holds a session that has arrived, by the word of its receiver.
func (h *Handover) to(f Fate) Peer {
	if f.Node == "" || f.Node == h.To.Node {
		return h.To
	}
	return Peer{Node: f.Node}
}

// back makes a frozen session held again; false: it was received, and written, and there is a backup of that
// here. The shard is locked.
func (st *Store) back(sh *shard, s *session, now instant) bool {
	if b := sh.backup(s.key, now.mono); b != nil && b.version().Compare(s.version()) > 0 {
		st.leave(sh, s, b.holder, b.epoch, now, 0)
		return false
	}
	s.state = held
	if s.expires != 0 && s.expires <= now.mono {
		s.renew(now.mono) // a frozen session does not expire
	}
	if s.copies != nil {
		st.tended(sh, s, now.mono)
	}
	return true
}

// Declined ends a hand-over that the receiver did not take. With a version, the receiver knows of
// that record of the session, which is no older: the copy here is stale and dropped.
func (h *Handover) Declined(v Version) {
	h.end(func(sh *shard, s *session, now instant) {
		if h.store.back(sh, s, now) && v != (Version{}) && s.version().Compare(v) <= 0 {
			h.store.conflict(sh, s, h.To.Node, v, now)
		}
	})
}

// conflict drops a held session because another node has a newer record of it. The shard is locked.
func (st *Store) conflict(sh *shard, s *session, node string, v Version, now instant) {
	st.conflicts.Add(1)
	sh.note(s.key, EventOutdated, node, now.mono)
	if st.lines.Allow() {
		st.log.Warn("two nodes had a copy of one session; the older one, which is here, is dropped",
			"session", KeyHash(s.key), "peer", node, "stamp", uint64(s.stamp), "newer", uint64(v.Stamp))
	}
	if v.Tombstone {
		st.bury(sh, s, v.Stamp, now.mono)
		sh.owe(s, node)
		return
	}
	st.dropCopies(s, true)
	st.leave(sh, s, Peer{Node: node}, v.Epoch, now, 0)
	// The note is of that record: one that was dropped for being empty may have the later stamp, and a note with it
	// would keep the session from ever coming here.
	s.stamp, s.deleted, s.flags = v.Stamp, max(s.deleted, v.Deleted), s.flags&^FlagUninitialized
	if v.Uninitialized {
		s.flags |= FlagUninitialized
	}
	sh.disk.session(s)
	s.wake()
}

// Doubt says that it is not known whether the session arrived. It stays frozen until Resolve.
func (h *Handover) Doubt() {
	st := h.store
	sh := st.shardOf(h.Record.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h.Record.Body = nil // the session has it still
	h.doubtful = true
	st.doubts.add(h)
	if s := sh.sessions[h.Record.Key]; s != nil && s.busy != nil && s.busy.handover == h {
		s.wake() // those who wait are told that it is not known
	}
}

// FateKind is what the receiver of a hand-over says became of it.
type FateKind uint8

// The fates of a hand-over.
const (
	// NotReceived binds this instance of the receiver: it refuses that id ever after.
	NotReceived FateKind = iota
	Kept                 // received, and the session is there
	PassedOn             // received, and given to another node since
	Buried               // received, and deleted since
	Lost                 // received, and gone since: expired, or dropped
	Unsaid               // no answer: it is to be asked again
)

// Fate is the receiver's answer to a giver in doubt.
type Fate struct {
	Kind    FateKind
	Version Version // Kept, Buried
	Node    string  // PassedOn: to whom; otherwise who says so, where that is not the receiver
}

// Resolve ends the doubt by the word of the receiver, which instance gave. Where two nodes may hold
// the session by now, it gives the name of the other one, otherwise "". Then all nodes have to settle:
// this node and that one may each have given its copy on, and have got another one since.
func (h *Handover) Resolve(f Fate, instance uint64) (settle string) {
	ended := h.end(func(sh *shard, s *session, now instant) {
		switch f.Kind {
		case Kept, PassedOn, Lost:
			var kept journal.Mark
			if f.Kind != Lost {
				kept = h.store.retain(sh, s, h, now)
			}
			h.forgetOthers(s)
			// Lost as well: the receiver had it, and it ended there or went so far on that the note
			// is gone. Served from this copy, an expired session would come back, or a second one begin.
			h.store.leave(sh, s, h.to(f), s.epoch+1, now, kept)
		case Buried:
			h.store.bury(sh, s, max(f.Version.Stamp, s.stamp), now.mono)
		case NotReceived:
			if instance == h.To.Instance {
				h.store.back(sh, s, now)
			} else {
				h.store.promote(sh, s, now) // it may have been received by a run that is over
			}
		}
	})
	if ended {
		return ""
	}
	h.store.doubts.remove(h)
	switch {
	case f.Kind == NotReceived || f.Kind == Lost:
		return "" // nobody else has it
	case f.Node == h.store.node:
		return h.To.Node // what was received has come back here; what was promoted may have gone on
	}
	return cmp.Or(f.Node, h.To.Node)
}

// promote makes this node the holder of a session again whose last holder may have given locks
// that this copy does not know of: the cookie counter is raised far enough that none of their
// cookies is given again, and what comes with one of those is no longer taken. The shard is locked.
func (st *Store) promote(sh *shard, s *session, now instant) {
	if !st.back(sh, s, now) {
		return
	}
	s.epoch++
	sh.note(s.key, EventTakenBack, "", now.mono)
	s.raise(st.jump(s.key, now))
	s.floor, s.touched = s.cookie, false
	if s.copies != nil {
		s.copies.came = now.mono
	}
	sh.disk.session(s)
}

// Promote serves a session here again that was on its way to a node which is out, unless it has been
// before. The hand-over stays in doubt, to be settled when the node comes back.
func (h *Handover) Promote() {
	if h.thaw(h.store.promote) {
		h.store.log.Warn("a session was on its way to a node that is gone; it is served here again",
			"peer", h.To.Node, "session", KeyHash(h.Record.Key))
	}
}

// Doubts are the hand-overs to a node of which it is not known whether they arrived, the oldest first.
func (st *Store) Doubts(node string) []*Handover { return st.doubts.of(node) }

// InDoubt names the nodes to which there are hand-overs in doubt.
func (st *Store) InDoubt() []string { return st.doubts.nodes() }

// doubts are hand-overs in doubt, by receiver.
type doubts struct {
	mu sync.Mutex
	by map[string]map[*Handover]struct{}
}

func (d *doubts) add(h *Handover) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil {
		d.by = map[string]map[*Handover]struct{}{}
	}
	if d.by[h.To.Node] == nil {
		d.by[h.To.Node] = map[*Handover]struct{}{}
	}
	d.by[h.To.Node][h] = struct{}{}
}

func (d *doubts) remove(h *Handover) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.by[h.To.Node], h)
}

func (d *doubts) of(node string) []*Handover {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Keys(d.by[node]), func(a, b *Handover) int {
		return int(a.ID.N) - int(b.ID.N)
	})
}

func (d *doubts) nodes() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, hs := range d.by {
		if len(hs) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (d *doubts) count() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, hs := range d.by {
		n += len(hs)
	}
	return n
}
