package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// inquiry is this node's one outstanding question about a key. Requests for the same key wait for
// it together.
type inquiry struct {
	want    Want
	session *session
	done    chan struct{} // closed when it is over and verdict is set
	// guarded by the shard's lock:
	verdict Verdict
	waiters int  // requests that wait for it, the asker's own included
	created bool // the asker's own write has been stored
	stale   bool // meanwhile another node was promised that the key is missing here
}

const (
	// promiseFor is how many fetch time-outs a node remembers that it told another, which is about to
	// create a key, that it does not have it.
	promiseFor = 2
	// againAfter is about how long a node waits before it asks again, when another is just creating
	// the key or giving the session away.
	againAfter = 2 * time.Millisecond
	// retryAfter is the pause between two questions of a write that waits for a node to come back.
	retryAfter = 100 * time.Millisecond
)

// waiter waits for whatever has to happen before a request is looked at again. It gives false when
// ctx ends first.
type waiter func(ctx context.Context) bool

// Do answers a request, asking other nodes and waiting where that is needed, for FetchTimeout at
// most. It gives up early when ctx ends, which says that the client is gone.
func (st *Store) Do(ctx context.Context, r *Request) Answer {
	ctx, cancel := context.WithTimeout(ctx, st.fetchTimeout)
	defer cancel()
	for {
		a, next := st.look(ctx, r)
		if next == nil {
			return a
		}
		if !next(ctx) {
			return Answer{Status: Unknown}
		}
	}
}

// look looks at a request once. It gives the answer, or what to wait for before the next look.
func (st *Store) look(ctx context.Context, r *Request) (Answer, waiter) {
	sh := st.shard(r.Key)
	now := st.clock.now()
	sh.mu.Lock()
	if a, ok := st.try(sh, sh.sessions[string(r.Key)], r, now); ok {
		sh.mu.Unlock()
		return a, nil
	}
	s := sh.sessions[string(r.Key)]
	if s == nil {
		s = &session{key: string(r.Key)}
		sh.put(s)
	}
	if s.state == frozen {
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
		q = &inquiry{want: wants(r.Op), session: s, done: make(chan struct{})}
		s.busy.inquiry = q
	}
	q.waiters++
	sh.mu.Unlock()

	if mine {
		st.ask(ctx, sh, q, r)
	}
	until(q.done)(ctx)
	return st.answered(ctx, sh, q, r, mine)
}

// ask puts the question and ends the inquiry with what came of it. The client's going away does
// not end it: others may wait for the same session, and a write that came in whole is carried
// out. The fetch time-out does.
func (st *Store) ask(ctx context.Context, sh *shard, q *inquiry, r *Request) {
	ctx, cancel := detached(ctx)
	defer cancel()
	s := q.session
	v := st.farm.Ask(ctx, Question{Key: s.key, Want: q.want})

	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.busy == nil || s.busy.inquiry != q {
		return // the session has arrived, which ended the inquiry
	}
	if v.Outcome == Missing {
		switch {
		case len(v.Creating) > 0 && (q.want != Create || st.yields(s, v.Creating, now.mono)):
			v.Outcome = NotKnown
		case q.want == Create:
			s.deleted = max(s.deleted, min(v.Deleted, maxStamp))
			st.create(sh, s, r, now)
			q.created, v = true, Verdict{Outcome: Arrived}
		}
	}
	st.end(sh, s, v)
}

// yields: of two nodes that are about to create one key the smaller name stores it, but a node
// that promised another that the key is missing here lets that one go first.
func (st *Store) yields(s *session, creating []string, now int64) bool {
	for _, node := range creating {
		if node < st.node || now < s.busy.promises[node] {
			return true
		}
	}
	return false
}

// end closes the session's inquiry with a verdict. Those who waited for a session that is here now
// are served before it moves on. The shard is locked.
func (st *Store) end(sh *shard, s *session, v Verdict) {
	q := s.busy.inquiry
	s.busy.inquiry = nil
	q.verdict = v
	if v.Outcome == Arrived {
		s.busy.reserved += q.waiters
	}
	close(q.done)
	st.tidy(sh, s)
}

// tidy lets go what an entry does not need any more, and the entry itself when it says nothing.
// The shard is locked.
func (st *Store) tidy(sh *shard, s *session) {
	s.idle()
	if s.state != absent {
		return
	}
	switch {
	case s.busy == nil:
		if sh.sessions[s.key] == s {
			sh.forget(s)
		}
	case s.busy.inquiry == nil && len(s.busy.promises) > 0:
		s.expires = st.clock.now().mono + promiseFor*int64(st.fetchTimeout)
	}
}

// answered is a request's second look, when the inquiry that it waited for is over, or its own time.
func (st *Store) answered(ctx context.Context, sh *shard, q *inquiry, r *Request, mine bool) (Answer, waiter) {
	now := st.clock.now()
	sh.mu.Lock()
	select {
	case <-q.done:
	default:
		q.waiters--
		sh.mu.Unlock()
		return Answer{Status: Unknown}, nil
	}
	v, stale := q.verdict, q.stale && !mine
	if v.Outcome == Arrived {
		if q.session.busy != nil && q.session.busy.reserved > 0 {
			if q.session.busy.reserved--; q.session.busy.reserved == 0 {
				q.session.wake()
			}
			st.tidy(sh, q.session)
		}
	}
	if mine && q.created {
		sh.mu.Unlock()
		return Answer{}, nil
	}
	if s := sh.sessions[string(r.Key)]; s != nil && s.state == held && !s.expired(now.mono) {
		a := st.apply(sh, s, r, now)
		sh.mu.Unlock()
		return a, nil
	}
	sh.mu.Unlock()
	return st.conclude(ctx, q.want, v, r, stale)
}

// conclude makes of a verdict the answer to a request, or what to wait for before asking again.
func (st *Store) conclude(ctx context.Context, asked Want, v Verdict, r *Request, stale bool) (Answer, waiter) {
	switch v.Outcome {
	case Missing:
		if stale || wants(r.Op) == Create {
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
		case v.Locked:
			return Answer{Status: Locked, Cookie: v.Cookie, LockAge: v.LockAge}, nil
		case asked != Move:
			return Answer{}, atOnce
		}
	case Arrived:
		return Answer{}, atOnce // and it has gone again already
	case NotKnown:
		if len(v.Creating) > 0 {
			return Answer{}, pause(againAfter)
		}
		if writes(r.Op) {
			return Answer{}, pause(retryAfter)
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
		return Answer{}, pause(againAfter)
	case err != nil:
		st.log.Warn("a write was passed to the session's holder, and no answer came back; the client's connection is closed, so that it raises an error",
			"peer", holder, "op", r.Op.String(), "session", KeyHash(string(r.Key)), "error", err)
		return Answer{Status: Unknown}, nil
	}
	return a, nil
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

// detached is a context with the deadline of ctx that does not end when the client goes away.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, end)
}

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

// pause waits for about d, by chance longer or shorter, so that two who wait for each other part.
func pause(d time.Duration) waiter {
	return func(ctx context.Context) bool {
		t := time.NewTimer(d/2 + rand.N(d))
		defer t.Stop()
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
