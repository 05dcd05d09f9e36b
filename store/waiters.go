package store

import (
	"context"
	"slices"
	"time"
)

// Limits on waiting. Past them a request is told at once that the session is locked, so that whoever
// floods one session hurts only himself.
const (
	maxTurns    = 64     // that wait for one session
	maxAllTurns = 16_384 // that wait in all
	// pollEvery is how often a client that was told "locked" asks again, and a little more. A
	// session that was fetched for one which has given up meanwhile stays for so long.
	pollEvery = 600 * time.Millisecond
)

// turn is a place in the queue of a session: of a request of this node, or of another node, however
// many wait there. It is served as soon as the session is here and unlocked, in the order of arrival,
// under the lock of the shard; got says with what.
type turn struct {
	session *session // in whose queue it is; nil: in none
	r       *Request // nil: another node's
	asker   Peer
	got     chan served // with room for one
}

// served is what came of a turn.
type served struct {
	answer   Answer    // of a request
	handover *Handover // for another node
}

// queue puts a turn at the end of the session's queue, if it is not in it already and there is room.
// Another node has one place. The shard is locked.
func (st *Store) queue(s *session, t *turn) bool {
	if t.session == s {
		return true
	}
	b := s.extra()
	if len(b.turns) >= maxTurns {
		return false
	}
	if st.turns.Add(1) > maxAllTurns {
		st.turns.Add(-1)
		return false
	}
	if t.r == nil {
		// An older question of that node was given up; its place is not kept.
		for _, old := range b.turns {
			if old.r == nil && old.asker.Node == t.asker.Node {
				st.unqueue(old)
				break
			}
		}
	}
	st.unqueue(t) // from the queue of an entry that is gone
	t.session = s
	b.turns = append(b.turns, t)
	return true
}

// unqueue takes a turn out of its queue. The shard is locked.
func (st *Store) unqueue(t *turn) {
	s := t.session
	if s == nil {
		return
	}
	t.session = nil
	st.turns.Add(-1)
	if s.busy == nil {
		return
	}
	s.busy.turns = slices.DeleteFunc(s.busy.turns, func(o *turn) bool { return o == t })
}

// serveTurns serves those who wait for a session, for as long as it is here and unlocked. Where
// nobody waits for locks, the rest is told that it is locked. The shard is locked.
func (st *Store) serveTurns(sh *shard, s *session, now instant) {
	for s.busy != nil && len(s.busy.turns) > 0 && s.state == held && !s.expired(now.mono) {
		t := s.busy.turns[0]
		if s.lock != 0 && (st.lockWait > 0 || t.r == nil) {
			return
		}
		st.unqueue(t)
		if t.r == nil {
			t.got <- served{handover: st.freeze(s, t.asker, now)}
			return
		}
		t.got <- served{answer: st.carryOut(sh, s, t.r, now)}
	}
}

// visit is one request that could not be answered at once.
type visit struct {
	*turn
	store *Store
	key   string
	begun int64 // monotonic ns
	met   bool  // it has met a lock
	stale bool  // the question that it shared does not answer it
}

// report tells how long a request has waited that met a lock.
func (v *visit) report() {
	if !v.met {
		return
	}
	now := v.store.clock.now().mono
	waited := time.Duration(now - v.begun)
	v.store.contentions.met(v.key, waited, now)
	if v.store.waited != nil {
		v.store.waited(waited)
	}
}

// patient: the request may still wait for a lock.
func (v *visit) patient(now int64) bool { return now-v.begun < int64(v.store.lockWait) }

// served gives what came of the turn, if anything has. The shard is locked, or the visit is over.
func (v *visit) served() (Answer, bool) {
	select {
	case x := <-v.got:
		return x.answer, true
	default:
		return Answer{}, false
	}
}

// leave ends a visit that gives the answer a, unless its turn was served at the last moment: that
// answer may have taken the lock.
func (v *visit) leave(a Answer) Answer {
	sh := v.store.shardOf(v.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if x, ok := v.served(); ok {
		return x
	}
	if s := v.session; s != nil {
		v.store.unqueue(v.turn)
		v.store.tidy(sh, s)
	}
	return a
}

// turnOr waits for the visit's turn, for a change of the session, or until it may not wait for a lock
// any longer.
func (v *visit) turnOr(changed <-chan struct{}, now int64) waiter {
	return func(ctx context.Context) bool {
		left := time.Duration(v.begun - now)
		t := time.NewTimer(max(left+v.store.lockWait, 0))
		defer t.Stop()
		select {
		case x := <-v.got:
			v.got <- x // for the next look
			return true
		case <-changed:
			return true
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
