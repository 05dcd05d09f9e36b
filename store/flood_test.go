package store

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFloodLeavesRoomForNoMoreThanAllWhoMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		ctx := t.Context()
		const sessions = maxAllTurns/maxTurns + 1
		for i := range sessions {
			ask(ctx, st, Put, fmt.Sprint(i), 0)
			ask(ctx, st, Acquire, fmt.Sprint(i), NoCookie)
		}
		ask(ctx, st, Put, "another", 0)
		begun := time.Now()
		var all sync.WaitGroup
		for i := range sessions * maxTurns {
			all.Go(func() {
				if a := ask(ctx, st, Acquire, fmt.Sprint(i%sessions), NoCookie); a.Status != Locked {
					t.Errorf("a request was told %d", a.Status)
				}
			})
		}
		synctest.Wait()
		if n := st.Stats().Waiting; n != maxAllTurns {
			t.Errorf("%d wait, want %d", n, maxAllTurns)
		}
		if a := ask(ctx, st, Get, "0", NoCookie); a.Status != Locked {
			t.Errorf("one more was told %d", a.Status)
		}
		if a := ask(ctx, st, Acquire, "another", NoCookie); a.Status != OK {
			t.Errorf("a request that need not wait was told %d", a.Status)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("that took %v", took)
		}
		all.Wait()
		if n := st.Stats().Waiting; n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}
