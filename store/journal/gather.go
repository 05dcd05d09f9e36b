package journal

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// flight is the changes that are written together, the newest of each key.
type flight struct {
	number  uint64
	changes []map[string]change // by stripe; nil before it departs, and if nothing is to be written
	bytes   int64               // of the records
	urgent  bool                // somebody waits
	last    bool                // it departed when the journal was being closed: there is no other after it
	done    chan struct{}       // closed when it is on disk or has failed
	err     error               // why it has failed; to be read after done
}

func newFlight(number uint64) *flight {
	return &flight{number: number, done: make(chan struct{})}
}

// of gives the changes of a stripe.
func (f *flight) of(stripe int) map[string]change {
	if f.changes == nil {
		return nil
	}
	return f.changes[stripe]
}

type change struct {
	head, body []byte
	deleted    bool
	ref        ref    // of the entry, as far as was known; 0: it was not
	place      *Place // where to note it; nil: nowhere
}

func (c *change) size(key string) int64 {
	return headerSize + int64(len(key)) + int64(len(c.head)) + int64(len(c.body))
}

// gathering is the changes that wait for the next flight. They are in stripes with a lock each: of one for all, somebody
// who makes very many, as the sweeper when very many sessions expire, has it most of the time, also while the system lets
// others run, and then every page waits (48 ms were seen).
type gathering struct {
	stripes [64]stripe
	seed    maphash.Seed
	pending atomic.Bool // there may be changes
}

type stripe struct {
	mu      sync.Mutex
	number  uint64            // of the flight that takes the changes
	changes map[string]change // nil: none yet
	spare   map[string]change // empty, from a flight before: it need not grow anew; nil: none
	bytes   int64             // of the records
	_       [24]byte          // the next one is on another cache line
}

func (g *gathering) begin(number uint64) {
	g.seed = maphash.MakeSeed()
	for i := range g.stripes {
		g.stripes[i].number = number
	}
}

func (g *gathering) of(key string) *stripe {
	return &g.stripes[maphash.String(g.seed, key)%uint64(len(g.stripes))]
}

// gather takes up a change, unless it comes too late, and tells the number of its flight, and whether it is the first that the
// writer need be told of.
func (g *gathering) gather(key string, c change, late bool) (number uint64, first bool) {
	s := g.of(key)
	s.mu.Lock()
	number = s.number
	if !late {
		s.put(key, c)
	}
	s.mu.Unlock()
	// After the change is there: whoever takes the changes says before that there are none.
	return number, !late && !g.pending.Load() && !g.pending.Swap(true)
}

func (s *stripe) put(key string, c change) {
	if s.changes == nil {
		if s.changes, s.spare = s.spare, nil; s.changes == nil {
			s.changes = map[string]change{}
		}
	}
	if old, ok := s.changes[key]; ok {
		s.bytes -= old.size(key)
	}
	s.changes[key] = c
	s.bytes += c.size(key)
}

// deleteAgain is a deletion that the disk has lost, while it may have older values of the key, unless the key has changed since.
func (g *gathering) deleteAgain(key string) {
	s := g.of(key)
	s.mu.Lock()
	if _, ok := s.changes[key]; !ok {
		s.put(key, change{deleted: true})
	}
	s.mu.Unlock()
	g.pending.Store(true)
}

// take gives a flight the changes that there are. What comes from now on is for the next one.
func (g *gathering) take(f *flight) {
	g.pending.Store(false)
	f.changes = make([]map[string]change, len(g.stripes))
	for i := range g.stripes {
		s := &g.stripes[i]
		s.mu.Lock()
		f.changes[i] = s.changes
		f.bytes += s.bytes
		s.changes, s.bytes, s.number = nil, 0, f.number+1
		s.mu.Unlock()
	}
}

// takeBack is for what a flight could not write, unless the key has changed since; all of it is for the flight of the
// number. forget tells what need not be written any more.
func (g *gathering) takeBack(f *flight, number uint64, forget func(key string, c change) bool) {
	for i := range g.stripes {
		s := &g.stripes[i]
		s.mu.Lock()
		for key, c := range f.of(i) {
			if _, ok := s.changes[key]; !ok && !forget(key, c) {
				s.put(key, c)
			}
		}
		s.number = number
		s.mu.Unlock()
	}
	g.pending.Store(true)
}

// mostSpare is how many changes a stripe may have had in a flight for its map to be used again: one of very many, as after
// a start, or when very many sessions expire, would be walked through and kept by all that follow.
const mostSpare = 1 << 8

// reuse takes what a flight on disk needs no longer.
func (g *gathering) reuse(f *flight) {
	for i, changes := range f.changes {
		if changes == nil || len(changes) > mostSpare {
			continue
		}
		clear(changes)
		s := &g.stripes[i]
		s.mu.Lock()
		s.spare = changes
		s.mu.Unlock()
	}
	f.changes = nil
}

// gathered is how many bytes of records no flight has taken yet.
func (g *gathering) gathered() (bytes int64) {
	for i := range g.stripes {
		s := &g.stripes[i]
		s.mu.Lock()
		bytes += s.bytes
		s.mu.Unlock()
	}
	return bytes
}
