package store

import "time"

// Leave makes the store give its sessions away (see HandOut) and take none in: it fetches none for its
// requests, and refuses those that are offered. Requests for sessions that are here are still served, and
// writes to those that have left are passed on. There is no way back.
func (st *Store) Leave() { st.leaving.Store(true) }

// HandOut freezes up to n held sessions and gives the hand-overs for sending them to a peer; fewer, when
// there are no more. Locked sessions go too if locked is set, with their locks: the page that has the
// lock is served through this node for as long as it answers.
func (st *Store) HandOut(to Peer, n int, locked bool) []*Handover {
	var out []*Handover
	begin := int(st.handOut.Add(1)) // so that two who hand out do not go through the same shards
	for i := range st.shards {
		sh := &st.shards[(begin*7+i)%len(st.shards)]
		now := st.clock.now()
		sh.mu.Lock()
		if sh.held > 0 {
			for _, s := range sh.sessions {
				if len(out) == n {
					break
				}
				if s.state == held && !s.expired(now.mono) && (locked || s.lock == 0) {
					out = append(out, st.freeze(s, to, now))
				}
			}
		}
		sh.mu.Unlock()
		if len(out) == n {
			break
		}
	}
	return out
}

// lockAge is how long the session has been locked.
func (s *session) lockAge(now int64) time.Duration {
	if s.lock == 0 {
		return 0
	}
	return time.Duration(now - s.lockedAt)
}
