package store

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsDrawnByChanceDependsOnTheRunTheThingAndTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(instance uint64) *Store {
			st := New(Options{Node: "a", Instance: instance})
			t.Cleanup(st.Close)
			return st
		}
		run, again, other := open(1), open(1), open(2)
		const d = time.Second
		var sum time.Duration
		sameRun, sameThing, sameMoment := 0, 0, 0
		const times = 2000
		for i := range times {
			got := run.Jitter("k", d)
			if got < d/2 || got >= d*3/2 {
				t.Fatalf("%v for %v", got, d)
			}
			if again.Jitter("k", d) != got {
				t.Fatal("two draws of one run, thing and moment differ")
			}
			sum += got
			if other.Jitter("k", d) == got {
				sameRun++
			}
			if run.Jitter("l", d) == got {
				sameThing++
			}
			run.setRun(uint64(i))
			if j, least := run.jump("k", run.clock.now()), int32(i%256)<<17+1<<16; j < least || j >= least+1<<16 {
				t.Fatalf("cookies jump by %d in run %d", j, i)
			}
			time.Sleep(time.Nanosecond)
			if run.Jitter("k", d) == got {
				sameMoment++
			}
		}
		if mean := sum / times; mean < 950*time.Millisecond || mean > 1050*time.Millisecond {
			t.Errorf("on average %v, want about %v", mean, d)
		}
		if sameRun+sameThing+sameMoment > 3 {
			t.Errorf("the same was drawn %d times by another run, %d times for another thing, %d times a moment later", sameRun, sameThing, sameMoment)
		}
	})
}
