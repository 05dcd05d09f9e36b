package store

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// heardFor is how long a key is remembered at least.
	heardFor = 10 * time.Minute
	// heardMost bounds the memory for that (some 20 MB in all); past it every key counts as heard of.
	heardMost = 500_000
)

// heard remembers for which keys this node said "no such session" not long ago, or heard that another
// node has the session. A write under such a key asks first, because the session may be elsewhere by
// now. It may remember too
// much, which costs a question, never too little. Keys are kept as 64-bit hashes.
type heard struct {
	mu       sync.Mutex
	seed     maphash.Seed
	young    map[uint64]struct{}
	old      map[uint64]struct{}
	since    int64 // when young was begun, monotonic ns
	fullTill int64 // until when everything counts as heard of
}

func newHeard() *heard {
	return &heard{seed: maphash.MakeSeed(), young: map[uint64]struct{}{}}
}

func (h *heard) add(key string, now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.young) >= heardMost {
		h.fullTill = now + int64(heardFor)
		return
	}
	h.young[maphash.String(h.seed, key)] = struct{}{}
}

func (h *heard) has(key []byte, now int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now < h.fullTill {
		return true
	}
	sum := maphash.Bytes(h.seed, key)
	if _, ok := h.young[sum]; ok {
		return true
	}
	_, ok := h.old[sum]
	return ok
}

// age lets go what was added more than two times heardFor ago.
func (h *heard) age(now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now-h.since >= int64(heardFor) {
		h.old, h.young, h.since = h.young, map[uint64]struct{}{}, now
	}
}
