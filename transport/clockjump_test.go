package transport

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"peerstate/store"
)

// A visitor's pages run on three nodes in turn, and one node's clock jumps by an hour while they do, to
// and fro: each page sees what the one before it wrote, what was deleted stays so, and after a crash the
// backup has the last write. No link ends for it, no lock changes its age, and nothing is a conflict.
func TestAClockThatJumpsByAnHourHarmsNoSession(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				nodes := f.backedUp(1, "a", "b", "c")
				a, b, c := nodes[0], nodes[1], nodes[2]
				links := []*link{a.mesh.direct("b"), a.mesh.direct("c")}
				a.put("counter", "0", 0)
				for i := range 9 {
					a.put(keyOf(i), "before", 0)
				}
				locked := a.acquire(keyOf(0))
				count := 0
				add := func(n *testNode) {
					t.Helper()
					got := n.acquire("counter")
					f.wantAnswer("acquire on "+n.name, got, store.OK, strconv.Itoa(count))
					count++
					f.wantAnswer("put on "+n.name, n.put("counter", strconv.Itoa(count), got.Cookie), store.OK, "")
				}
				for round := range 6 {
					a.store.SetClockOffset(jump * time.Duration((round+1)%2)) // wrong, right, wrong...
					for _, n := range []*testNode{a, b, c, b, a} {
						add(n)
						time.Sleep(time.Second)
					}
				}
				if age := b.get(keyOf(0)); age.Status != store.Locked || age.LockAge.Round(time.Second) != 30*time.Second {
					t.Errorf("a lock of 30 s: status %d, age %v", age.Status, age.LockAge)
				}
				f.wantAnswer("put with its cookie", b.put(keyOf(0), "after", locked.Cookie), store.OK, "")

				// What a node with a wrong clock wrote and deleted, others delete and write after it, and the other way round.
				a.store.SetClockOffset(jump)
				for i := 1; i < 9; i++ {
					first, second := []*testNode{a, b}[i%2], []*testNode{b, c, a}[i%3]
					first.head(keyOf(i)) // a page reads before it writes
					f.wantAnswer("put", first.put(keyOf(i), "first", 0), store.OK, "")
					f.wantAnswer("delete", second.delete(keyOf(i), 0), store.OK, "")
					if i > 4 {
						f.wantAnswer("put", first.put(keyOf(i), fmt.Sprint("anew ", i), 0), store.OK, "")
					}
				}
				for i := 1; i < 9; i++ {
					for _, n := range nodes {
						if i > 4 {
							f.wantAnswer("get", n.get(keyOf(i)), store.OK, fmt.Sprint("anew ", i))
						} else {
							f.wantAnswer("get", n.get(keyOf(i)), store.NotFound, "")
						}
					}
				}
				if a.mesh.direct("b") != links[0] || a.mesh.direct("c") != links[1] {
					t.Error("a link did not outlive the jumps")
				}
				conflicts := uint64(0)
				for _, n := range nodes {
					conflicts += n.store.Stats().Conflicts
				}
				if conflicts > 0 {
					t.Errorf("%d conflicts", conflicts)
				}

				add(c)
				add(a) // the last write has a's stamp
				f.safe()
				a.kill()
				time.Sleep(11 * time.Second) // the idle time-out and the grace time
				add(b)
				add(c)
				for i := 1; i < 9; i++ {
					if i > 4 {
						f.wantAnswer("get", c.get(keyOf(i)), store.OK, fmt.Sprint("anew ", i))
					} else if got := c.get(keyOf(i)); got.Status == store.OK {
						t.Errorf("a deleted session is back: %q", got.Body)
					}
				}
			})
		})
	}
}
