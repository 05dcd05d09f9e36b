package bench

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// fault is a kind of error.
type fault int

const (
	locked     fault = iota // 423
	closed                  // the connection broke, or could not be made
	timedOut                // no answer in 10 s
	wrongValue              // not the counter that was stored last, or not this session's body
	missing                 // 404 for a session that was stored
	refused                 // any other status, or no answer of a state server
	faults
)

// tally is what one worker counts. Only the two atomics may be read by others while it runs.
type tally struct {
	cycles     atomic.Int64
	errorCount atomic.Int64
	errors     [faults]int64
	left       int // sessions that could not be deleted

	cycleTime, acquireTime, putTime *hdrhistogram.Histogram // nanoseconds
}

func newTally() tally {
	// A microsecond to two minutes, one part in a hundred.
	h := func() *hdrhistogram.Histogram { return hdrhistogram.New(1e3, 120e9, 2) }
	return tally{cycleTime: h(), acquireTime: h(), putTime: h()}
}

func (t *tally) count(f fault) {
	t.errors[f]++
	t.errorCount.Add(1)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// It can only be out of the range when a clock or a machine stood still; then the range's end will do.
	_ = h.RecordValue(min(int64(d), 120e9))
}

// Result is what a run found.
type Result struct {
	To          []string `json:"to"`
	Connections int      `json:"connections"`
	Sessions    int      `json:"sessions"` // of all connections together
	Size        int      `json:"size"`
	Seconds     float64  `json:"seconds"`

	Cycles          int64   `json:"cycles"`
	CyclesPerSecond float64 `json:"cycles_per_second"`
	Latency                 // of a cycle
	Acquire         Latency `json:"acquire"`
	Put             Latency `json:"put"`

	Errors       int64  `json:"errors"` // the sum of the kinds
	ErrorsByKind Errors `json:"errors_by_kind"`
	Undeleted    int    `json:"undeleted"` // sessions left behind; they expire after 20 minutes
}

// Latency is in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Errors counts the kinds.
type Errors struct {
	Locked  int64 `json:"locked"`  // 423
	Closed  int64 `json:"closed"`  // connection broken or refused
	Timeout int64 `json:"timeout"` // no answer in 10 s
	Wrong   int64 `json:"wrong"`   // contents that are not what was stored last
	Missing int64 `json:"missing"` // 404
	Refused int64 `json:"refused"` // any other answer
}

// result adds up what the workers counted, after they ended.
func (c Config) result(all []*worker, elapsed time.Duration) Result {
	sum := newTally()
	for _, w := range all {
		sum.cycles.Add(w.cycles.Load())
		sum.left += w.left
		for f, n := range w.errors {
			sum.errors[f] += n
			sum.errorCount.Add(n)
		}
		sum.cycleTime.Merge(w.cycleTime)
		sum.acquireTime.Merge(w.acquireTime)
		sum.putTime.Merge(w.putTime)
	}
	return Result{
		To: c.To, Connections: c.Connections, Sessions: c.Connections * c.Sessions, Size: c.Size,
		Seconds: elapsed.Round(time.Millisecond).Seconds(),
		Cycles:  sum.cycles.Load(), CyclesPerSecond: math.Round(float64(sum.cycles.Load()) / elapsed.Seconds()),
		Latency: latency(sum.cycleTime), Acquire: latency(sum.acquireTime), Put: latency(sum.putTime),
		Errors: sum.errorCount.Load(),
		ErrorsByKind: Errors{Locked: sum.errors[locked], Closed: sum.errors[closed], Timeout: sum.errors[timedOut],
			Wrong: sum.errors[wrongValue], Missing: sum.errors[missing], Refused: sum.errors[refused]},
		Undeleted: sum.left,
	}
}

func latency(h *hdrhistogram.Histogram) Latency {
	ms := func(ns int64) float64 { return math.Round(float64(ns)/1e3) / 1e3 } // to the microsecond
	return Latency{P50: ms(h.ValueAtQuantile(50)), P99: ms(h.ValueAtQuantile(99)), Max: ms(h.Max())}
}

// String is the result for people.
func (r Result) String() string {
	line := func(what string, l Latency) string {
		return fmt.Sprintf("%-8s p50 %.3g ms   p99 %.3g ms   max %.3g ms\n", what, l.P50, l.P99, l.Max)
	}
	s := fmt.Sprintf("%d cycles in %.1f s: %.0f cycles/s (acquire + PUT, %d bytes, %d connections, %d sessions)\n",
		r.Cycles, r.Seconds, r.CyclesPerSecond, r.Size, r.Connections, r.Sessions)
	s += line("cycle", r.Latency) + line("acquire", r.Acquire) + line("put", r.Put)
	e := r.ErrorsByKind
	s += fmt.Sprintf("errors   %d\n", r.Errors)
	for _, kind := range []struct {
		n    int64
		what string
	}{
		{e.Wrong, "wrong values: not what was stored last"},
		{e.Missing, "missing (404): a stored session was gone"},
		{e.Closed, "closed or refused connections"},
		{e.Locked, "locked (423)"},
		{e.Timeout, "without an answer in 10 s"},
		{e.Refused, "other answers"},
	} {
		if kind.n > 0 {
			s += fmt.Sprintf("  %8d %s\n", kind.n, kind.what)
		}
	}
	if r.Undeleted > 0 {
		s += fmt.Sprintf("%d sessions could not be deleted; they expire after 20 minutes\n", r.Undeleted)
	}
	return s
}
