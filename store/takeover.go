package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// take takes a session over that a page wants to read, and ends the inquiry with what came of that.
func (st *Store) take(sh *shard, q *inquiry) {
	ctx := st.remnants.taking
	v := Verdict{Outcome: NotKnown}
	a, bytes, begun, err := st.lockUpstream(ctx, q)
	if a.Status != Full {
		defer st.GiveBack(bytes)
	}
	switch {
	case errors.Is(err, ErrOutsized):
		if st.lines.Allow() {
			st.log.Error("the old state server has a session that is larger than this node takes (PEERSTATE_MAX_BODY); it stays there, and its pages wait until that is raised",
				"session", KeyHash(q.session.key), "bytes", bytes)
		}
		st.giveBack(q.session.key, &a, begun)
	case err != nil:
	case a.Status == OK:
		stored, full := st.takeIn(sh, q, &a, bytes, begun)
		if full && st.clear() {
			stored, full = st.takeIn(sh, q, &a, bytes, begun)
		}
		if stored {
			return
		}
		if full {
			st.Refuse(RefusedHandover, int64(len(a.Body)))
		}
		st.giveBack(q.session.key, &a, begun)
	case a.Status == Full:
		st.Refuse(RefusedHandover, bytes)
		st.giveBack(q.session.key, &a, begun)
	case a.Status == NotFound:
		sh.mu.Lock()
		q.sought = true
		sh.mu.Unlock()
		actx, cancel := context.WithTimeout(ctx, st.fetchTimeout)
		v = st.question(actx, q)
		cancel()
	case a.Status == Locked:
		v = Verdict{Outcome: AtUpstream, Locked: true, Cookie: a.Cookie, LockAge: a.LockAge, Init: a.Init}
	}
	st.weigh(sh, q, nil, v)
}

// giveBack ends the lock of a session that was not taken over after all. One that was still to be initialised is so no more once this
// node was told that it is, and nothing in the protocol makes it so again but to be created anew: its next page would
// not raise Session_Start. Nobody has put anything into it yet. If this ends halfway, or another page creates it meanwhile,
// which the old server then keeps, or there was no memory for what it has, the next page makes it anew. Only if the old
// server does not hear of the deletion, or its answer to the lock was lost, is nobody told any more, as with its own client.
func (st *Store) giveBack(key string, a *Answer, begun int64) {
	ctx := st.remnants.giving
	op := Release
	if a.Init {
		op = Delete
	}
	ended, err := st.doUpstream(ctx, op, key, a.Cookie)
	switch {
	case err != nil:
		st.remnants.orphans.note(key, begun, st.clock.now().mono)
	case a.Init && ended.Status == OK && a.Status == OK:
		ctx, cancel := context.WithTimeout(ctx, upstreamTime)
		defer cancel()
		_, err = st.upstream.Do(ctx, &Request{Op: Put, Key: []byte(key), Cookie: NoCookie, Timeout: a.Timeout, Flags: FlagUninitialized, Body: a.Body})
	}
	if err != nil {
		st.log.Debug("a session could not be given back to the old state server", "session", KeyHash(key), "error", err)
	}
}

// doUpstream has the old server carry out something without contents.
func (st *Store) doUpstream(ctx context.Context, op Op, key string, cookie int32) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTime)
	defer cancel()
	return st.upstream.Do(ctx, &Request{Op: op, Key: []byte(key), Cookie: cookie})
}

// lockUpstream locks a session at the old server and gets its contents; bytes is Request.Counted, see Upstream. begun is when
// the last try to lock it began.
func (st *Store) lockUpstream(ctx context.Context, q *inquiry) (a Answer, bytes, begun int64, err error) {
	key := q.session.key
	acquire := func() {
		begun = st.clock.now().mono
		ctx, cancel := context.WithTimeout(ctx, upstreamTime)
		defer cancel()
		r := &Request{Op: Acquire, Key: []byte(key), Cookie: NoCookie}
		a, err = st.upstream.Do(ctx, r)
		if bytes = r.Counted; err != nil && !errors.Is(err, ErrOutsized) {
			st.remnants.orphans.note(key, begun, st.clock.now().mono)
			st.log.Debug("the old state server has not answered", "session", KeyHash(key), "error", err)
		}
	}
	acquire()
	if err == nil && a.Status == Locked && st.orphaned(ctx, q, a.LockAge) {
		// Whatever comes of this, the next try tells: the lock may have ended meanwhile.
		if _, err = st.doUpstream(ctx, Release, key, a.Cookie); err == nil {
			acquire()
		}
	}
	return a, bytes, begun, err
}

