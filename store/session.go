package store

import (
	"time"

	"peerstate/store/journal"
)

// state says what the store knows of a key.
type state uint8

const (
	// absent: nothing is known, but something is under way (a question, a promise to another node).
	absent state = iota
	// held: this node is the session's holder.
	held
	// frozen: held, and on its way to another node. Nothing but the hand-over's end changes it.
	frozen
	// moved: given to the node in busy.to. A note for questions that come late.
	moved
	// deleted: a deletion, remembered so that an older copy elsewhere cannot bring the session back.
	deleted
)

// session is what the store knows of one key. Its shard's mutex guards every field. A million of
// them are normal, so what few of them need at a time stands in busy.
type session struct {
	key      string
	body     []byte // immutable once stored
	stamp    Stamp
	deleted  Stamp  // the key's last deletion, or the record that Undo has taken back
	epoch    uint64 // see Version
	expires  int64  // monotonic ns; 0: never
	lockedAt int64  // monotonic ns
	timeout  int32  // minutes; 0: never expires
	flags    int32
	cookie   int32 // the last lock's cookie: only ever rises
	lock     int32 // cookie of the lock that is held; 0: unlocked
	// floor is the counter's value after cookies were raised because a lock may have died with
	// another copy of this session; 0: they never were. touched: locked or written since. See also jump.
	floor   int32
	state   state
	touched bool
	// whose: of a note, for whom it is remembered, a number of claims; 0: for nobody in particular. Of a session that is held here, the
	// TCP port of the client that had its lock last; 0: not known.
	whose  uint16
	saved  int32         // expires in seconds, as the journal has it; standsAsBackup
	place  journal.Place // where the journal has it
	busy   *busy
	copies *copies // of a session, or a deletion, that others keep backups of
}

// busy is the part of a session that only those on the move need.
type busy struct {
	inquiry  *inquiry
	handover *Handover
	to       Peer    // moved: the node that it was given to; the run is 0 where it is not known
	turns    []*turn // who waits for it, in the order of arrival
	// stays: a session that was fetched for nobody who still waits does not move on before that
	// (monotonic ns), unless a request has found it.
	stays int64
	// promises: nodes that are about to create the key and were told that it is missing here.
	promises map[Peer]promise
	// changed is closed when the session comes, goes or ends. Made by who waits first.
	changed chan struct{}
}

// promise is to which question of a node it was given, and until when (monotonic ns) that is remembered.
type promise struct {
	inquiry uint64
	until   int64
}

// promised is until when a promise counts.
func (b *busy) promised() (until int64) {
	for _, p := range b.promises {
		until = max(until, p.until)
	}
	return until
}

func (s *session) version() Version {
	return Version{
		Stamp:         s.stamp,
		Epoch:         s.epoch,
		Deleted:       s.deleted,
		Tombstone:     s.state == deleted,
		Uninitialized: s.state != deleted && s.flags&FlagUninitialized != 0,
	}
}

// expired: frozen sessions do not expire, the others do when their time is over.
func (s *session) expired(now int64) bool {
	return s.state != frozen && s.expires != 0 && now >= s.expires
}

func (s *session) renew(now int64) { s.expires = deadline(now, s.timeout) }

// deadline is when something with a timeout in minutes ends if nobody asks for it any more.
func deadline(now int64, minutes int32) int64 {
	if minutes == 0 {
		return 0
	}
	return now + int64(minutes)*int64(time.Minute)
}

func (s *session) extra() *busy {
	if s.busy == nil {
		s.busy = new(busy)
	}
	return s.busy
}

