package store

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// Which sessions' locks are met most is counted only when a request has met one, and after it has waited: nothing else
// pays for it. There are two tables of a span each, the present one and the one before.
const (
	contendedSpan = 5 * time.Minute
	maxContended  = 512 // sessions in a table; of more, those met least are let go
	topContended  = 10  // that are shown
)

// contentions counts requests that met a lock.
type contentions struct {
	mu sync.Mutex
	// guarded by mu:
	begun       int64 // of the present table, monotonic ns
	now, before map[string]contention
	full        bool // before is a span of its own, and not nothing yet
}

// contention is what happened to one session's lock.
type contention struct {
	met             uint64
	waited, longest time.Duration
}

func newContentions(now int64) *contentions {
	return &contentions{begun: now, now: map[string]contention{}}
}

// met counts a request in that has waited so long for a lock.
func (c *contentions) met(key string, waited time.Duration, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(now)
	x, known := c.now[key]
	if !known && len(c.now) >= maxContended {
		for least := uint64(1); len(c.now) > maxContended/2; least *= 2 {
			maps.DeleteFunc(c.now, func(_ string, x contention) bool { return x.met <= least })
		}
	}
	c.now[key] = contention{x.met + 1, x.waited + waited, max(x.longest, waited)}
}

// turn begins another table when the present one's span is over. c.mu is held.
func (c *contentions) turn(now int64) {
	for now-c.begun >= int64(contendedSpan) {
		if now-c.begun >= 2*int64(contendedSpan) {
			clear(c.now) // it is too old to be the one before
			c.begun = now - int64(contendedSpan)
		}
		c.before, c.now, c.full = c.now, map[string]contention{}, true
		c.begun += int64(contendedSpan)
	}
}

// top gives those that were met most, and over which time.
func (c *contentions) top(now int64) (keys []string, by map[string]contention, over time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(now)
	by = maps.Clone(c.now)
	for key, x := range c.before {
		y := by[key]
		by[key] = contention{x.met + y.met, x.waited + y.waited, max(x.longest, y.longest)}
	}
	keys = slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b].met, by[a].met), cmp.Compare(by[b].waited, by[a].waited), cmp.Compare(a, b))
	})
	over = time.Duration(now - c.begun)
	if c.full {
		over += contendedSpan
	}
	return keys[:min(len(keys), topContended)], by, over
}

// Contended is a session whose lock requests of this node have met.
type Contended struct {
	Hash    string        // KeyHash of its key
	Met     uint64        // how many did
	Waited  time.Duration // in all
	Longest time.Duration // of one of them
	Waiting int           // requests, and other nodes, that wait for it now
	Locked  time.Duration // for how long it has been locked; 0: it is not, or not here
}

// Contended gives the sessions whose locks were met most, ten at most and that first which was met most, and over
// which time, between five and ten minutes once this process runs that long. What is met from another node counts there.
func (st *Store) Contended() (most []Contended, over time.Duration) {
	now := st.clock.now().mono
	keys, by, over := st.contentions.top(now)
	for _, key := range keys {
		x := Contended{Hash: KeyHash(key), Met: by[key].met, Waited: by[key].waited, Longest: by[key].longest}
		sh := st.shardOf(key)
		sh.mu.Lock()
		if s := sh.sessions[key]; s != nil && s.state == held {
			if s.busy != nil {
				x.Waiting = len(s.busy.turns)
			}
			if s.lock != 0 {
				x.Locked = time.Duration(now - s.lockedAt)
			}
		}
		sh.mu.Unlock()
		most = append(most, x)
	}
	return most, over
}
