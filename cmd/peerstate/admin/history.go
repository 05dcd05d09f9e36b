package admin

import (
	"context"
	"math"
	"sync"
	"time"
)

// Every is how often the history takes a sample, and kept is how many it keeps: ten minutes of them.
const (
	Every = 2 * time.Second
	kept  = 300
)

// Reading is what a sample is made of: what the parts of the program have counted since the start, and how things are
// now.
type Reading struct {
	Requests uint64    // of the web server, all kinds
	Refused  uint64    // of them: answered with no truth (423 for not known), or not at all (a closed connection: not known, or no memory left)
	Locked   uint64    // of them: answered 423 for a lock
	Took     Histogram // of them
	Fetches  uint64    // questions to the other nodes
	Arrived  uint64    // of them: the session came here
	NotKnown uint64    // of them: nobody could say
	Fetched  Histogram // of them
	Waited   Histogram // requests that met a lock

	Sessions, Backups, Waiting, Pending int
	Bytes, BackupBytes                  int64
	PendingFor                          time.Duration // since the oldest change of Pending
}

// Sample is what happened between two readings, and how things were at the second one. What is null did not
// happen. The names in JSON are short since a page gets hundreds of them.
type Sample struct {
	Number   int64    `json:"n"`   // of this run of the sidecar, rising by one
	At       int64    `json:"at"`  // ms since 1970
	Requests float64  `json:"req"` // a second, like all that are not said to be something else
	Refused  float64  `json:"ref"`
	Locked   float64  `json:"lock"`
	P50      *float64 `json:"p50"` // of the time that requests took, in ms
	P99      *float64 `json:"p99"`
	Fetches  float64  `json:"fetch"`
	Arrived  float64  `json:"came"`
	NotKnown float64  `json:"unknown"`
	Fetch50  *float64 `json:"fetch50"` // ms
	Fetch99  *float64 `json:"fetch99"`
	Here     *float64 `json:"here"`    // share of the requests, 0 to 1, that asked no other node
	Wait99   *float64 `json:"wait99"`  // ms, of the requests that met a lock
	Waiting  int      `json:"waiting"` // now
	Sessions int      `json:"held"`    // now
	Bytes    int64    `json:"bytes"`   // now
	Backups  int      `json:"backups"` // now
	Pending  int      `json:"pending"` // now
	PendFor  float64  `json:"pendfor"` // now, in seconds
}

// History keeps the samples of the last minutes, so that a page which is opened shows them. Its methods are safe for
// concurrent use.
type History struct {
	read func() Reading

	mu sync.Mutex
	// guarded by mu:
	last    Reading
	at      time.Time // of last
	samples []Sample  // at most kept, the oldest first
	number  int64
}

// NewHistory makes a history that begins now with what read gives, which is called every few seconds.
func NewHistory(read func() Reading) *History {
	return &History{read: read, last: read(), at: time.Now()}
}

// Run takes samples until ctx ends.
func (h *History) Run(ctx context.Context) {
	t := time.NewTicker(Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			h.sample()
		}
	}
}

func (h *History) sample() {
	next, now := h.read(), time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number++
	s := between(h.last, next, now.Sub(h.at).Seconds())
	s.Number, s.At = h.number, now.UnixMilli()
	h.last, h.at = next, now
	if len(h.samples) == kept {
		copy(h.samples, h.samples[1:])
		h.samples = h.samples[:kept-1]
	}
	h.samples = append(h.samples, s)
}

// Since gives the samples after that number; 0: all that are kept.
func (h *History) Since(number int64) []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number < 0 || number > h.number {
		number = 0
	}
	most := int64(len(h.samples))
	return append([]Sample{}, h.samples[most-min(most, h.number-number):]...)
}

// between makes a sample of two readings.
func between(a, b Reading, seconds float64) Sample {
	rate := func(a, b uint64) float64 {
		if b < a || seconds <= 0 {
			return 0
		}
		return round(float64(b-a) / seconds)
	}
	s := Sample{
		Requests: rate(a.Requests, b.Requests), Refused: rate(a.Refused, b.Refused), Locked: rate(a.Locked, b.Locked),
		Fetches: rate(a.Fetches, b.Fetches), Arrived: rate(a.Arrived, b.Arrived), NotKnown: rate(a.NotKnown, b.NotKnown),
		P50: millis(a.Took, b.Took, 0.5), P99: millis(a.Took, b.Took, 0.99),
		Fetch50: millis(a.Fetched, b.Fetched, 0.5), Fetch99: millis(a.Fetched, b.Fetched, 0.99),
		Wait99:  millis(a.Waited, b.Waited, 0.99),
		Waiting: b.Waiting, Sessions: b.Sessions, Bytes: b.Bytes, Backups: b.Backups, Pending: b.Pending, PendFor: b.PendingFor.Seconds(),
	}
	if s.Requests > 0 {
		here := round(max(0, 1-s.Fetches/s.Requests)) // several requests may share a question, but none asks two
		s.Here = &here
	}
	return s
}

// millis estimates how long a share of what happened between two readings took at most, in ms; nil: nothing
// happened. As precise as the buckets: within one, times are taken to be spread evenly.
func millis(a, b Histogram, share float64) *float64 {
	count := b.Count - a.Count
	if b.Count <= a.Count {
		return nil
	}
	want := share * float64(count)
	below, from := 0.0, 0.0
	for i, bound := range b.Bounds {
		n := b.Cumulative[i]
		if i < len(a.Cumulative) {
			n -= a.Cumulative[i]
		}
		if float64(n) >= want {
			ms := round(1000 * (from + (bound-from)*(want-below)/max(float64(n)-below, 1)))
			return &ms
		}
		below, from = float64(n), bound
	}
	ms := 1000 * from // longer than the last bound
	return &ms
}

// round keeps three decimals, which is more than anybody sees.
func round(x float64) float64 { return math.Round(1000*x) / 1000 }
