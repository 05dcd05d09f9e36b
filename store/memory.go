package store

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector lets the heap double before it runs. For a store that is a waste: nearly all of its
// memory is sessions, which live for minutes, and a million of them of 1 KB would take 2.6 GB. On the
// other hand one run looks at all of them, for about a second of CPU time, so runs must not follow each
// other too closely while many sessions are written. These say how much garbage may gather
// instead. It costs memory for as long as the sessions live: what is freed between them is used again,
// but is hardly ever a whole page that the system could have back.
const (
	headroomLeast = 32 << 20
	headroomUsual = 128 << 20 // or as much as lives, if that is less
	// calmShare and busyShare are how much it may be at least of what lives, in percent: when the
	// collector has not run for calmAfter, and when it has to run more often than every busyWithin.
	calmShare  = 8
	busyShare  = 26
	calmAfter  = 15 * time.Second
	busyWithin = 4 * time.Second
)

// WholeMemory is what the whole process takes at most, in bytes, where what the store counts has a limit (Options.MaxMemory).
func WholeMemory(counted int64) int64 { return goLimit(counted) }

// goLimit is what the Go runtime may take in all where what the store counts has a limit: a quarter more for garbage, which
// is what gathers at most while sessions are written at a high rate, and a fixed part for connections, links and the program itself.
func goLimit(counted int64) int64 { return counted + counted/4 + 128<<20 }

// goLimitNow is goLimit of the setting. While there is more than that, as the journal had more, it is that of what there is:
// with a limit below what lives, the collector would run all the time and free nothing.
func (m *room) goLimitNow() int64 { return goLimit(max(m.most, m.used.Load())) }

// loadingPercent is how much garbage may gather while the journal is loaded, in percent of what lives. All that is loaded
// lives, but for a seventh, so looking at it again and again is for nothing: it took half the time of loading a million
// sessions.
const loadingPercent = 400

// whileLoading has the collector run seldom, unless the operator has set when it does, until the end of that.
func whileLoading() (end func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	was := debug.SetGCPercent(loadingPercent)
	return func() { debug.SetGCPercent(was) }
}

// TuneGC keeps a bound on the garbage that may gather before the collector runs: 128 MB, or a twelfth of
// what lives if that is more, and up to a quarter while sessions are written at a high rate. For a
// small store it is as much as lives, at least 32 MB. When many sessions have ended and little
// is written, it has the collector run, which would not notice for minutes. With Options.MaxMemory, the runtime's own
// limit is set to fit: when that is near, the collector runs sooner. TuneGC ends with ctx, and
// then the settings are as they were before. What the operator has set by GOMEMLIMIT stays, and it does nothing then; with
// GOGC it sets the limit only.
func (st *Store) TuneGC(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := st.room.goLimitNow()
	if st.room.most > 0 {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit))
	}
	if os.Getenv("GOGC") != "" {
		if st.room.most > 0 {
			<-ctx.Done()
		}
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	share, percent := calmShare, 100
	was := debug.SetGCPercent(percent)
	defer debug.SetGCPercent(was)
	collected := make(chan struct{}, 1)
	afterCollection(ctx, collected)
	last, held := time.Now(), int64(0)
	calm := time.NewTimer(calmAfter)
	defer calm.Stop()
	for {
		metrics.Read(live)
		// Setting it stops the program for a moment, so small changes are let pass.
		if p := gcPercent(live[0].Value.Uint64(), share); 10*max(p-percent, percent-p) >= percent {
			percent = p
			debug.SetGCPercent(p)
		}
		select {
		case <-ctx.Done():
			return
		case <-collected:
			if time.Since(last) < busyWithin {
				share = min(2*share, busyShare)
			}
			last, held = time.Now(), st.room.used.Load()
			if now := st.room.goLimitNow(); st.room.most > 0 && now != limit {
				limit = now
				debug.SetMemoryLimit(limit)
			}
		case <-calm.C:
			share = calmShare
			if held-st.room.used.Load() > headroomUsual {
				runtime.GC()
			}
		}
		calm.Reset(calmAfter)
	}
}

// afterCollection sends on c after each run of the collector, until ctx ends: an object that nobody
// uses is gone after the next one.
func afterCollection(ctx context.Context, c chan<- struct{}) {
	runtime.AddCleanup(&struct{ _ *byte }{}, func(c chan<- struct{}) {
		if ctx.Err() != nil {
			return
		}
		afterCollection(ctx, c)
		select {
		case c <- struct{}{}:
		default: // it has not looked since the last one
		}
	}, c)
}

// gcPercent is the garbage that may gather, in percent of the bytes that were alive at the last
// collection, if it may be share percent of them.
func gcPercent(live uint64, share int) int {
	headroom := max(live*uint64(share)/100, min(max(live, headroomLeast), headroomUsual))
	return int(100 * headroom / max(live, headroomLeast/10))
}
