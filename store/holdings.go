package store

import "time"

// Holding is what this node has of a key: a session that it holds, or a deletion.
type Holding struct {
	Key     string
	Version Version
}

// Holdings calls f with what has been used, deleted or taken over here in the last d, some hundred keys at a
// time, until it gives false. It may give more than that, never less: a session without a timeout is
// always given.
func (st *Store) Holdings(d time.Duration, f func([]Holding) bool) {
	for i := range st.shards {
		sh := &st.shards[i]
		var all []Holding
		sh.mu.Lock()
		now := st.clock.now().mono
		for _, s := range sh.sessions {
			if (s.state == held || s.state == frozen || s.state == deleted) && !s.expired(now) && s.used() >= now-int64(d) {
				all = append(all, Holding{s.key, s.version()})
			}
		}
		sh.mu.Unlock()
		if len(all) > 0 && !f(all) {
			return
		}
	}
}

// used is when (monotonic ns) a session was last asked for, or came here, or was deleted; or later.
func (s *session) used() int64 {
	if s.expires == 0 {
		return 1<<63 - 1
	}
	at := s.expires - deadline(0, s.timeout)
	if s.state == deleted {
		at -= int64(tombstoneExtra)
	}
	if s.copies != nil {
		at = max(at, s.copies.came)
	}
	return at
}
