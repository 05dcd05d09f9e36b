package transport

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"peerstate/store"
)

// insert is what ASP.NET sends for a session id that has expired: a write that only counts if there is
// no session.
func (n *testNode) insert(key, body string) store.Answer {
	return n.do(store.Request{Op: store.Put, Key: []byte(key), Cookie: store.NoCookie, Timeout: 20,
		Flags: store.FlagUninitialized, Body: []byte(body)})
}

func TestAKeyThatSeveralNodesCreateAtTheSameMomentHasOneHolder(t *testing.T) {
	ms := time.Millisecond
	delays := map[string]func(from, to string) time.Duration{
		"even": nil,
		"one way": func(from, _ string) time.Duration {
			return map[string]time.Duration{"a": 1 * ms, "b": 35 * ms, "c": 9 * ms}[from]
		},
		"far from c": func(from, to string) time.Duration {
			return map[bool]time.Duration{true: 60 * ms, false: ms}[from == "c" || to == "c"]
		},
		"in a ring": func(from, to string) time.Duration {
			return map[bool]time.Duration{true: 40 * ms, false: 2 * ms}[strings.Contains("abca", from+to)]
		},
	}
	for what, delay := range delays {
		for _, names := range []string{"ab", "abc"} {
			for _, first := range []string{"insert", "404"} {
				t.Run(fmt.Sprintf("%s/%s/%s", what, names, first), func(t *testing.T) {
					inFarm(t, func(t *testing.T, f *farm) {
						if delay != nil {
							f.net.delaying(func(from, to string) time.Duration {
								return delay(hostOf(from), hostOf(to))
							})
						}
						createAtOnce(t, f, names, first)
					})
				})
			}
		}
	}
}

// hostOf is the reverse of addrOf, for a, b and c.
func hostOf(addr string) string {
	for _, name := range []string{"a", "b", "c"} {
		if addr == addrOf(name).String() {
			return name
		}
	}
	return ""
}

func createAtOnce(t *testing.T, f *farm, names, first string) {
	a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a", "b")
	f.linked(a, b, c)
	nodes := make([]*testNode, len(names))
	for i, name := range names {
		nodes[i] = f.nodes[string(name)]
	}
	var offsets [][2]int // of the second and the third node to the first, which is 30 ms late
	for _, x := range []int{0, 10, 25, 29, 30, 31, 50, 90} {
		switch len(nodes) {
		case 2:
			offsets = append(offsets, [2]int{x, 0})
		case 3:
			for _, y := range []int{0, 21, 30, 61} {
				offsets = append(offsets, [2]int{x, y})
			}
		}
	}
	if first == "404" {
		for i := range offsets {
			for _, n := range nodes {
				f.wantAnswer("the first get", n.get(keyOf(i)), store.NotFound, "")
			}
		}
		time.Sleep(10 * time.Second) // and what the nodes have promised each other is over
	}
	failed := 0
	for i, at := range offsets {
		k := keyOf(i)
		answers := make([]store.Answer, len(nodes))
		var all sync.WaitGroup
		for j, n := range nodes {
			all.Go(func() {
				time.Sleep(time.Duration([]int{30, at[0], at[1]}[j]) * time.Millisecond)
				if first == "404" {
					answers[j] = n.put(k, n.name, 0)
				} else {
					answers[j] = n.insert(k, n.name)
				}
			})
		}
		all.Wait()
		var stored []string
		for j, got := range answers {
			switch got.Status {
			case store.OK:
				stored = append(stored, nodes[j].name)
			case store.Unknown:
				failed++
			default:
				t.Errorf("%d ms: %s says status %d", at, nodes[j].name, got.Status)
			}
		}
		time.Sleep(150 * time.Millisecond)
		h := f.holders(k)
		if len(h) > 1 || len(h) == 0 && len(stored) > 0 {
			t.Errorf("%d ms: held by %v, stored by %v", at, h, stored)
		}
		if len(h) == 0 {
			continue
		}
		if body := string(f.nodes[h[0]].get(k).Body); len(stored) > 0 && !slices.Contains(stored, body) {
			t.Errorf("%d ms: the session is that of %s, stored were those of %v", at, body, stored)
		}
		for _, n := range []*testNode{a, b, c} {
			if got := n.get(k); got.Status != store.OK {
				t.Errorf("%d ms: then %s says status %d", at, n.name, got.Status)
			}
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d writes ended in an error", failed, len(offsets)*len(nodes))
	}
}

var creatingSeeds = flag.Int("creating.seeds", 6, "how many seeds each topology of the test of creations by chance has")

// Delays and moments are by chance; some of the keys were there before, and there are notes of them.
func TestInEveryTopologyAKeyThatAllCreateAtOnceHasOneHolderAndNoErrors(t *testing.T) {
	for what, tp := range map[string]topology{"2": full(2), "3": full(3), "5": full(5), "line of 3": line(3), "line of 5": line(5),
		"ring of 5": ring(5), "star of 5": star(5)} {
		for seed := range uint64(*creatingSeeds) {
			t.Run(fmt.Sprintf("%s/seed %d", what, seed), func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) { createByChance(t, f.draw(tp), rand.New(rand.NewPCG(seed, seed))) })
			})
		}
	}
}