// wait gives a channel that is closed at the next wake.
func (s *session) wait() <-chan struct{} {
	b := s.extra()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

func (s *session) wake() {
	if s.busy != nil && s.busy.changed != nil {
		close(s.busy.changed)
		s.busy.changed = nil
	}
}

// idle drops the busy part when nothing in it is needed any more.
func (s *session) idle() {
	b := s.busy
	if b != nil && s.state == held && len(b.turns) == 0 && b.stays == 0 {
		b.changed = nil // those who wait for a session that is here stand in its queue, or for stays
	}
	if b != nil && b.inquiry == nil && b.handover == nil && b.to == (Peer{}) &&
		len(b.turns) == 0 && b.stays == 0 && len(b.promises) == 0 && b.changed == nil {
		s.busy = nil
	}
}

// apply carries out a request on a session that is held and not expired, and then serves those who
// wait for it. The shard is locked.
func (st *Store) apply(sh *shard, s *session, r *Request, now instant) Answer {
	a := st.carryOut(sh, s, r, now)
	if s.busy != nil {
		if s.busy.stays != 0 {
			s.busy.stays = 0
			s.wake()
		}
		st.serveTurns(sh, s, now)
		s.idle()
	}
	return a
}

// carryOut carries out a request on a session that is held and not expired, and writes down what it changed. The shard
// is locked.
func (st *Store) carryOut(sh *shard, s *session, r *Request, now instant) Answer {
	stamp, lock := s.stamp, s.lock
	a := st.perform(sh, s, r, now)
	if s.stamp != stamp || s.lock != lock {
		a.Mark = sh.disk.session(s)
	}
	return a
}

// perform carries out a request by the rules of [MS-ASP] 3.1.5 as .NET's StateRuntime.cs has them. The order of
// the checks matters. The shard is locked.
func (st *Store) perform(sh *shard, s *session, r *Request, now instant) Answer {
	s.renew(now.mono)
	var a Answer
	if s.tells(r.Op) {
		s.flags &^= FlagUninitialized
		s.stamp = st.stamp(now, s.stamp)
		a.Init, a.Stamp = true, s.stamp
		st.changed(s, now.mono)
	}
	switch r.Op {
	case Get, Acquire:
		if s.lock != 0 {
			return s.refuse(a, now)
		}
		a.Timeout, a.Body = s.timeout, s.body
		if r.Op == Acquire {
			s.acquire(now)
			a.Cookie, s.whose = s.lock, r.Client
		}
	case Release:
		switch {
		case r.Cookie < 0:
			a.Status = BadRequest
		case s.stale(r.Cookie):
			a.Status = Unknown
		case s.lock != 0 && s.lock != r.Cookie:
			return s.refuse(a, now)
		default:
			s.lock = 0
		}
	case Put:
		switch {
		case r.Flags&FlagUninitialized != 0:
			// Insert only: there is one already, and it stays as it is.
		case r.Cookie == BadCookie:
			a.Status = BadRequest
		case s.stale(r.Cookie):
			a.Status = Unknown
		case s.lock != 0 && s.lock != r.Cookie:
			return s.refuse(a, now)
		case !st.room.fits(int64(len(r.Body)-len(s.body)), r.Counted, aside):
			a.Status = Full
		default:
			st.overwrite(sh, s, r, now)
			a.Stamp = s.stamp
		}
	case Delete:
		switch {
		case r.Cookie == BadCookie:
			a.Status = BadRequest
		case s.stale(r.Cookie):
			a.Status = Unknown
		case s.lock != 0 && s.lock != r.Cookie:
			return s.refuse(a, now)
		default:
			sh.abandoned++
			st.bury(sh, s, st.stamp(now, s.stamp), now.mono)
			a.Stamp = s.stamp
		}
	case Head:
	}
	return a
}

// tells: a request of this kind is told to initialise the session, which changes it.
func (s *session) tells(o Op) bool {
	return s.flags&FlagUninitialized != 0 && (o == Get || o == Acquire || o == Release)
}

// acquire locks an unlocked session with a cookie that it has never had before.
func (s *session) acquire(now instant) {
	s.raise(1)
	s.lock, s.lockedAt, s.touched = s.cookie, now.mono, true
}

// raise moves the cookie counter on. Cookies are a positive int32 on the wire; the counter starts
// again at the bottom when they are all given (jump.go).
func (s *session) raise(by int32) {
	if s.cookie > 1<<31-1-by {
		s.cookie = 1
	}
	s.cookie += by
}

// stale: this cookie may be that of a lock which died with another copy of the session, and
// somebody has locked or written the session since. Its page must not overwrite that, and an
// answer 423 would be ignored by the client, so the truth is said to be unknown. That copy may have raised its
// cookies farther than this one: those that were given since are between floor and the counter.
func (s *session) stale(cookie int32) bool {
	return cookie > 0 && s.floor != 0 && (cookie <= s.floor || cookie > s.cookie) && cookie != s.lock && s.touched
}

// refuse completes the answer to a request that met somebody else's lock.
func (s *session) refuse(a Answer, now instant) Answer {
	a.Status, a.Cookie, a.LockAge = Locked, s.lock, time.Duration(now.mono-s.lockedAt)
	return a
}

// overwrite stores a Put in an existing session and releases its lock. The cookie goes on rising
// even where .NET starts it again (a change of the timeout), or a cookie would be given twice.
func (st *Store) overwrite(sh *shard, s *session, r *Request, now instant) {
	if grows := int64(len(r.Body)) - int64(len(s.body)); grows != 0 {
		sh.bytes += grows
		st.room.used.Add(grows)
	}
	st.takeOver(r)
	s.superseded()
	s.body = r.Body
	sh.grown(s)
	if s.timeout != r.Timeout {
		s.timeout, s.flags = r.Timeout, r.Flags
		s.renew(now.mono)
	}
	s.stamp = st.stamp(now, s.stamp)
	s.lock, s.touched = 0, true
	st.changed(s, now.mono)
}
