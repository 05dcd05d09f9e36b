package store

import (
	"cmp"
	"runtime"
	"sync"
	"time"

	"peerstate/store/journal"
)

// Receipt is what the receiver of a hand-over answers.
type Receipt struct {
	Accepted bool
	Version  Version // not accepted: the record known here that is no older; zero: none, it was refused
	Full     bool    // refused, as there is no memory for it: it is to stay where it is

	// Accepted, see Forced:
	mark journal.Mark
	only bool // nobody else has a copy, when the giver lets its own go
}

// And is a receipt that Forced waits for as it would for both.
func (r Receipt) And(o Receipt) Receipt {
	r.mark, r.only = max(r.mark, o.mark), r.only || o.only
	return r
}

// farAhead is how far a stamp may be ahead of this node's clock without being counted and logged.
const farAhead = time.Minute

// Receive takes a session over, unless what is known of it here is at least as new, or this
// hand-over was refused before, or another one of the session is under way from here, or there is no memory. The record
// has been checked.
func (st *Store) Receive(from Peer, id HandoverID, rec Record) Receipt {
	return st.receive(from, id, rec, asideFetched)
}

// Adopt is Receive for a session that nobody asks for here: its node leaves, and gives it away.
func (st *Store) Adopt(from Peer, id HandoverID, rec Record) Receipt {
	return st.receive(from, id, rec, asideGiven)
}

// receive takes a session over if that leaves a part of the memory free.
func (st *Store) receive(from Peer, id HandoverID, rec Record, part int64) Receipt {
	got := st.receiveOnce(from, id, rec, part)
	if got.Full && st.clear() {
		got = st.receiveOnce(from, id, rec, part)
	}
	if got.Full {
		st.Refuse(RefusedHandover, int64(len(rec.Body)))
	}
	return got
}

