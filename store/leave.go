package store

import "time"

// Leave makes the store give its sessions away (see HandOut) and take none in: it fetches none for its
// requests, and refuses those that are offered. Requests for sessions that are here are still served, and
// writes to those that have left are passed on. There is no way back.
func (st *Store) Leave() { st.leaving.Store(true) }

// Choice says which sessions HandOut gives.
type Choice uint8

// The choices, each but There with those before it. Sessions of which the peer keeps the backup go after the others:
// anywhere else they need no new one.
const (
	Apart    Choice = iota // neither locked nor backed up at the peer
	Unlocked               // not locked
	Anything               // locked ones go with their locks
	// There: only those backed up at the peer, the locked ones as well. They need no more memory there, so a node that has
	// none left takes them all the same.
	There
)

// HandOut freezes up to n held sessions, fewer when their bodies come to so many bytes, and gives the
// hand-overs for sending them to a peer; none, when there are no more. The page that has the lock of one is
// served through this node for as long as it answers.
func (st *Store) HandOut(to Peer, n, bytes int, which Choice) []*Handover {
	var keeper *Outbox
	if o := st.keepers.Load().by[to.Node]; (which == Apart || which == There) && o != nil && o.Peer == to {
		keeper = o
	}
	var out []*Handover
	size := 0
	begin := int(st.handOut.Add(1)) // so that two who hand out do not go through the same shards
	for i := range st.shards {
		sh := &st.shards[(begin*7+i)%len(st.shards)]
		now := st.clock.now()
		sh.mu.Lock()
		if sh.held > 0 {
			for _, s := range sh.sessions {
				if len(out) == n || size >= bytes {
					break
				}
				if s.state == held && !s.expired(now.mono) && (which >= Anything || s.lock == 0) && s.keptBy(keeper) == (which == There) {
					out = append(out, st.freeze(s, to, now))
					size += len(s.body)
				}
			}
		}
		sh.mu.Unlock()
		if len(out) == n || size >= bytes {
			break
		}
	}
	return out
}

// keptBy tells whether a keeper has the session as it is; nil: no.
func (s *session) keptBy(o *Outbox) bool {
	if o == nil || s.copies == nil {
		return false
	}
	a := s.copies.find(o)
	return a != nil && a.stamp == s.stamp
}

// lockAge is how long the session has been locked.
func (s *session) lockAge(now int64) time.Duration {
	if s.lock == 0 {
		return 0
	}
	return time.Duration(now - s.lockedAt)
}