// A lock of which the answer was lost is broken, where another node may have taken it, when it is so old that this one, if it had
// got the session, would have stored it by then, or never.
const (
	orphanAge  = int64(upstreamTime + 5*time.Second)
	takeInMost = int64(upstreamTime + 2*time.Second) // after the lock was asked for
)

// orphaned tells whether a lock at the old server is this node's own, by a try whose answer was lost. Otherwise only the page that
// waits could break it, after its executionTimeout.
func (st *Store) orphaned(ctx context.Context, q *inquiry, age time.Duration) bool {
	now := st.clock.now().mono
	since, ok := st.remnants.orphans.since(q.session.key)
	if !ok || int64(age) > now-since+int64(time.Second) { // LockAge is in whole seconds
		return false
	}
	if st.farm == nil {
		return true
	}
	if int64(age) < orphanAge {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, st.fetchTimeout)
	defer cancel()
	v := st.question(ctx, q)
	return v.Outcome == Missing && len(v.Creating) == 0
}

// takeIn stores a session that the old server gave, and serves those who wait for it. It is not stored when that is too
// late, or there is no memory for it.
func (st *Store) takeIn(sh *shard, q *inquiry, a *Answer, counted, begun int64) (stored, full bool) {
	s := q.session
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.busy == nil || s.busy.inquiry != q {
		st.remnants.add(s.key, remnant{cookie: a.Cookie}) // it has come from another node meanwhile
		return true, false
	}
	if now.mono-begun > takeInMost || !st.sureAt(now) || st.leaving.Load() || st.remnants.ending() {
		return false, false // the process has stood still, and another node may have broken the lock since; or it takes nothing in any more
	}
	if s.state != absent || s.deleted != 0 || sh.backup(s.key, now.mono) != nil {
		return false, false // the farm has had it, so that this is a remnant
	}
	if !st.room.fits(int64(len(a.Body)), counted, asideFetched) {
		return false, true
	}
	s.body, s.timeout, s.flags = a.Body, a.Timeout, 0
	if a.Init {
		s.flags = FlagUninitialized
	}
	// When it was written last is not known, but it was before anything that was written in the farm.
	s.stamp = max(s.stamp, s.deleted) + 1
	s.cookie, s.floor, s.lock, s.touched = max(a.Cookie, 1), 0, 0, true
	s.busy.to, s.busy.promises = Peer{}, nil
	s.renew(now.mono)
	sh.hold(s)
	sh.note(s.key, EventTakenOver, "", now.mono)
	st.taken.Add(1)
	st.changed(s, now.mono)
	mark := sh.disk.session(s)
	st.remnants.orphans.forget(s.key)
	st.remnants.add(s.key, remnant{cookie: a.Cookie, stamp: s.stamp, mark: mark})
	if len(s.busy.turns) == 0 {
		s.busy.stays = now.mono + int64(pollEvery)
	}
	st.end(sh, s, Verdict{Outcome: Arrived})
	st.serveTurns(sh, s, now)
	s.wake()
	s.idle()
	return true, false
}

// orphans remembers for which keys an answer of the old server was lost that may have locked the session there, and since when.
type orphans struct {
	mu sync.Mutex
	by map[string]int64 // monotonic ns
}

// Bounds on orphans: how many, and how long one is remembered. Past them a lock ends as any lock does whose page is gone.
const (
	orphansMost = 10_000
	orphanFor   = int64(time.Hour)
)

func (o *orphans) note(key string, since, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.by[key]; ok {
		return // the first try may be the one that has locked it
	}
	if len(o.by) >= orphansMost {
		for key, at := range o.by {
			if now-at > orphanFor {
				delete(o.by, key)
			}
		}
		if len(o.by) >= orphansMost {
			return
		}
	}
	if o.by == nil {
		o.by = map[string]int64{}
	}
	o.by[key] = since
}

func (o *orphans) since(key string) (int64, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.by[key]
	return at, ok
}

func (o *orphans) forget(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.by, key)
}
