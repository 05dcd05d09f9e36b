package store

import (
	"context"
	"errors"
	"time"
)

// inquiry is this node's one outstanding question about a key. Requests for the same key wait for
// it together.
type inquiry struct {
	want    Want
	session *session
	done    chan struct{} // closed when it is over and verdict is set
	// guarded by the shard's lock:
	number  uint64 // of the question that is being asked; another each time it is asked again
	verdict Verdict
	created bool // the asker's own write has been stored
	answer  Answer
	stale   bool // meanwhile another node was promised that the key is missing here
	sought  bool // the old state server has said that it does not have it
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

// ask puts the question and ends the inquiry with what came of it. The client's going away does
// not end it: others may wait for the same session, and a write that came in whole is carried
// out. The fetch time-out does, but for a session that comes from the old state server: then ask returns before the
// inquiry has ended.
func (st *Store) ask(ctx context.Context, sh *shard, q *inquiry, r *Request) {
	ctx, cancel := detached(ctx)
	defer cancel()
	st.apps.add(r.Key)
	for {
		v := st.question(ctx, q)
		if st.seeks(sh, q, v) {
			switch {
			case st.remnants.full():
				v = Verdict{Outcome: NotKnown}
			case q.want == Move && st.remnants.start(func() { st.take(sh, q) }):
				return
			case q.want == Move:
				v = Verdict{Outcome: NotKnown}
			default:
				if v = st.locate(ctx, sh, q); v.Outcome == Missing {
					continue
				}
			}
		}
		if st.weigh(sh, q, r, v) {
			return
		}
		t := time.NewTimer(st.Jitter(q.session.key, againAfter))
		select {
		case <-t.C:
		case <-q.done:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// weigh ends the inquiry with what came of its question; over is false when another node goes first, and the
// question is to be asked again. Meanwhile this node goes on saying that it is about to create the key: if it gave
// promises between its questions, several nodes could let each other go first until their time is over.
func (st *Store) weigh(sh *shard, q *inquiry, r *Request, v Verdict) (over bool) {
	s := q.session
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.busy == nil || s.busy.inquiry != q {
		return true // the session has arrived, which ended the inquiry
	}
	waits := len(v.Creating) > 0 && (q.want != Create || v.Outcome == NotKnown || st.yields(s, v.Creating, now.mono))
	switch {
	case v.Outcome != Missing && v.Outcome != NotKnown:
	case waits && q.want == Create:
		q.number = st.inquiries.Add(1)
		return false
	case waits:
		v.Outcome = NotKnown
	case v.Outcome == Missing && q.want == Create:
		s.deleted = max(s.deleted, min(v.Deleted, maxStamp))
		q.created, q.answer = true, st.create(sh, s, r, now)
		if q.answer.Status != Full {
			v = Verdict{Outcome: Arrived}
			st.serveTurns(sh, s, now)
		}
	}
	st.end(sh, s, v)
	return true
}

// yields: of two nodes that are about to create one key the smaller name stores it, but a node that has promised
// the other's question that the key is missing here lets that one go first. A promise to a question which that
// node has given up is void: it asks again itself, and hears that this one is about to create the key.
//
// So of two, X < Y, never both store by the questions x and y. If Y was not creating when x came, it has
// promised x, hears later from X that x is still open, and yields. If it was, X hears so; and y, when it came to X,
// either met x, and Y yields to the smaller name, or came before and was promised, and X yields while y is open.
// And one of all always stores. Who is creating gives no promise, so those that it has given are to questions put
// before; as soon as each of these was answered, the smallest name yields to nobody.
func (st *Store) yields(s *session, creating []Creator, now int64) bool {
	for _, c := range creating {
		if c.Node == st.node {
			continue
		}
		p := s.busy.promises[c.Peer]
		if c.Node < st.node || c.Inquiry == p.inquiry && now < p.until {
			return true
		}
	}
	return false
}

// end closes the session's inquiry with a verdict. The shard is locked.
func (st *Store) end(sh *shard, s *session, v Verdict) {
	q := s.busy.inquiry
	s.busy.inquiry = nil
	q.verdict = v
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
