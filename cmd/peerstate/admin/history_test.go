package admin

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheHistoryHasWhatHappenedBetweenItsSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Reading{Requests: 1000, Fetches: 50, Took: Histogram{Bounds: []float64{0.001, 0.01}, Cumulative: []uint64{900, 1000}, Count: 1000}}
		var mu sync.Mutex
		h := NewHistory(func() Reading {
			mu.Lock()
			defer mu.Unlock()
			return r
		})
		ctx, stop := context.WithCancel(t.Context())
		go h.Run(ctx)

		mu.Lock()
		r.Requests, r.Fetches, r.Sessions = 1200, 60, 7
		r.Took = Histogram{Bounds: []float64{0.001, 0.01}, Cumulative: []uint64{1000, 1198}, Count: 1200}
		mu.Unlock()
		time.Sleep(Every + time.Millisecond)
		mu.Lock()
		r.Sessions = 8
		mu.Unlock()
		time.Sleep(Every)
		stop()
		synctest.Wait()

		all := h.Since(0)
		if len(all) != 2 {
			t.Fatalf("%d samples after two times %v", len(all), Every)
		}
		s := all[0]
		if s.Number != 1 || s.Requests != 100 || s.Fetches != 5 || s.Sessions != 7 || s.Here == nil || *s.Here != 0.95 {
			t.Errorf("%+v", s)
		}
		// 200 requests: 100 of up to 1 ms, 98 of up to 10 ms, 2 of more.
		if s.P50 == nil || *s.P50 != 1 || s.P99 == nil || *s.P99 != 10 {
			t.Errorf("half took %v ms, 99%% took %v ms", s.P50, s.P99)
		}
		if s := all[1]; s.Requests != 0 || s.P50 != nil || s.Here != nil || s.Sessions != 8 {
			t.Errorf("when nothing happened: %+v", s)
		}
		for after, want := range map[int64]int{0: 2, 1: 1, 2: 0, 3: 2, -1: 2} {
			if got := h.Since(after); got == nil || len(got) != want {
				t.Errorf("after %d there are %d samples, want %d", after, len(got), want)
			}
		}
	})
}

func TestTheHistoryIsBounded(t *testing.T) {
	h := NewHistory(func() Reading { return Reading{} })
	for range kept + 10 {
		h.sample()
	}
	if all := h.Since(0); len(all) != kept || all[0].Number != 11 || all[kept-1].Number != kept+10 {
		t.Errorf("%d samples, from %d to %d", len(all), all[0].Number, all[len(all)-1].Number)
	}
	if last := h.Since(kept + 8); len(last) != 2 {
		t.Errorf("%d samples after the one before the last", len(last))
	}
}

func TestSharesOfTimesAreEstimatedWithinTheirBucket(t *testing.T) {
	bounds := []float64{0.001, 0.002, 0.004}
	before := Histogram{Bounds: bounds, Cumulative: []uint64{5, 5, 5}, Count: 5}
	for _, x := range []struct {
		cumulative  []uint64
		count       uint64
		share, want float64
	}{
		{[]uint64{5, 15, 15}, 15, 0.5, 1.5},  // ten between 1 and 2 ms
		{[]uint64{5, 5, 15}, 15, 0.99, 3.98}, // ten between 2 and 4 ms
		{[]uint64{5, 5, 5}, 15, 0.5, 4},      // ten of more than that
		{[]uint64{15, 15, 15}, 15, 0.01, 0.01},
		{[]uint64{5, 5, 5}, 5, 0.5, math.NaN()},
	} {
		got := millis(before, Histogram{Bounds: bounds, Cumulative: x.cumulative, Count: x.count}, x.share)
		if got == nil && !math.IsNaN(x.want) || got != nil && *got != x.want {
			t.Errorf("%v: %v of them took %v ms, want %v", x.cumulative, x.share, got, x.want)
		}
	}
	if got := millis(Histogram{}, Histogram{Bounds: bounds, Cumulative: []uint64{2, 2, 2}, Count: 2}, 0.5); got == nil || *got != 0.5 {
		t.Errorf("from nothing: %v", got)
	}
}