func createByChance(t *testing.T, d *drawn, rnd *rand.Rand) {
	slowest := []time.Duration{2 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond}[rnd.IntN(3)]
	delays := map[string]time.Duration{}
	for _, from := range d.all {
		for _, to := range d.all {
			delays[from.addr.String()+to.addr.String()] = time.Microsecond + time.Duration(rnd.Int64N(int64(slowest)))
		}
	}
	d.net.delaying(func(from, to string) time.Duration { return delays[from+to] })
	const keys = 12
	for i := range keys {
		if rnd.IntN(3) == 0 {
			d.all[rnd.IntN(len(d.all))].put(keyOf(i), "before", 0)
			for range rnd.IntN(3) {
				d.wantAnswer("get", d.all[rnd.IntN(len(d.all))].get(keyOf(i)), store.OK, "before")
			}
			d.wantAnswer("delete", d.all[rnd.IntN(len(d.all))].delete(keyOf(i), 0), store.OK, "")
		}
	}
	for i := range keys {
		apart := 1 + rnd.Int64N(int64(3*slowest))
		var all sync.WaitGroup
		for _, n := range d.all {
			later := time.Duration(rnd.Int64N(apart))
			all.Go(func() {
				time.Sleep(later)
				if got := n.insert(keyOf(i), n.name); got.Status != store.OK {
					t.Errorf("key %d: %s says status %d", i, n.name, got.Status)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		if h := d.holders(keyOf(i)); len(h) != 1 {
			t.Errorf("key %d is held by %v", i, h)
		}
	}
	for _, n := range d.all {
		if c := n.store.Stats().Conflicts; c != 0 {
			t.Errorf("%d conflicts at %s", c, n.name)
		}
	}
}

// The id of an expired session is missing on a, and then a new one begins on b.
func TestAWriteAfterA404FindsTheSessionThatBeganElsewhereMeanwhile(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		f.wantAnswer("get on a", a.get(keyOf(1)), store.NotFound, "")
		f.wantAnswer("put on b", b.put(keyOf(1), "from b", 0), store.OK, "")
		f.wantAnswer("an insert-only put on a", a.insert(keyOf(1), "empty"), store.OK, "")
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "from b")
		f.wantAnswer("put on a", a.put(keyOf(1), "from a", 0), store.OK, "")
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "from a")
		if h := f.holders(keyOf(1)); len(h) != 1 || h[0] != "b" {
			t.Errorf("held by %v", h)
		}
		lock := b.acquire(keyOf(1))
		f.wantAnswer("put on a while b has it locked", a.put(keyOf(1), "from a again", 0), store.Locked, "")
		f.wantAnswer("put with the lock's cookie", a.put(keyOf(1), "with the lock", lock.Cookie), store.OK, "")
	})
}

func TestAnExpiredIdIsInitialisedByExactlyOneNode(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		for i := range 30 {
			k := keyOf(i)
			inits := make(chan bool, 2)
			for _, n := range []*testNode{a, b} {
				go func() {
					n.insert(k, "empty")
					for {
						got := n.acquire(k)
						if got.Status == store.OK {
							inits <- got.Init
							time.Sleep(20 * time.Millisecond)
							n.put(k, n.name, got.Cookie)
							return
						}
						if got.Init {
							t.Error("the flag went with an answer that is no success")
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
			}
			if x, y := <-inits, <-inits; x == y {
				t.Errorf("told to initialise: %v and %v", x, y)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}
