package store

import (
	"context"
	"errors"
	"time"
)

// A farm that takes the place of an old state server may have its sessions come over one by one, while both run. A
// session that is nowhere in the farm is looked for there; if a page wants to read it, it is locked there, stored here
// and deleted there (takeover.go, remnants.go). The web servers do not use the old server any more, so what the farm has, or has
// had and ended, is the truth, and what the old server has of it a remnant.
//
// Two nodes may look for one session at the same moment. The old server's lock lets one of them have it. And since that one
// stores the session before it deletes it there, and a node that finds nothing there asks the farm again before it says so,
// or creates the key, none takes a session for missing that another is just taking over.

// Upstream is an old state server, as the store sees it.
type Upstream interface {
	// Do has it carry out a request and gives its answer. An error says that there was none: the request may or may not
	// have been carried out. Nobody else has the answer's body. As many bytes of it as r.Counted then says are counted by
	// Store.Reserve, until GiveBack. Full: it was carried out, and the answer is right, but there was no memory for its
	// body of so many bytes, of which none are counted; with ErrOutsized there never will be. It may be called concurrently.
	Do(ctx context.Context, r *Request) (Answer, error)
}

// ErrOutsized says that an answer of the old server is larger than a session may be here.
var ErrOutsized = errors.New("a session that is larger than this node takes")

// upstreamTime is how long the old server may take for one answer: as long as ASP.NET would wait. Taking a session over goes
// on for so long, whatever became of the request that caused it.
const upstreamTime = 10 * time.Second

// JoinUpstream has the store take sessions over from an old state server. It is to be called after OpenJournal
// and before the first request, or not at all.
func (st *Store) JoinUpstream(u Upstream) {
	st.upstream = u
	st.remnants = newRemnants(st)
	if !st.recalled {
		return
	}
	// The run that is over may have taken some of these over and not have deleted them there.
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		for _, s := range sh.sessions {
			if s.state == held {
				st.remnants.suspect(s)
			}
		}
		sh.mu.Unlock()
	}
}

// question asks the other nodes, where there are any.
func (st *Store) question(ctx context.Context, q *inquiry) Verdict {
	if st.farm == nil {
		return Verdict{Outcome: Missing}
	}
	return st.farm.Ask(ctx, Question{Key: q.session.key, Want: q.want, Wait: st.lockWait, Inquiry: q.number})
}

// seeks tells whether a key that the farm does not have is to be looked for upstream: nothing is known of the session
// here or anywhere in the farm, not even that it has ended. A backup here may have come since the others were asked, from a
// node that has just taken the session over: then the old server says so, or the farm when it is asked again.
func (st *Store) seeks(sh *shard, q *inquiry, v Verdict) bool {
	if st.upstream == nil || v.Outcome != Missing || v.Deleted != 0 || q.want == Move && len(v.Creating) > 0 {
		return false
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := q.session
	return s.busy != nil && s.busy.inquiry == q && !q.sought && s.state == absent && s.deleted == 0 && !st.remnants.has(s.key)
}

// locate asks whether the old server has a session that nobody wants to have here. Missing: the farm is to be asked
// once more.
func (st *Store) locate(ctx context.Context, sh *shard, q *inquiry) Verdict {
	a, err := st.upstream.Do(ctx, &Request{Op: Head, Key: []byte(q.session.key), Cookie: NoCookie})
	switch {
	case err != nil:
	case a.Status == OK:
		return Verdict{Outcome: AtUpstream}
	case a.Status == NotFound:
		sh.mu.Lock()
		q.sought = true
		sh.mu.Unlock()
		return Verdict{Outcome: Missing}
	}
	return Verdict{Outcome: NotKnown}
}

// concludeUpstream makes of the word that the old server has a session the answer to a request, or what to wait for.
func (st *Store) concludeUpstream(ctx context.Context, asked Want, v Verdict, visit *visit, mine bool) (Answer, waiter) {
	r := visit.r
	st.heard.add(string(r.Key), st.clock.now().mono)
	init := v.Init && mine
	switch {
	case writes(r.Op):
		return st.passUp(ctx, r)
	case r.Op == Head:
		return Answer{}, nil
	case asked != Move && st.leaving.Load():
		return Answer{Status: Unknown}, nil
	case asked != Move:
		return Answer{}, atOnce // it was only located
	case !init && visit.patient(st.clock.now().mono):
		return Answer{}, st.pause(string(r.Key), retryAfter)
	}
	return Answer{Status: Locked, Cookie: v.Cookie, LockAge: v.LockAge, Init: init}, nil
}

// passUp has the old server carry out a write of a page that began there: it has the session, mostly with that page's lock. As
// with other nodes, one whose answer is lost is never sent again.
func (st *Store) passUp(ctx context.Context, r *Request) (Answer, waiter) {
	dctx, cancel := detached(ctx)
	defer cancel()
	a, err := st.upstream.Do(dctx, r)
	if err != nil {
		st.log.Warn("a write was passed to the old state server, and no answer came back; the client's connection is closed, so that it raises an error",
			"op", r.Op.String(), "session", KeyHash(string(r.Key)), "error", err)
		return Answer{Status: Unknown}, nil
	}
	if a.Status == NotFound {
		return Answer{}, st.pause(string(r.Key), againAfter) // it has just ended, or been taken over
	}
	return a, nil
}

// UpstreamStats counts what has come of the old state server.
type UpstreamStats struct {
	Taken    uint64 // sessions that were taken over
	Remnants int    // sessions that are here, and may be there as well
	Dropped  uint64 // remnants that were deleted there
	Unsafe   bool   // there is neither a journal nor a backup: a session is deleted there when it is in this node's memory
}

// Upstream gives these figures; not ok: there is no old state server.
func (st *Store) Upstream() (s UpstreamStats, ok bool) {
	if st.upstream == nil {
		return s, false
	}
	return UpstreamStats{Taken: st.taken.Load(), Remnants: st.remnants.count(), Dropped: st.remnants.dropped.Load(),
		Unsafe: st.journal == nil && st.backups == 0}, true
}
