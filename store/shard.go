package store

import (
	"hash/maphash"
	"sync"
)

// shardBits sets how many maps the keys are spread over: enough that the locks are hardly ever
// fought for, and that going through one of a million sessions takes under a millisecond.
const shardBits = 8

// shard is a part of the keys with the lock that guards it.
type shard struct {
	room *room // of the store
	mu   sync.Mutex
	// guarded by mu:
	sessions  map[string]*session
	most      int   // the most entries since the map was made: maps do not shrink by themselves
	held      int   // how many sessions this node holds
	bytes     int64 // of their keys and bodies
	largest   int64 // none of them has more; the sweeper brings it down
	swept     int64 // none has been written with more since the sweeper began with this shard
	created   uint64
	backups   map[string]*backup // nil: there were none yet
	mostKept  int                // the most of them since the map was made
	places    []*places          // that backups have
	keptBytes int64              // of their keys and bodies
	recalled  int                // of them: sessions that an earlier run of this node held
	disk      *disk              // nil: there is no journal
	history   history
	// abandoned: ended by the client. timedOut: ended by their own time.
	abandoned, timedOut uint64

	_ [64]byte // keeps the next shard's lock out of this one's cache line
}

// shardSeed keeps others from choosing keys that all fall into one shard.
var shardSeed = maphash.MakeSeed()

func (st *Store) shard(key []byte) *shard {
	return &st.shards[maphash.Bytes(shardSeed, key)>>(64-shardBits)]
}

func (st *Store) shardOf(key string) *shard {
	return &st.shards[maphash.String(shardSeed, key)>>(64-shardBits)]
}

func (sh *shard) put(s *session) {
	sh.sessions[s.key] = s
	sh.room.used.Add(sh.room.entryOf(s.key))
	sh.most = max(sh.most, len(sh.sessions))
}

// hold counts a session in that this node has become the holder of.
func (sh *shard) hold(s *session) {
	s.state = held
	sh.owe(s, "")
	sh.held++
	sh.bytes += s.size()
	sh.room.used.Add(int64(len(s.body)))
	sh.grown(s)
}

// grown notes the size of a session that is held, for Largest.
func (sh *shard) grown(s *session) {
	size := s.size()
	sh.largest, sh.swept = max(sh.largest, size), max(sh.swept, size)
}

// drop counts a session out that this node holds no longer, and lets its contents go. What the
// entry becomes is the caller's business.
func (sh *shard) drop(s *session) {
	sh.held--
	sh.bytes -= s.size()
	sh.room.used.Add(-int64(len(s.body)))
	s.superseded()
	s.body, s.lock, s.whose = nil, 0, 0
}

// forget removes a key altogether.
func (sh *shard) forget(s *session) {
	delete(sh.sessions, s.key)
	sh.room.used.Add(-sh.room.entryOf(s.key))
	sh.owe(s, "")
	s.wake()
}

// expire removes a session whose time is over, or a note that is no longer needed.
func (st *Store) expire(sh *shard, s *session) {
	st.dropCopies(s, s.state == held)
	if s.state != absent {
		sh.disk.forget(s)
	}
	if s.state == held {
		sh.timedOut++
		sh.note(s.key, EventExpired, "", s.expires)
		sh.drop(s)
	}
	if b := s.busy; b != nil {
		promised := b.promised()
		if b.inquiry != nil {
			promised = 0 // until the question is answered, which somebody waits for
		}
		if b.inquiry != nil || promised > s.expires {
			b.to = Peer{}
			s.state, s.expires = absent, promised
			s.wake()
			return
		}
	}
	st.dropCopies(s, false)
	sh.forget(s)
}
