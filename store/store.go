package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"peerstate/store/journal"
)

// Options say how a store is to be made.
type Options struct {
	Node     string // this node's name; of two nodes that create one key, the smaller name does
	Instance uint64 // this run of the node; see HandoverID
	// FetchTimeout is the longest that Do waits.
	FetchTimeout time.Duration
	// LockWait is how long a request that reads waits for a lock, less than FetchTimeout; 0: it is told
	// at once that the session is locked.
	LockWait time.Duration
	// Waited, if set, is told how long a request has waited that met a lock, whatever came of it. It
	// should return at once.
	Waited func(time.Duration)
	// Backups is how many other nodes are to keep a copy of each session (see SetKeepers); 0 where there
	// are no other nodes.
	Backups int
	Sync    Sync // whether what has changed a session waits for them
	// MaxMemory is how many bytes everything that the store keeps may take, as it counts them (see Memory); 0: no limit.
	MaxMemory int64
	// Joining: the other nodes do not know of this run yet, and would not ask it for a session that is
	// created here. So nothing is created until Joined is called.
	Joining bool
	// Grace is how long this process may stand still before its sessions count as unsure; see Sure.
	// 0: for ever, as where there are no other nodes.
	Grace time.Duration
	Log   *slog.Logger // nil: discarded
}

// Store keeps the sessions of one node. All methods are safe for concurrent use.
type Store struct {
	node         string
	instance     uint64
	run          uint8 // see jump; set before anything is loaded
	fetchTimeout time.Duration
	lockWait     time.Duration
	waited       func(time.Duration)
	turns        atomic.Int64 // that wait in all
	leaving      atomic.Bool
	handOut      atomic.Uint64 // calls of HandOut
	log          *slog.Logger
	farm         Farm     // nil: stand-alone
	upstream     Upstream // nil: there is none

	grace   int64 // ns; see Sure
	backups int
	sync    Sync
	// beat is when this process last showed that it is running, on both clocks: the monotonic one stands
	// still while a machine is suspended, the other one does not.
	beat, wallBeat atomic.Int64

	unsure    atomic.Bool
	joined    atomic.Bool
	joinedC   chan struct{} // closed when it is
	keepersMu sync.Mutex    // of SetKeepers
	keepers   atomic.Pointer[keepers]
	unsafe    atomic.Int64  // sessions of which too few backups have the last change
	unsynced  atomic.Uint64 // changes answered without
	unforced  atomic.Uint64 // writes answered that were to wait for the disk
	toMend    chan struct{} // with room for one
	mending   context.CancelFunc
	mended    sync.WaitGroup

	journal  *journal.Journal // nil: there is none
	force    bool             // a write or a release is answered when it is on disk
	recalled bool             // something was loaded from it
	whole    bool             // and nothing of it was lost

	room        room
	clock       clock
	clockOffset atomic.Int64 // ns; see SetClockOffset
	shards      [1 << shardBits]shard
	heard       *heard
	remnants    *remnants     // nil: there is no upstream
	taken       atomic.Uint64 // sessions taken over from it
	apps        apps
	receipts    *receipts
	doubts      doubts
	handovers   atomic.Uint64 // running number of HandoverID
	inquiries   atomic.Uint64 // running number of inquiry.number
	conflicts   atomic.Uint64
	ahead       atomic.Uint64 // records whose stamp was far ahead of this node's clock
	contentions *contentions
	// lines lets those through that are logged for single sessions as others send them: after a long cut there are
	// many, and a peer could send them without end. All are counted.
	lines *rate.Limiter

	closing chan struct{}
	swept   chan struct{}
}

// New makes an empty store and starts its sweeper, which Close ends.
func New(o Options) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	st := &Store{
		node: o.Node, instance: o.Instance, fetchTimeout: o.FetchTimeout,
		lockWait: o.LockWait, waited: o.Waited, log: o.Log, grace: int64(o.Grace), backups: o.Backups, sync: o.Sync, toMend: make(chan struct{}, 1),
		clock: newClock(), heard: newHeard(), receipts: newReceipts(), lines: rate.NewLimiter(10, 1000),
		closing: make(chan struct{}), swept: make(chan struct{}),
	}
	st.run = uint8(st.draw("run", instant{}))
	st.keepers.Store(&keepers{})
	if st.joinedC = make(chan struct{}); !o.Joining {
		st.Joined()
	}
	st.room.most, st.room.lines = o.MaxMemory, rate.NewLimiter(rate.Every(time.Minute), 1)
	st.room.setCosts(o.Backups > 0, false)
	for i := range st.shards {
		st.shards[i].sessions, st.shards[i].room = map[string]*session{}, &st.room
	}
	st.wallBeat.Store(st.clock.now().wall)
	st.contentions = newContentions(st.clock.now().mono)
	go st.sweep()
	if st.backups > 0 {
		var ctx context.Context
		ctx, st.mending = context.WithCancel(context.Background())
		st.mended.Go(func() { st.mend(ctx) })
	}
	return st
}

