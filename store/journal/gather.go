package journal

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// flight is the changes that are written together, the newest of each key.
type flight struct {
	number  uint64
	batches []batch       // by stripe; nil before it departs, and if nothing is to be written
	bytes   int64         // of the records
	urgent  bool          // somebody waits
	last    bool          // it departed when the journal was being closed: there is no other after it
	done    chan struct{} // closed when it is on disk or has failed
	err     error         // why it has failed; to be read after done
}

func newFlight(number uint64) *flight {
	return &flight{number: number, done: make(chan struct{})}
}

// of gives the changes of a stripe.
func (f *flight) of(stripe int) map[string]change {
	if f.batches == nil {
		return nil
	}
	return f.batches[stripe].changes
}

type change struct {
	head, body []byte // head is in the batch's
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
	mu     sync.Mutex
	number uint64   // of the flight that takes the changes
	batch           // without a map: none yet
	spare  batch    // empty, from a flight before: it need not grow anew; without a map: none
	bytes  int64    // of the records
	_      [40]byte // the next one is on another cache line
}

// batch is changes and their heads, together: of one each, the collector would have much to do, and have those wait who make the changes.
type batch struct {
	changes map[string]change
	heads   []byte
}

// keep gives a copy of a head, if possible in place of another, which is not needed any more.
func (b *batch) keep(head, instead []byte) []byte {
	if len(head) <= cap(instead) {
		return append(instead[:0], head...)
	}
	n := len(b.heads)
	b.heads = append(b.heads, head...)
	return b.heads[n:len(b.heads):len(b.heads)]
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

// gather takes up a change and a copy of its head, unless it comes too late, and tells the number of its flight, and whether it is the
// first that the writer need be told of.
func (g *gathering) gather(key string, head []byte, c change, late bool) (number uint64, first bool) {
	s := g.of(key)
	s.mu.Lock()
	number = s.number
	if !late {
		s.put(key, head, c)
	}
	s.mu.Unlock()
	// After the change is there: whoever takes the changes says before that there are none.
	return number, !late && !g.pending.Load() && !g.pending.Swap(true)
}

func (s *stripe) put(key string, head []byte, c change) {
	if s.changes == nil {
		if s.batch, s.spare = s.spare, (batch{}); s.changes == nil {
			s.changes = map[string]change{}
		}
	}
	old, ok := s.changes[key]
	if ok {
		s.bytes -= old.size(key)
	}
	c.head = s.keep(head, old.head)
	s.changes[key] = c
	s.bytes += c.size(key)
}

// deleteAgain is a deletion that the disk has lost, while it may have older values of the key, unless the key has changed since.
func (g *gathering) deleteAgain(key string) {
	s := g.of(key)
	s.mu.Lock()
	if _, ok := s.changes[key]; !ok {
		s.put(key, nil, change{deleted: true})
	}
	s.mu.Unlock()
	g.pending.Store(true)
}

// take gives a flight the changes that there are. What comes from now on is for the next one.
func (g *gathering) take(f *flight) {
	g.pending.Store(false)
	f.batches = make([]batch, len(g.stripes))
	for i := range g.stripes {
		s := &g.stripes[i]
		s.mu.Lock()
		f.batches[i] = s.batch
		f.bytes += s.bytes
		s.batch, s.bytes, s.number = batch{}, 0, f.number+1
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
				s.put(key, c.head, c)
			}
		}
		s.number = number
		s.mu.Unlock()
	}
	g.pending.Store(true)
}

// mostSpare is how many changes a stripe may have had in a flight for its map to be used again, and mostHeads how many bytes of heads: one
// of very many, as after a start, or when very many sessions expire, would be walked through and kept by all that follow.
const (
	mostSpare = 1 << 8
	mostHeads = 64 << 10
)

// reuse takes what a flight on disk needs no longer.
func (g *gathering) reuse(f *flight) {
	for i, b := range f.batches {
		if b.changes == nil || len(b.changes) > mostSpare || cap(b.heads) > mostHeads {
			continue
		}
		clear(b.changes)
		s := &g.stripes[i]
		s.mu.Lock()
		s.spare = batch{b.changes, b.heads[:0]}
		s.mu.Unlock()
	}
	f.batches = nil
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
