package proxy

import (
	"math/bits"
	"sync/atomic"
	"time"

	"peerstate/store"
)

// Statuses is how many outcomes store.Status has: for tables indexed by it.
const Statuses = int(store.Full) + 1

// StatusName is what logs and metrics call an outcome: its number on the wire, if it has one.
func StatusName(s store.Status) string { return statusNames[s] }

var statusNames = [Statuses]string{
	store.OK:         "200",
	store.BadRequest: "400",
	store.NotFound:   "404",
	store.Locked:     "423",
	store.Unknown:    "unknown",
	store.Full:       "no_memory",
}

// firstBucket and buckets set the histogram's bounds: powers of two from about a microsecond to
// about four seconds, and one bucket for what took longer.
const (
	firstBucket = 10 // 2^10 ns
	buckets     = 24
)

// Bounds are the upper bounds in seconds of a Histogram's buckets but the last, which has none.
func Bounds() []float64 {
	b := make([]float64, buckets-1)
	for i := range b {
		b[i] = time.Duration(1 << (firstBucket + i)).Seconds()
	}
	return b
}

// Histogram is how long requests of one kind took, in the manner of Prometheus.
type Histogram struct {
	Count      uint64
	Seconds    float64  // in all
	Cumulative []uint64 // requests that took at most Bounds()[i]
}

// Metrics are the counters of a server, all since it was made but Open.
type Metrics struct {
	// Requests counts those that reached their end, by operation and outcome. Unknown are those
	// of which the truth could not be had: reads were answered 423, writes not at all. Full are writes that there
	// was no memory for: they were not answered.
	Requests [store.Ops][Statuses]uint64
	// Times run from the moment a request was complete until its answer was ready, so they
	// contain the wait for other nodes and for locks, and not the client's speed.
	Times   [store.Ops]Histogram
	Open    int    // connections open now
	Refused uint64 // connections closed at once, being too many
	// Bad counts what was answered 400 without being one of Requests: other protocols, broken
	// or oversized requests, other methods.
	Bad    uint64
	Undone uint64 // answers to Acquire, or with ActionFlags, that were taken back: nobody was there to read them
	Slow   uint64 // clients cut because they took too long to send a request or to read an answer
}

// counters are written by every request. They are spread, so that connections served by different
// processors do not pass the same few cache lines to and fro.
type counters struct {
	refused, bad, undone, slow atomic.Uint64

	next   atomic.Uint32
	shares [64]share
}

// share is by operation. A connection has one, which it may have to share with others.
type share [store.Ops]struct {
	requests [Statuses]atomic.Uint64
	nanos    atomic.Uint64
	taken    [buckets]atomic.Uint64
	_        [8]byte // a multiple of a cache line in all
}

// share gives a connection the counters it is to use.
func (c *counters) share() *share {
	return &c.shares[c.next.Add(1)%uint32(len(c.shares))]
}

// count takes a request in.
func (h *share) count(op store.Op, status store.Status, took time.Duration) {
	o := &h[op]
	o.requests[status].Add(1)
	o.taken[bucket(took)].Add(1)
	o.nanos.Add(uint64(took))
}

// bucket is the first whose bound is not below d.
func bucket(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return min(bits.Len64(uint64(d-1)>>firstBucket), buckets-1)
}

// Metrics adds up the counters. It takes some tens of microseconds, and the figures of requests that end
// meanwhile may be in one of them and not yet in another.
func (s *Server) Metrics() Metrics {
	c := &s.counters
	m := Metrics{
		Refused: c.refused.Load(), Bad: c.bad.Load(), Undone: c.undone.Load(), Slow: c.slow.Load(),
	}
	s.mu.Lock()
	m.Open = len(s.conns)
	s.mu.Unlock()
	for op := range store.Ops {
		t := &m.Times[op]
		t.Cumulative = make([]uint64, buckets-1)
		for i := range c.shares {
			h := &c.shares[i][op]
			for status := range h.requests {
				m.Requests[op][status] += h.requests[status].Load()
			}
			for b := range h.taken {
				n := h.taken[b].Load()
				t.Count += n
				if b < len(t.Cumulative) {
					t.Cumulative[b] += n
				}
			}
			t.Seconds += time.Duration(h.nanos.Load()).Seconds()
		}
		for b := 1; b < len(t.Cumulative); b++ {
			t.Cumulative[b] += t.Cumulative[b-1]
		}
	}
	return m
}