// Join makes the store part of a farm: what it lacks it asks f for. To be called before the first
// request, or not at all.
func (st *Store) Join(f Farm) { st.farm = f }

// Joined says that the nodes which are up know of this run. To be called once where Options.Joining is set.
func (st *Store) Joined() {
	if !st.joined.Swap(true) {
		close(st.joinedC)
	}
}

// Close stops the sweeper and what makes backups, and waits for them. Requests may still be made.
func (st *Store) Close() {
	if st.mending != nil {
		st.mending()
	}
	st.mended.Wait()
	if st.remnants != nil {
		if left := st.remnants.close(); left > 0 {
			st.log.Warn("sessions that are here are left at the old state server as well, where they are locked; they are deleted there after the next start", "sessions", left)
		}
	}
	close(st.closing)
	<-st.swept
}

// Try answers a request at once when that needs no other node and no waiting; otherwise ok is
// false, nothing has happened, and Do is to be called. It does not allocate but for a new session.
// Stand-alone, ok is true but for what waits for a lock, for the disk or for the old state server, or finds no memory.
func (st *Store) Try(r *Request) (a Answer, ok bool) {
	if st.syncs(r) || st.force && writes(r.Op) {
		return Answer{}, false
	}
	sh := st.shard(r.Key)
	now := st.clock.now()
	if !st.sureAt(now) {
		return Answer{}, false
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[string(r.Key)]
	if s != nil && s.tells(r.Op) && st.syncing() {
		return Answer{}, false
	}
	a, ok = st.try(sh, s, r, now, st.lockWait > 0)
	switch a.Status {
	case Locked:
		st.contentions.met(s.key, 0, now.mono) // its own key costs no memory
	case Full:
		return Answer{}, false // what has expired is to go first
	}
	return a, ok
}

// try is Try under the shard's lock; s is nil where nothing is known of the key. With wait, a request
// that reads and meets a lock is not answered.
func (st *Store) try(sh *shard, s *session, r *Request, now instant, wait bool) (Answer, bool) {
	if s != nil && s.expired(now.mono) {
		st.expire(sh, s)
		s = sh.sessions[string(r.Key)]
	}
	switch {
	case s != nil && s.state == held && wait && s.lock != 0 && wants(r.Op) == Move:
		return Answer{}, false
	case s != nil && s.state == held:
		return st.apply(sh, s, r, now), true
	case st.farm == nil && st.upstream == nil:
		if r.Op != Put {
			return Answer{Status: NotFound}, true
		}
	case s != nil || r.Op != Put || r.Cookie > 0 || r.Cookie == BadCookie ||
		r.Flags&FlagUninitialized != 0 || !st.joined.Load() || sh.backups[string(r.Key)] != nil || st.heard.has(r.Key, now.mono):
		return Answer{}, false
	}
	// A visitor's first page: a write without a lock under a key that nobody has heard of. It
	// is stored without asking anybody.
	return st.create(sh, s, r, now), true
}

// create stores a Put under a key that has no session: unlocked, with cookie 1. s is what is known
// of the key, or nil. Where there is no room the answer is Full, and nothing has changed. The shard is locked.
func (st *Store) create(sh *shard, s *session, r *Request, now instant) Answer {
	more := int64(len(r.Body))
	if s == nil {
		more += st.room.entry + int64(len(r.Key))
	}
	if !st.room.fits(more, r.Counted, aside) {
		return Answer{Status: Full}
	}
	if s == nil {
		s = &session{key: string(r.Key)}
		sh.put(s)
	}
	if b := sh.backups[s.key]; b != nil {
		s.stamp = max(s.stamp, b.stamp) // of a session that has ended
		sh.dropBackup(b)
	}
	s.body, s.timeout, s.flags = r.Body, r.Timeout, r.Flags
	s.stamp = st.stamp(now, max(s.stamp, s.deleted))
	s.cookie, s.floor, s.lock, s.touched = 1, 0, 0, true
	if s.busy != nil {
		s.busy.to, s.busy.promises = Peer{}, nil
	}
	s.renew(now.mono)
	sh.created++
	sh.hold(s)
	st.takeOver(r)
	sh.note(s.key, EventCreated, "", now.mono)
	st.apps.add(r.Key)
	st.changed(s, now.mono)
	return Answer{Stamp: s.stamp, Mark: sh.disk.session(s)}
}

// takeOver ends the reservation of a body that is counted as a session's from now on.
func (st *Store) takeOver(r *Request) {
	if r.Counted != 0 {
		st.GiveBack(r.Counted)
		r.Counted = 0
	}
}

// Undo takes back what an answer changed when it could not be delivered: the lock of an Acquire is
// released, and the flag that only one request is told of is set again. Nothing happens if the
// session has changed since.
func (st *Store) Undo(key []byte, a Answer) {
	sh := st.shard(key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[string(key)]
	if s == nil || s.state != held {
		return
	}
	if a.Status == OK && a.Cookie != 0 && s.lock == a.Cookie {
		s.lock = 0
		sh.disk.session(s)
	}
	if a.Init && s.lock == 0 && s.stamp == a.Stamp {
		// Backups may have the record of which somebody was told, and an empty one loses to that. So it is as if that
		// had been deleted, and this one made anew.
		s.flags, s.deleted = s.flags|FlagUninitialized, s.stamp
		s.stamp = st.stamp(now, s.stamp)
		st.changed(s, now.mono)
		sh.disk.session(s)
	}
	st.serveTurns(sh, s, now)
	s.idle()
}

// Stats are the store's counters. The first four are those of the Windows performance object
// "ASP.NET State Service".
type Stats struct {
	Active    int    // sessions held
	Total     uint64 // ever created here
	Abandoned uint64 // ended by a client's DELETE here
	TimedOut  uint64 // ended by their own time here
	Bytes     int64  // of the keys and bodies of the sessions held
	Conflicts uint64 // stale copies of sessions that were dropped
	Ahead     uint64 // records that came with a stamp more than a minute ahead of this node's clock
	Waiting   int    // requests, and other nodes, that wait for a session
	Doubts    int    // hand-overs of which it is not known whether they arrived

	Backups     int           // sessions of other nodes that are kept here
	BackupBytes int64         // of their keys and bodies
	Unsafe      int           // sessions whose last change too few other nodes have
	UnsafeFor   time.Duration // how long the oldest such change has waited to be sent, or for its receipt
	Unsynced    uint64        // requests that were to wait for backups (see Sync) and were answered, or not, without
	Recalled    int           // of Backups: sessions that this node held itself before it started, and that are not served yet
	Unforced    uint64        // writes that were to wait for the disk and were answered without
}

// Stats adds up the counters of all shards.
func (st *Store) Stats() Stats {
	x := Stats{Conflicts: st.conflicts.Load(), Ahead: st.ahead.Load(),
		Waiting: int(st.turns.Load()), Doubts: st.doubts.count(), Unsafe: int(st.unsafe.Load()), Unsynced: st.unsynced.Load(), Unforced: st.unforced.Load()}
	now := st.clock.now().mono
	for _, o := range st.keepers.Load().by {
		if since := o.oldest(); since != 0 {
			x.UnsafeFor = max(x.UnsafeFor, time.Duration(now-since))
		}
	}
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		x.Active += sh.held
		x.Bytes += sh.bytes
		x.Total += sh.created
		x.Abandoned += sh.abandoned
		x.TimedOut += sh.timedOut
		x.Backups += len(sh.backups)
		x.BackupBytes += sh.keptBytes
		x.Recalled += sh.recalled
		sh.mu.Unlock()
	}
	return x
}

// KeyHash is what logs show of a key: a session id is a secret.
func KeyHash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:keyHashBytes])
}

// keyHashBytes is how much of a key's SHA-256 is shown: enough to tell some million sessions apart, mostly.
const keyHashBytes = 4
