package store

import (
	"context"
	"time"
)

// Sync says whether what a request has changed is answered before its backups have it: a write, and that one
// client has been told to initialise the session. No other request waits.
type Sync uint8

// The ways to answer such a request.
const (
	SyncOff Sync = iota // at once
	SyncOn              // when its backups have it, or after a second, or at once where no keeper is linked
	// SyncStrict is the same, but then the outcome is Unknown: a write may have been carried out, and what a read
	// has changed is taken back.
	SyncStrict
)

// syncWait is the longest that an answer waits for backups.
const syncWait = time.Second

func (st *Store) syncing() bool { return st.sync != SyncOff && st.backups > 0 }

// syncs tells whether a request is a write whose answer waits for backups.
func (st *Store) syncs(r *Request) bool {
	return (r.Op == Put || r.Op == Delete) && st.syncing()
}

// safe waits until the disk and the backups have what a request has just changed, as far as that is asked for, and gives
// the answer that its client gets. Who has been told to initialise a session is the only one who ever is, also after a
// crash of its holder. So it is told when the backups know; an answer that does not come to that has told nobody, and
// another one may be.
func (st *Store) safe(ctx context.Context, r *Request, a Answer) Answer {
	if a.Status == OK && writes(r.Op) {
		st.forced(ctx, a.Mark) // a release as well, or a lock that nobody has would be there again after a crash
	}
	wrote := a.Status == OK && (r.Op == Put || r.Op == Delete)
	if !(wrote || a.Init) || !st.syncing() {
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, syncWait)
	defer cancel()
	for {
		enough, changed := st.backedUp(string(r.Key), a.Stamp)
		if enough {
			return a
		}
		if changed == nil || !until(changed)(ctx) {
			break
		}
	}
	st.unsynced.Add(1)
	if st.sync == SyncStrict {
		if a.Init {
			st.Undo(r.Key, a)
		}
		return Answer{Status: Unknown}
	}
	return a
}

// backedUp tells whether the change of a stamp, or a later one, has enough backups. Otherwise it gives what to
// wait for; nil where no keeper is linked that could have it soon.
func (st *Store) backedUp(key string, stamp Stamp) (enough bool, changed <-chan struct{}) {
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[key]
	if stamp != 0 && s != nil && s.state == frozen {
		return false, s.wait() // on its way; if it arrives, there are two copies
	}
	if stamp != 0 && s != nil && s.state == moved {
		b := sh.backups[key]
		return b != nil && b.stamp >= stamp, nil // without memory for a copy, only who got it has one just now
	}
	if stamp == 0 || s == nil || s.state == absent || s.copies == nil {
		// It was stored by the holder, who has waited; or nobody had a copy of what was deleted.
		return true, nil
	}
	n, soon := 0, false
	for i := range s.copies.at {
		a := &s.copies.at[i]
		soon = soon || a.queued
		if a.stamp >= stamp && a.told != 0 && !a.out.gone.Load() {
			n++
		}
	}
	if s.state == held && n >= st.backups {
		return true, nil
	}
	if !soon {
		return false, nil
	}
	if s.copies.wait == nil {
		s.copies.wait = make(chan struct{})
	}
	return false, s.copies.wait
}
