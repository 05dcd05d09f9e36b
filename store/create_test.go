package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestOfTwoNodesThatCreateAKeyTheSmallerNameStoresIt: both have asked before either has an answer.
func TestOfTwoNodesThatCreateAKeyTheSmallerNameStoresIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "b", "a")
		net.on(func(m message) bool { time.Sleep(time.Millisecond); return true })
		var wg sync.WaitGroup
		for _, n := range net.nodes {
			wg.Go(func() { mustBe(t, n.name, n.insert("k", n.name), OK, "") })
		}
		wg.Wait()
		net.mustHold(t, "k", "a")
		mustBe(t, "get", net.named("b").get("k"), OK, "a")
	})
}

// TestMissingSaidToANodeThatCreatesIsAPromise: a said so to b, so b goes first, though a's name is
// the smaller one.
func TestMissingSaidToANodeThatCreatesIsAPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b := net.nodes[0], net.nodes[1]
		net.on(func(m message) bool {
			if m.from == "b" && m.to == "c" || m.from == "c" && m.to == "b" {
				time.Sleep(100 * time.Millisecond)
			}
			return true
		})
		var wg sync.WaitGroup
		wg.Go(func() { mustBe(t, "insert at b", b.insert("k", "b"), OK, "") })
		time.Sleep(10 * time.Millisecond) // a has answered, c has not
		wg.Go(func() { mustBe(t, "insert at a", a.insert("k", "a"), OK, "") })
		wg.Wait()
		net.mustHold(t, "k", "b")
	})
}

// TestAReadThatComesAfterACreationSeesIt: it must not share the answer to a question that was put before.
func TestAReadThatComesAfterACreationSeesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b := net.nodes[0], net.nodes[1]
		net.on(func(m message) bool {
			if m.kind == aReply && m.from == "c" && m.to == "a" {
				time.Sleep(100 * time.Millisecond)
			}
			return true
		})
		var wg sync.WaitGroup
		wg.Go(func() { mustBe(t, "a get that began before", a.get("k"), NotFound, "") })
		time.Sleep(10 * time.Millisecond)
		mustBe(t, "insert", b.insert("k", "new"), OK, "")
		wg.Go(func() { mustBe(t, "a get that began after", a.get("k"), OK, "new") })
		wg.Wait()
	})
}

// TestAReadWaitsForACreationThatIsUnderWay, since it may be of the same page.
func TestAReadWaitsForACreationThatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		net.on(func(m message) bool { time.Sleep(10 * time.Millisecond); return true })
		var wg sync.WaitGroup
		wg.Go(func() { mustBe(t, "insert", b.insert("k", "new"), OK, "") })
		synctest.Wait()
		wg.Go(func() { mustBe(t, "get", a.get("k"), OK, "new") })
		wg.Wait()
	})
}

// TestACreatorTellsOfTheDeletionThatItRemembers, or the other one would store a session that loses to
// copies from before the deletion.
func TestACreatorTellsOfTheDeletionThatItRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		b.put("k", "old", NoCookie)
		b.delete("k", NoCookie)
		gone := b.version("k").Stamp
		net.on(func(message) bool { time.Sleep(time.Millisecond); return true })
		var wg sync.WaitGroup
		for _, n := range net.nodes {
			wg.Go(func() { mustBe(t, n.name, n.insert("k", n.name), OK, "") })
		}
		wg.Wait()
		net.mustHold(t, "k", "a")
		if v := a.version("k"); v.Deleted != gone {
			t.Errorf("created as %+v, while the last deletion was %d", v, gone)
		}
	})
}

