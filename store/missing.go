package store

import (
	"context"
	"errors"
	"time"
)

// waiter waits for whatever has to happen before a request is looked at again. It gives false when
// ctx ends first.
type waiter func(ctx context.Context) bool

// Do answers a request, asking other nodes and waiting for them or for a lock where that is needed, for
// FetchTimeout at most. It gives up early when ctx ends, which says that the client is gone.
func (st *Store) Do(ctx context.Context, r *Request) Answer {
	if r.Op == Put && !st.joined.Load() {
		st.awaitJoined(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, st.fetchTimeout)
	defer cancel()
	v := &visit{store: st, key: string(r.Key), begun: st.clock.now().mono, turn: &turn{r: r, got: make(chan served, 1)}}
	defer v.report()
	for {
		a, next := st.look(ctx, v)
		if next == nil {
			a = v.leave(a)
			if a.Status == Full {
				st.turnDown(r)
			}
			return st.safe(ctx, r, a)
		}
		if !next(ctx) {
			return st.safe(ctx, r, v.leave(Answer{Status: Unknown})) // it may have been served at the last moment
		}
	}
}

// joinMost is how long a write waits at most for a node that has just started to be known to the others: less
// than a web server waits for an answer, together with the fetch time-out.
const joinMost = 6 * time.Second

// LongestWait is the longest that Do takes with these options. Waiting for a lock, for the disk and for backups is within
// the fetch time-out.
func (o Options) LongestWait() time.Duration {
	if o.Joining {
		return o.FetchTimeout + joinMost
	}
	return o.FetchTimeout
}

func (st *Store) awaitJoined(ctx context.Context) {
	t := time.NewTimer(joinMost)
	defer t.Stop()
	select {
	case <-st.joinedC:
	case <-ctx.Done():
	case <-t.C:
	}
}

// look looks at a request once. It gives the answer, or what to wait for before the next look.
func (st *Store) look(ctx context.Context, v *visit) (Answer, waiter) {
	r := v.r
	sh := st.shardOf(v.key)
	now := st.clock.now()
	if !st.sureAt(now) {
		if writes(r.Op) {
			return Answer{}, st.pause(v.key, retryAfter)
		}
		return Answer{Status: Unknown}, nil
	}
	sh.mu.Lock()
	if v.session != nil {
		st.serveTurns(sh, v.session, now) // in its turn, or not at all: it must not be carried out twice
	}
	if a, ok := v.served(); ok {
		sh.mu.Unlock()
		return a, nil
	}
	if a, ok := st.try(sh, sh.sessions[v.key], r, now, v.patient(now.mono)); ok {
		sh.mu.Unlock()
		if st.retry(a) {
			return Answer{}, atOnce
		}
		return a, nil
	}
	s := sh.sessions[v.key]
	if s == nil {
		s = &session{key: v.key}
		sh.put(s)
	}
	if wants(r.Op) == Move && !st.queue(s, v.turn) {
		a := Answer{Status: Unknown}
		if s.state == held {
			v.met = true
			a = s.refuse(a, now)
		}
		st.tidy(sh, s)
		sh.mu.Unlock()
		return a, nil
	}
	switch s.state {
	case held: // and locked
		s.renew(now.mono)
		v.met = true
		changed := s.wait()
		sh.mu.Unlock()
		return Answer{}, v.turnOr(changed, now.mono)
	case frozen:
		s.renew(now.mono) // it was found, wherever it will be held
		doubtful, changed := s.busy.handover.doubtful, s.wait()
		sh.mu.Unlock()
		if doubtful && !writes(r.Op) {
			return Answer{Status: Unknown}, nil
		}
		return Answer{}, until(changed)
	}
	q := s.extra().inquiry
	mine := q == nil
	if mine {
		q = &inquiry{want: st.wants(r.Op), session: s, done: make(chan struct{}), number: st.inquiries.Add(1)}
		s.busy.inquiry = q
	}
	sh.mu.Unlock()

	if mine {
		st.ask(ctx, sh, q, r)
	}
	if !until(q.done)(ctx) {
		return Answer{Status: Unknown}, nil
	}
	return st.answered(ctx, sh, q, v, mine)
}

// answered is a request's second look, when the inquiry that it waited for is over.
func (st *Store) answered(ctx context.Context, sh *shard, q *inquiry, v *visit, mine bool) (Answer, waiter) {
	now := st.clock.now()
	sh.mu.Lock()
	verdict, stale, created := q.verdict, q.stale && !mine, q.created && mine
	a, ok := v.served()
	if created {
		a = q.answer
	}
	if s := sh.sessions[v.key]; !ok && !created && s != nil && s.state == held && !s.expired(now.mono) {
		a, ok = st.try(sh, s, v.r, now, v.patient(now.mono))
		if !ok {
			sh.mu.Unlock()
			return Answer{}, atOnce // it waits for the lock
		}
	}
	sh.mu.Unlock()
	if ok || created {
		if st.retry(a) {
			return Answer{}, atOnce
		}
		return a, nil
	}
	v.stale = stale
	v.met = v.met || verdict.Locked
	return st.conclude(ctx, q.want, verdict, v, mine)
}

// conclude makes of a verdict the answer to a request, or what to wait for before asking again.
func (st *Store) conclude(ctx context.Context, asked Want, v Verdict, visit *visit, mine bool) (Answer, waiter) {
	r := visit.r
	switch v.Outcome {
	case AtUpstream:
		return st.concludeUpstream(ctx, asked, v, visit, mine)
	case Missing:
		if visit.stale || wants(r.Op) == Create {
			return Answer{}, atOnce // the question that was shared does not answer this request
		}
		st.heard.add(string(r.Key), st.clock.now().mono)
		return Answer{Status: NotFound}, nil
	case Held:
		st.heard.add(string(r.Key), st.clock.now().mono)
		switch {
		case writes(r.Op):
			return st.forward(ctx, v.Node, r)
		case r.Op == Head:
			return Answer{}, nil
		case v.Locked && !mine && visit.patient(st.clock.now().mono):
			return Answer{}, atOnce // the question has waited for the lock on behalf of an earlier request
		case v.Locked:
			return Answer{Status: Locked, Cookie: v.Cookie, LockAge: v.LockAge}, nil
		case asked != Move && !st.leaving.Load():
			return Answer{}, atOnce
		}
	case Arrived:
		return Answer{}, atOnce // and it has gone again already
	case NotKnown:
		if len(v.Creating) > 0 {
			return Answer{}, st.pause(string(r.Key), againAfter)
		}
		if writes(r.Op) {
			return Answer{}, st.pause(string(r.Key), retryAfter)
		}
	}
	return Answer{Status: Unknown}, nil
}

// forward has the holder carry out a write. One whose answer is lost is never sent again: it may
// have been carried out, and somebody may have written since.
func (st *Store) forward(ctx context.Context, holder string, r *Request) (Answer, waiter) {
	dctx, cancel := detached(ctx)
	defer cancel()
	a, err := st.farm.Forward(dctx, holder, r)
	switch {
	case errors.Is(err, ErrNotHere):
		return Answer{}, st.pause(string(r.Key), againAfter)
	case err != nil:
		st.log.Warn("a write was passed to the session's holder, and no answer came back; the client's connection is closed, so that it raises an error",
			"peer", holder, "op", r.Op.String(), "session", KeyHash(string(r.Key)), "error", err)
		return Answer{Status: Unknown}, nil
	}
	return a, nil
}

// wants is the question that this node asks for an operation: a node that leaves fetches nothing.
func (st *Store) wants(o Op) Want {
	if w := wants(o); w != Move || !st.leaving.Load() {
		return w
	}
	return Locate
}

// wants is the question that an operation asks about a session that is not here: reads want to have
// it, the others only to reach its holder.
func wants(o Op) Want {
	switch o {
	case Get, Acquire:
		return Move
	case Put:
		return Create
	}
	return Locate
}

// writes tells the operations whose answer 423 the client would ignore.
func writes(o Op) bool { return o == Put || o == Release || o == Delete }

func atOnce(ctx context.Context) bool { return ctx.Err() == nil }

func until(c <-chan struct{}) waiter {
	return func(ctx context.Context) bool {
		select {
		case <-c:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// pause waits for about d before a key is asked for again.
func (st *Store) pause(key string, d time.Duration) waiter {
	return func(ctx context.Context) bool {
		t := time.NewTimer(st.Jitter(key, d))
		defer t.Stop()
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