func (st *Store) receiveOnce(from Peer, id HandoverID, rec Record, part int64) Receipt {
	sh := st.shardOf(rec.Key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[rec.Key]
	if s != nil && s.expired(now.mono) {
		st.expire(sh, s)
		s = sh.sessions[rec.Key]
	}
	if st.leaving.Load() || st.receipts.refuses(id) || s != nil && s.state == frozen {
		return Receipt{}
	}
	if s != nil && s.outdates(&rec) {
		if s.state == held {
			st.conflicts.Add(1)
			if st.lines.Allow() {
				st.log.Warn("two nodes had a copy of one session; the older one is dropped",
					"session", KeyHash(s.key), "peer", from.Node, "stamp", uint64(rec.Stamp), "newer", uint64(s.stamp))
			}
		}
		return Receipt{Version: s.version()}
	}
	b := sh.backup(rec.Key, now.mono)
	if b != nil {
		if v := b.version(); v.Compare(rec.Version()) > 0 {
			return Receipt{Version: v} // what a node had that is gone is newer; it is promoted when its turn comes
		}
	}
	if !st.room.fits(st.room.moreWith(&rec, s, b), rec.Counted, part) {
		return Receipt{Full: true}
	}
	if b != nil {
		sh.takeBackup(b)
	}
	st.receipts.accept(id, now.mono)
	if rec.Stamp > Stamp(now.wall+st.clockOffset.Load()+int64(farAhead)) {
		st.ahead.Add(1)
		if st.lines.Allow() {
			st.log.Warn("a session came whose last write is far ahead of this node's clock; check the clocks of both machines",
				"peer", from.Node, "session", KeyHash(rec.Key), "ahead", time.Duration(int64(rec.Stamp)-now.wall-st.clockOffset.Load()).Round(time.Second))
		}
	}
	if s == nil {
		s = &session{key: rec.Key}
		sh.put(s)
	}
	double := s.state == held
	if double {
		st.conflict(sh, s, from.Node, rec.Version(), now)
	}
	s.take(&rec, now.mono)
	if double {
		// Locks that the older copy gave here are void.
		s.raise(st.jump(s.key, now))
		s.floor, s.touched = s.cookie, true
	}
	if s.busy != nil {
		s.busy.to, s.busy.promises = Peer{}, nil
	}
	sh.hold(s)
	sh.note(s.key, EventCame, from.Node, now.mono)
	if st.inherit(s, &rec, from, now.mono); s.copies != nil {
		st.tend(s, now.mono)
	}
	if b != nil && !b.own {
		s.saved = standsAsBackup // until this is on disk
	}
	mark := sh.disk.session(s)
	if s.busy == nil || len(s.busy.turns) == 0 {
		s.extra().stays = now.mono + int64(pollEvery)
	}
	if s.busy.inquiry != nil {
		st.end(sh, s, Verdict{Outcome: Arrived})
	}
	st.serveTurns(sh, s, now)
	s.wake()
	s.idle()
	return Receipt{Accepted: true, mark: mark, only: len(rec.Keepers) == 0}
}

// moreWith is how much more is counted when a record comes in, of whose key s and a backup b are known, or nil.
func (m *room) moreWith(rec *Record, s *session, b *backup) int64 {
	more := int64(len(rec.Body))
	if s == nil {
		more += m.entryOf(rec.Key)
	} else if s.state == held {
		more -= int64(len(s.body))
	}
	if b != nil {
		more -= m.backupOf(b.key, b.body)
	}
	return more
}

// outdates: a record is no newer than what is known of its key here, and its giver is to drop it.
func (s *session) outdates(rec *Record) bool {
	mine, theirs := s.version(), rec.Version()
	switch s.state {
	case held, deleted:
		return mine.Compare(theirs) >= 0
	case moved:
		// This node gave a later record away, which is found where it went. But a note is no session:
		// it does not win from an empty one, which may have been created since that one ended, nor from what a
		// client has written if it is itself of an empty one. What comes back from there is at least as new as the note.
		return cmp.Or(cmp.Compare(mine.Stamp, theirs.Stamp), cmp.Compare(mine.Epoch, theirs.Epoch)) > 0 && mine.Compare(theirs) > 0
	}
	return false
}

// Settled says that the giver has given the session up: nobody will ask about this hand-over.
func (st *Store) Settled(id HandoverID) { st.receipts.settle(id) }

// FateOf answers a giver in doubt. NotReceived is a promise: Receive refuses that id from now on. Unsaid: too many
// promises were made to that giver, and it has to ask again.
func (st *Store) FateOf(id HandoverID, key string) Fate {
	sh := st.shardOf(key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch received, promised := st.receipts.received(id, now.mono); {
	case promised:
		return Fate{Kind: NotReceived}
	case !received:
		return Fate{Kind: Unsaid}
	}
	s := sh.sessions[key]
	if s == nil || s.expired(now.mono) {
		return Fate{Kind: Lost}
	}
	switch s.state {
	case held, frozen:
		return Fate{Kind: Kept, Version: s.version()}
	case moved:
		return Fate{Kind: PassedOn, Node: s.busy.to.Node}
	case deleted:
		return Fate{Kind: Buried, Version: s.version()}
	}
	return Fate{Kind: Lost}
}

const (
	// refusedFor is how long a refusal is remembered. A hand-over that was not known when its giver
	// asked can only come in on a connection which was open then, and none is kept that long
	// without a sign that the transfer goes on.
	refusedFor = int64(time.Hour)
	// receivedFor is how long a hand-over is remembered whose giver never said that he knows.
	receivedFor = 24 * int64(time.Hour)
	// boundMost bounds how many refusals are remembered for one run of a giver: it has a few thousand hand-overs
	// under way at most, and loses their receipts when a link breaks, which takes seconds to be noticed.
	boundMost = 1 << 16
	// takenMost bounds how many hand-overs of one run of a giver are remembered whose end it has not told: a node
	// that stops gives all its sessions, a million or two, and tells the end of them all at once. Each takes some 50 bytes.
	takenMost = 1 << 22
)

// receipts remembers which hand-overs were taken and which refused, until their giver knows.
type receipts struct {
	mu     sync.Mutex
	taken  map[HandoverID]int64 // when, monotonic ns
	bound  map[HandoverID]int64
	givers map[uint64]entries // by the giver's run
	aged   int64              // when it was looked through last, monotonic ns
}

// entries are how many are remembered for one giver.
type entries struct{ taken, bound int }

func newReceipts() *receipts {
	return &receipts{taken: map[HandoverID]int64{}, bound: map[HandoverID]int64{}, givers: map[uint64]entries{}}
}

// count notes that a giver has more or fewer entries. r.mu is held.
func (r *receipts) count(giver uint64, taken, bound int) {
	n := r.givers[giver]
	n.taken += taken
	n.bound += bound
	if n == (entries{}) {
		delete(r.givers, giver)
		return
	}
	r.givers[giver] = n
}

func (r *receipts) accept(id HandoverID, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.taken[id]; !ok {
		r.count(id.Giver, 1, 0)
	}
	r.taken[id] = now
}

// refuses tells whether a hand-over is not to be taken in: its giver was promised so, or leaves too many open.
func (r *receipts) refuses(id HandoverID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, refused := r.bound[id]
	return refused || r.givers[id.Giver].taken >= takenMost
}

// received tells whether a hand-over was taken in, or else promises that it will not be, if there is room for that.
func (r *receipts) received(id HandoverID, now int64) (received, promised bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.taken[id]; ok {
		return true, false
	}
	if _, ok := r.bound[id]; !ok {
		if r.givers[id.Giver].bound >= boundMost {
			return false, false
		}
		r.count(id.Giver, 0, 1)
	}
	r.bound[id] = now
	return false, true
}

func (r *receipts) settle(id HandoverID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.taken[id]; ok {
		delete(r.taken, id)
		r.count(id.Giver, -1, 0)
	}
}

// ageEvery is how often receipts are looked through, and ageChunk how many at a time: while a node gives a million sessions
// away, there are as many of its receipts.
const (
	ageEvery = int64(time.Minute)
	ageChunk = 1 << 10
)

// age lets go what has been remembered for long enough.
func (r *receipts) age(now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now-r.aged < ageEvery {
		return
	}
	r.aged = now
	seen := 0
	letIn := func() {
		if seen++; seen%ageChunk == 0 {
			r.mu.Unlock()
			runtime.Gosched()
			r.mu.Lock()
		}
	}
	for id, at := range r.taken {
		if now-at > receivedFor {
			delete(r.taken, id)
			r.count(id.Giver, -1, 0)
		}
		letIn()
	}
	for id, at := range r.bound {
		if now-at > refusedFor {
			delete(r.bound, id)
			r.count(id.Giver, 0, -1)
		}
		letIn()
	}
}