// TestAPromiseOutlivesTheNoteOnWhichItWasGiven: the note of a move or a deletion ends while b, which was
// told that the key is not here, has not yet created it.
func TestAPromiseOutlivesTheNoteOnWhichItWasGiven(t *testing.T) {
	for _, note := range []state{moved, deleted} {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b", "c")
			a, b, c := net.nodes[0], net.nodes[1], net.nodes[2]
			a.do(Request{Op: Put, Key: []byte("k"), Timeout: 1})
			left := movedNote
			if note == deleted {
				left = time.Minute + tombstoneExtra
				a.delete("k", NoCookie)
			} else {
				c.get("k")
				net.wg.Wait()
			}
			time.Sleep(left - time.Second/2)
			if s, _ := a.entry("k"); s.state != note {
				t.Fatalf("the note is %v", &s)
			}
			net.on(func(m message) bool {
				if m.from == "c" && m.to == "b" {
					time.Sleep(time.Second) // the answer that b waits for
				}
				return true
			})
			c.delete("k", NoCookie)
			var wg sync.WaitGroup
			wg.Go(func() { mustBe(t, "insert at b", b.insert("k", "b"), OK, "") })
			time.Sleep(time.Second * 3 / 4)
			wg.Go(func() { mustBe(t, "a visitor's first page at a", a.put("k", "a", NoCookie), OK, "") })
			wg.Wait()
			net.mustHold(t, "k", "b")
		})
	}
}

// TestHoweverManyNodesCreateAKeyOneSessionResults has two, three or five nodes create one key at nearly the same
// moment over links that are slow by chance, many times.
func TestHoweverManyNodesCreateAKeyOneSessionResults(t *testing.T) {
	for seed := range uint64(600) {
		synctest.Test(t, func(t *testing.T) {
			names := []string{"a", "b", "c", "d", "e"}[:[]int{2, 3, 5}[seed%3]]
			net := farm(t, names...)
			rnd := newChance(t, seed)
			if seed%2 == 1 {
				// There was one before, and the nodes have notes of it that point to each other.
				net.nodes[0].put("k", "old", NoCookie)
				for i := range len(names) + 1 {
					n := i + 1
					if n >= len(names) {
						n = rnd.n(len(names))
					}
					mustBe(t, "get of the old one", net.nodes[n].get("k"), OK, "old")
				}
				net.nodes[rnd.n(len(names))].delete("k", NoCookie)
				net.wg.Wait()
			}
			slowest := []time.Duration{time.Millisecond, 5 * time.Millisecond, 60 * time.Millisecond}[rnd.n(3)]
			net.on(func(message) bool { time.Sleep(rnd.upTo(slowest)); return true })
			var wg sync.WaitGroup
			var told atomic.Int32
			for _, n := range net.nodes {
				for i := range 1 + rnd.n(2) {
					wg.Go(func() {
						time.Sleep(rnd.upTo(2 * slowest))
						if rnd.n(3) == 0 && n.get("k").Init {
							told.Add(1)
						}
						mustBe(t, "insert at "+n.name, n.insert("k", fmt.Sprint(n.name, i)), OK, "")
						got := n.get("k")
						if got.Status != OK || len(got.Body) != 2 {
							t.Errorf("get at %s right after it was stored: %+v", n.name, got)
						}
						if got.Init {
							told.Add(1)
						}
					})
				}
			}
			wg.Wait()
			if told.Load() != 1 {
				t.Errorf("%d requests were told to initialise the session", told.Load())
			}
			if h := net.holders("k"); len(h) != 1 {
				t.Errorf("%v hold the session", h)
			}
			for _, n := range net.nodes {
				if s := n.Stats(); s.Conflicts != 0 {
					t.Errorf("%d conflicts at %s", s.Conflicts, n.name)
				}
			}
		})
	}
}

// chance is a source of random numbers that many goroutines may use.
type chance struct {
	mu  sync.Mutex
	rnd *rand.Rand
}

func newChance(t *testing.T, seed uint64) *chance {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("this was with seed %d", seed)
		}
	})
	return &chance{rnd: rand.New(rand.NewPCG(seed, seed))}
}

func (c *chance) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rnd.IntN(n)
}

func (c *chance) upTo(d time.Duration) time.Duration { return time.Duration(c.n(int(d))) }
