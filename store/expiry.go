package store

import (
	"maps"
	"runtime"
	"time"
)

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
	sh.note(s.key, EventDeleted, "", now)
	if s.timeout == 0 {
		s.expires = now + int64(tombstoneForever)
	} else {
		s.expires = deadline(now, s.timeout) + int64(tombstoneExtra)
	}
	sh.owe(s, "")
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
	// sweepChunk bounds how many entries are looked at while a shard's lock is held. Then the sweeper lets others have
	// the processor, too: it would be 10 ms before it is taken from it, most likely while it has the lock.
	sweepChunk = 64
	// shrinkAbove is how many entries a map must have had to be made smaller.
	shrinkAbove = 256
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
			st.room.sweeping.Lock()
			seen := st.sweepShard(&st.shards[next])
			st.room.sweeping.Unlock()
			next = (next + 1) % len(st.shards)
			if seen > sweepChunk && !st.restBetween(sweepEvery/time.Duration(perTick+2)) {
				return
			}
		}
		now := st.clock.now().mono
		st.room.watch(st.log, now)
		st.heard.age(now)
		st.receipts.age(now)
	}
}

// restBetween spreads the shards of a large store over the tick, so that the sweeper does not keep a processor for as long as
// they take together. false: the store is closed.
func (st *Store) restBetween(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-st.closing:
		return false
	}
}

// sweepShard goes through one shard, letting requests in between every few entries. A map may
// change while it is ranged over; only not at the same time, which the lock sees to. It tells how many entries there were. room.sweeping is held.
func (st *Store) sweepShard(sh *shard) (seen int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := st.clock.now().mono
	letIn := func() {
		if seen++; seen%sweepChunk == 0 {
			sh.mu.Unlock()
			runtime.Gosched()
			sh.mu.Lock()
		}
	}
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
		if sh.disk != nil && s.state == held && (s.saved == standsAsBackup || s.expires-int64(s.saved)*int64(time.Second) > deadline(0, s.timeout)/10) {
			sh.disk.session(s) // a request only writes the new time into the session
		}
		letIn()
	}
	sh.largest = max(largest, sh.swept)
	for _, b := range sh.backups {
		if b.expired(now) {
			sh.dropBackup(b)
		}
		letIn()
	}
	sh.sessions, sh.most = shrunk(sh.sessions, sh.most)
	sh.backups, sh.mostKept = shrunk(sh.backups, sh.mostKept)
	return seen
}

// shrunk gives a map, or a smaller one with what is in it, if it has had four times as many entries since it was made.
func shrunk[V any](m map[string]V, most int) (map[string]V, int) {
	if most <= shrinkAbove || len(m) >= most/4 {
		return m, most
	}
	smaller := make(map[string]V, len(m))
	maps.Copy(smaller, m)
	return smaller, len(m)
}
