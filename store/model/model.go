// Package model is the state protocol's table written down as plainly as it can be: one map, one
// goroutine, a clock that the caller moves. The real store and the real listener are compared with
// it, request for request; it is never part of the program.
//
// It stands for one node on its own. A request finds a session or it does not; one that finds it
// renews it first, whatever is answered then. The comments below name the operations as [MS-ASP]
// 3.1.5 does; where that document and the .NET Framework's reference source disagree, the model
// follows the latter.
package model

import (
	"slices"
	"time"

	"peerstate/store"
)

// Model holds sessions. It is not safe for concurrent use.
type Model struct {
	sessions map[string]*session
}

type session struct {
	body    []byte
	timeout int32 // minutes; 0: never expires
	seen    time.Duration
	flagged bool  // to be initialised by the first request that finds it
	cookie  int32 // of the lock, or of the last one
	locked  bool
	since   time.Duration // of the lock
}

// New gives an empty model.
func New() *Model {
	return &Model{sessions: make(map[string]*session)}
}

// Do answers r, now being the time since any fixed moment; it must not go back from call to call.
// A session is expired once its timeout has passed in full: at now == last use + timeout it is gone.
// The answer's body is a copy, and so is what is kept of r. Timeout and flags of a Put must be in
// range, since one with others never reaches a store.
func (m *Model) Do(r store.Request, now time.Duration) store.Answer {
	key := string(r.Key)
	s := m.find(key, now)
	if s == nil {
		if r.Op != store.Put {
			return store.Answer{Status: store.NotFound}
		}
		m.sessions[key] = &session{
			body:    slices.Clone(r.Body),
			timeout: r.Timeout,
			seen:    now,
			flagged: r.Flags&store.FlagUninitialized != 0,
			cookie:  1,
		}
		return store.Answer{Status: store.OK}
	}
	s.seen = now
	switch r.Op {
	case store.Get, store.Acquire, store.Release:
		a := s.get(r, now)
		a.Init, s.flagged = s.flagged, false
		return a
	case store.Put:
		return s.put(r, now)
	case store.Delete:
		a := s.mayWrite(r, now)
		if a.Status == store.OK {
			delete(m.sessions, key)
		}
		return a
	default: // Head only renews
		return store.Answer{Status: store.OK}
	}
}

// Active counts the sessions that are not expired.
func (m *Model) Active(now time.Duration) int {
	n := 0
	for key := range m.sessions {
		if m.find(key, now) != nil {
			n++
		}
	}
	return n
}

// find gives the session unless there is none or it is expired, and drops it in that case.
func (m *Model) find(key string, now time.Duration) *session {
	s := m.sessions[key]
	if s != nil && s.timeout > 0 && now-s.seen >= time.Duration(s.timeout)*time.Minute {
		delete(m.sessions, key)
		return nil
	}
	return s
}

// get is GET in its three forms.
func (s *session) get(r store.Request, now time.Duration) store.Answer {
	if r.Op == store.Release {
		return s.release(r, now)
	}
	if s.locked {
		return s.lockedAnswer(now)
	}
	a := store.Answer{Status: store.OK, Timeout: s.timeout, Body: slices.Clone(s.body)}
	if r.Op == store.Acquire {
		s.locked, s.since = true, now
		s.cookie++
		a.Cookie = s.cookie
	}
	return a
}

// release wants a cookie even where it does not look at it.
func (s *session) release(r store.Request, now time.Duration) store.Answer {
	if r.Cookie < 0 {
		return store.Answer{Status: store.BadRequest}
	}
	if s.locked && r.Cookie != s.cookie {
		return s.lockedAnswer(now)
	}
	s.locked = false
	return store.Answer{Status: store.OK}
}

// put changes a session that is there. One that would create an uninitialised session finds that
// it is not needed, and leaves everything as it is.
func (s *session) put(r store.Request, now time.Duration) store.Answer {
	if r.Flags&store.FlagUninitialized != 0 {
		return store.Answer{Status: store.OK}
	}
	a := s.mayWrite(r, now)
	if a.Status != store.OK {
		return a
	}
	s.locked = false
	s.body = slices.Clone(r.Body)
	if s.timeout != r.Timeout {
		// The flags of the request replace the pending ones only together with the timeout, and
		// those of this request do not have the bit set.
		s.timeout, s.flagged = r.Timeout, false
	}
	return a
}

// mayWrite is the check that Put and Delete share: a lock wants its own cookie, and without a lock
// any cookie will do, or none, but not a bad one.
func (s *session) mayWrite(r store.Request, now time.Duration) store.Answer {
	if r.Cookie == store.BadCookie {
		return store.Answer{Status: store.BadRequest}
	}
	if s.locked && r.Cookie != s.cookie {
		return s.lockedAnswer(now)
	}
	return store.Answer{Status: store.OK}
}

func (s *session) lockedAnswer(now time.Duration) store.Answer {
	return store.Answer{Status: store.Locked, Cookie: s.cookie, LockAge: now - s.since}
}
