package store

import (
	"context"
	"time"
)

// Asked answers another node's question. It may wait, for a lock or for a hand-over of the session to
// end, until ctx ends. A Found reply has frozen the session: the caller sends its hand-over and reports
// what became of it.
func (st *Store) Asked(ctx context.Context, asker Peer, q Question) Reply {
	if !st.Sure() {
		return Reply{Kind: ReplyNotKnown}
	}
	t := &turn{asker: asker, got: make(chan served, 1)}
	end := st.clock.now().mono + int64(q.Wait)
	for {
		rep, next := st.reply(t, end, q)
		if next == nil {
			return rep
		}
		if !next(ctx) {
			return st.giveUp(t, q.Key)
		}
	}
}

// giveUp ends the waiting of another node, unless its turn has come at the last moment.
func (st *Store) giveUp(t *turn, key string) Reply {
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	select {
	case x := <-t.got:
		return Reply{Kind: ReplyFound, Handover: x.handover}
	default:
	}
	if s := t.session; s != nil {
		st.unqueue(t)
		st.tidy(sh, s)
	}
	return Reply{Kind: ReplyNotKnown}
}

// turnUntil waits for a turn, a change of the session, or the end of its time (monotonic ns).
func (st *Store) turnUntil(t *turn, changed <-chan struct{}, end int64) waiter {
	return func(ctx context.Context) bool {
		timer := time.NewTimer(time.Duration(end - st.clock.now().mono))
		defer timer.Stop()
		select {
		case x := <-t.got:
			t.got <- x // for the next look
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
		return true
	}
}

// reply looks at a question once. It gives the reply, or what to wait for before the next look. The asker
// waits for a lock until end (monotonic ns).
func (st *Store) reply(t *turn, end int64, q Question) (rep Reply, next waiter) {
	asker := t.asker
	sh := st.shardOf(q.Key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	select {
	case x := <-t.got:
		return Reply{Kind: ReplyFound, Handover: x.handover}, nil
	default:
	}
	defer func() {
		if next == nil {
			st.unqueue(t)
		}
	}()
	s := sh.sessions[q.Key]
	if s != nil && s.expired(now.mono) {
		st.expire(sh, s)
		s = sh.sessions[q.Key]
	}
	b := sh.backup(q.Key, now.mono)
	if s == nil {
		if q.Want == Create {
			if !st.room.mayClaim(asker.Node, q.Key) {
				return Reply{Kind: ReplyNotKnown, TooMuch: true}, nil
			}
			s = &session{key: q.Key}
			sh.put(s)
			sh.owe(s, asker.Node)
			st.promise(sh, s, asker, q.Inquiry, now)
		}
		if b != nil {
			return Reply{Kind: ReplyBackup, Node: b.holder.Node, Instance: b.holder.Instance}, nil
		}
		return Reply{Kind: ReplyMissing}, nil
	}
	switch s.state {
	case held:
		s.renew(now.mono)
		switch {
		case s.lock != 0 && q.Want == Move && now.mono < end && st.queue(s, t):
			return Reply{}, st.turnUntil(t, s.wait(), end)
		case s.lock != 0:
			return Reply{Kind: ReplyHeld, Locked: true, Cookie: s.lock, LockAge: time.Duration(now.mono - s.lockedAt)}, nil
		case q.Want != Move:
			return Reply{Kind: ReplyHeld}, nil
		case s.busy != nil && now.mono < s.busy.stays:
			return Reply{}, st.turnUntil(t, s.wait(), s.busy.stays)
		case !st.room.mayClaim(asker.Node, s.key):
			return Reply{Kind: ReplyNotKnown, TooMuch: true}, nil // what is given leaves a note
		}
		return Reply{Kind: ReplyFound, Handover: st.freeze(s, asker, now)}, nil
	case frozen:
		s.renew(now.mono)
		if s.busy.handover.doubtful {
			return Reply{Kind: ReplyNotKnown}, nil
		}
		return Reply{}, until(s.wait())
	}
	creating := uint64(0)
	if s.busy != nil && s.busy.inquiry != nil {
		if s.busy.inquiry.want == Create {
			creating = s.busy.inquiry.number
		}
		if q.Want == Create {
			s.busy.inquiry.stale = true
		}
	}
	if q.Want == Create && creating == 0 {
		st.promise(sh, s, asker, q.Inquiry, now)
	}
	switch {
	case s.state == absent && b != nil:
		return Reply{Kind: ReplyBackup, Node: b.holder.Node, Instance: b.holder.Instance, Creating: creating}, nil
	case s.state == moved:
		// Neither word alone is enough: the session may be there, and if not only one may create it.
		return Reply{Kind: ReplyMoved, Node: s.busy.to.Node, Instance: s.busy.to.Instance, Epoch: s.epoch, Stamp: s.stamp, Creating: creating}, nil
	case creating != 0:
		return Reply{Kind: ReplyCreating, Deleted: s.deleted, Creating: creating}, nil
	}
	return Reply{Kind: ReplyMissing, Deleted: s.deleted}, nil
}

// promise remembers that a node which is about to create the key was told, by its question of that number, that
// this one does not hold it. The shard is locked.
func (st *Store) promise(sh *shard, s *session, to Peer, inquiry uint64, now instant) {
	b := s.extra()
	if b.promises == nil {
		b.promises = map[Peer]promise{}
	}
	// A question may come after a later one, which is the one that counts: the node has given the earlier up.
	b.promises[to] = promise{max(inquiry, b.promises[to].inquiry), now.mono + promiseFor*int64(st.fetchTimeout)}
	st.tidy(sh, s)
}

// Forwarded carries out a request that another node passed on, if this node holds the session. It
// waits while the session is in a hand-over, until ctx ends. ErrNotHere: nothing was changed.
func (st *Store) Forwarded(ctx context.Context, r *Request) (Answer, error) {
	for {
		if !st.Sure() {
			return Answer{}, ErrNotHere
		}
		sh := st.shard(r.Key)
		now := st.clock.now()
		sh.mu.Lock()
		s := sh.sessions[string(r.Key)]
		switch {
		case s != nil && s.state == held && !s.expired(now.mono):
			a := st.apply(sh, s, r, now)
			sh.mu.Unlock()
			if st.retry(a) {
				continue
			}
			if a.Status == Full {
				st.turnDown(r)
				a.Status = Unknown // that is what the asker's client has to be told
			}
			return st.safe(ctx, r, a), nil
		case s == nil || s.state != frozen:
			sh.mu.Unlock()
			return Answer{}, ErrNotHere
		}
		changed := s.wait()
		sh.mu.Unlock()
		if !until(changed)(ctx) {
			return Answer{}, ErrNotHere
		}
	}
}
