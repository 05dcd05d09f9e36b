package store

import "time"

// Times that notes are kept.
const (
	// tombstoneExtra is how much longer than the session's own timeout its deletion is remembered.
	tombstoneExtra = 10 * time.Minute
	// tombstoneForever is how long the deletion of a session that never expires is remembered.
	tombstoneForever = 30 * 24 * time.Hour
	// movedNote is the least time that a node remembers where it gave a session to.
	movedNote = 60 * time.Second
)

// bury makes a held session a deletion: a record of its own, without a body, that wins from every
// older copy of the session. The shard is locked.
func (st *Store) bury(sh *shard, s *session, stamp Stamp, now int64) {
	if s.state == held || s.state == frozen {
		sh.drop(s)
	}
	if b := sh.backups[s.key]; b != nil {
		sh.dropBackup(b)
	}
	if s.busy != nil {
		s.busy.to = Peer{}
	}
	s.state, s.stamp, s.deleted, s.flags, s.floor = deleted, stamp, stamp, 0, 0
	if s.timeout == 0 {
		s.expires = now + int64(tombstoneForever)
	} else {
		s.expires = deadline(now, s.timeout) + int64(tombstoneExtra)
	}
	st.changed(s, now)
	s.wake()
	s.idle()
	sh.disk.session(s)
}

const (
	sweepEvery = time.Second
	// sweepRound is how long a pass over all shards takes: an expired session's memory is given
	// back at most this late. It is refused at look-up the moment it is expired.
	sweepRound = 15 * time.Second
	// sweepChunk bounds how many entries are looked at while a shard's lock is held.
	sweepChunk = 256
)

// sweep removes what has expired, a few shards at a time, until the store is closed. There is no
// timer per session: a request only writes the new time into the session.
func (st *Store) sweep() {
	defer close(st.swept)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	perTick := (len(st.shards) + int(sweepRound/sweepEvery) - 1) / int(sweepRound/sweepEvery)
	next := 0
	for {
		select {
		case <-st.closing:
			return
		case <-tick.C:
		}
		st.alive(st.clock.now())
		for range perTick {
			st.sweepShard(&st.shards[next])
			next = (next + 1) % len(st.shards)
		}
		now := st.clock.now().mono
		st.heard.age(now)
		st.receipts.age(now)
	}
}

// sweepShard goes through one shard, letting requests in between every few entries. A map may
// change while it is ranged over; only not at the same time, which the lock sees to.
func (st *Store) sweepShard(sh *shard) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now, seen := st.clock.now().mono, 0
	largest := int64(0)
	sh.swept = 0
	for _, s := range sh.sessions {
		if s.expired(now) {
			st.expire(sh, s)
		} else if b := s.busy; b != nil && now >= b.stays {
			b.stays = 0
			s.idle()
		}
		if s.state == held || s.state == frozen {
			largest = max(largest, s.size())
		}
		if s.copies != nil {
			st.renew(s)
		}
		if sh.disk != nil && s.state == held && s.expires-s.saved > deadline(0, s.timeout)/10 {
			sh.disk.session(s) // a request only writes the new time into the session
		}
		if seen++; seen%sweepChunk == 0 {
			sh.mu.Unlock()
			sh.mu.Lock()
		}
	}
	sh.largest = max(largest, sh.swept)
	for _, b := range sh.backups {
		if b.expired(now) {
			sh.dropBackup(b)
		}
		if seen++; seen%sweepChunk == 0 {
			sh.mu.Unlock()
			sh.mu.Lock()
		}
	}
	if sh.most > sweepChunk && len(sh.sessions) < sh.most/4 {
		smaller := make(map[string]*session, len(sh.sessions))
		for k, s := range sh.sessions {
			smaller[k] = s
		}
		sh.sessions, sh.most = smaller, len(smaller)
	}
}
