package transport

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"peerstate/store"
)

func TestFourPagesAtOnceOnTwoNodesAreDoneInTheirOwnTimeAndThatOfTheMoves(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.lockWait = 400 * time.Millisecond
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		v := &visitor{key: keyOf(1)}
		a.put(v.key, "0", 0)
		const work = 20 * time.Millisecond
		begun := time.Now()
		var pages sync.WaitGroup
		for i := range 4 {
			n := a
			if i%2 == 1 {
				n = b
			}
			pages.Go(func() {
				got := n.acquire(v.key)
				if got.Status != store.OK {
					t.Errorf("page %d: status %d", i, got.Status)
					return
				}
				time.Sleep(work)
				count, err := strconv.Atoi(string(got.Body))
				if err != nil {
					t.Error(err)
				}
				f.wantAnswer("put", n.put(v.key, strconv.Itoa(count+1), got.Cookie), store.OK, "")
			})
		}
		pages.Wait()
		// The session moves once: those who wait on b are served one after the other.
		if took := time.Since(begun); took < 4*work || took > 4*work+2*2*f.delay+10*time.Millisecond {
			t.Errorf("four pages took %v", took)
		}
		f.wantAnswer("get", a.get(v.key), store.OK, "4")
	})
}

// Many pages on three nodes want the same session all the time: with waiting none is refused for long,
// and nothing is lost.
func TestPagesThatWaitOnSeveralNodesAllHaveTheirTurn(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.lockWait = 400 * time.Millisecond
		f.delay = 2 * time.Millisecond
		a := f.start("a", "b", "c")
		b := f.start("b", "c")
		c := f.start("c", "a")
		f.linked(a, b, c)
		time.Sleep(6 * time.Second)
		v := &visitor{key: keyOf(1)}
		a.put(v.key, "0", 0)
		var mu sync.Mutex
		polls := 0
		var all sync.WaitGroup
		for i := range 9 {
			n := []*testNode{a, b, c}[i%3]
			all.Go(func() {
				for pages := 0; pages < 20; {
					if v.page(t, n) {
						pages++
						continue
					}
					mu.Lock()
					polls++
					mu.Unlock()
					time.Sleep(500 * time.Millisecond)
				}
			})
		}
		all.Wait()
		if v.lost != 0 || len(v.acked) != 180 {
			t.Errorf("%d pages stored, %d ended in an error", len(v.acked), v.lost)
		}
		if polls > 18 {
			t.Errorf("%d of 180 pages had to come back", polls)
		}
		if got := f.wantOneHolder(v.key); got != "180" {
			t.Errorf("the counter is %s", got)
		}
	})
}
