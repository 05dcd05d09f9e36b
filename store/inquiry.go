package store

import (
	"context"
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

// detached is a context with the deadline of ctx that does not end when the client goes away.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, end)
}
