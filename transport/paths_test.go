package transport

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peerstate/store"
)

// wantPeer checks in which state a node sees another.
func (n *testNode) wantPeer(name string, state State, hops int) {
	n.farm.t.Helper()
	if p := n.peer(name); p.State != state || p.Hops != hops {
		n.farm.t.Errorf("%s sees %s %s, %d links away (%s); want %s, %d", n.name, name, p.State, p.Hops, p.Reason, state, hops)
	}
}

func TestARingWithOneNodeDownStillFindsAll(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(ring(8))
		for i, n := range d.all {
			n.put(keyOf(i), "cart", 0)
		}
		d.all[3].kill()
		time.Sleep(6 * time.Second) // the others have noticed
		away := d.distances(3)
		for i := range d.all {
			to := (i + 4) % d.size
			if i == 3 || to == 3 {
				continue
			}
			wantTime(t, "a fetch the other way round", took(func() {
				f.wantAnswer("get", d.all[to].get(keyOf(i)), store.OK, "cart")
			}), time.Duration(2*away[i][to])*f.delay)
		}
		f.wantAnswer("get of what was on the node that is down", d.all[0].get(keyOf(3)), store.Unknown, "")
		f.wantAnswer("a miss", d.all[0].get(keyOf(100)), store.Unknown, "")
	})
}

func TestInEveryTopologyAMissEndsIn404OnceALostNodeIsLost(t *testing.T) {
	all := topologies()
	delete(all, "full mesh of 12") // it takes long, even in virtual time
	all["full mesh of 5"] = full(5)
	for what, tp := range all {
		for _, gone := range []int{0, tp.size / 2} {
			t.Run(what+" without "+nodeName(gone), func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					d := f.draw(tp)
					away := d.distances(gone)
					for i, n := range d.all {
						n.put(keyOf(i), "cart", 0)
					}
					d.all[gone].kill()
					time.Sleep(6 * time.Second)
					for i, n := range d.all {
						if i == gone {
							continue
						}
						d := took(func() { f.wantAnswer("a miss while the node may come back", n.get(keyOf(100+i)), store.Unknown, "") })
						if d > time.Second {
							t.Errorf("%s waited %v for a node that is down", n.name, d)
						}
						n.wantPeer(nodeName(gone), Connecting, 0)
					}
					time.Sleep(70 * time.Second)
					for i, n := range d.all {
						if i == gone {
							continue
						}
						d := took(func() { f.wantAnswer("a miss when it is lost", n.get(keyOf(100+i)), store.NotFound, "") })
						if d > 250*time.Millisecond {
							t.Errorf("a miss took %v", d)
						}
						n.wantPeer(nodeName(gone), Lost, 0)
					}
					for i, n := range d.all {
						other := (i + 1) % d.size
						switch {
						case i == gone:
						case away[i][other] > 0:
							f.wantAnswer("what another holds", n.get(keyOf(other)), store.OK, "cart")
						default:
							f.wantAnswer("what the lost node, or one that is cut off, holds", n.get(keyOf(other)), store.NotFound, "")
						}
					}
				})
			})
		}
	}
}

func TestOnlyTheNodeThatAnswersNothingBecomesSuspect(t *testing.T) {
	for what, tp := range map[string]topology{"line": line(7), "ring": ring(8), "star of stars": stars(), "full mesh": full(4), "partial mesh": partial(10)} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				d := f.draw(tp)
				last := d.all[d.size-1]
				f.deaf("z", last)
				time.Sleep(time.Second)
				check := func() {
					t.Helper()
					for _, n := range d.all {
						for _, p := range n.mesh.Peers() {
							if p.State != Up && p.Node != "z" {
								t.Errorf("%s sees %s %s", n.name, p.Node, p.State)
							}
						}
					}
				}
				for round := range 3 {
					for i, n := range d.all {
						d := took(func() { f.wantAnswer("a miss", n.get(keyOf(i)), store.Unknown, "") })
						if round > 0 && d > 200*time.Millisecond {
							t.Errorf("%s waited %v for a node that is suspect", n.name, d)
						}
						if d > 2500*time.Millisecond {
							t.Errorf("%s waited %v", n.name, d)
						}
					}
					time.Sleep(3 * time.Second)
					check()
				}
				if p := last.peer("z"); p.State == Up {
					t.Error("the one that answers nothing is up")
				}
				for range 90 {
					d.all[0].get(keyOf(0))
					time.Sleep(time.Second)
				}
				for i, n := range d.all {
					f.wantAnswer("a miss when it is lost", n.get(keyOf(i)), store.NotFound, "")
				}
				check()
			})
		})
	}
}

// The question of node 1 has passed 2 and is on its way from 3 to 4 when 2 fetches the session from 4: 2
// has said that it does not have it, and 4 will say that it has given it away.
func TestAQuestionOverSeveralLinksThatNarrowlyMissesAMovingSessionFindsIt(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(4))
		d.all[3].put(keyOf(1), "cart", 0)
		far := 300 * time.Millisecond
		slow(d.all[2], d.all[3], far)
		got, second := make(chan store.Answer, 1), make(chan store.Answer, 1)
		go func() { got <- d.all[0].get(keyOf(1)) }()
		time.Sleep(25 * time.Millisecond) // node 3 has sent it on
		f.net.delaying(nil)
		go func() { second <- d.all[1].get(keyOf(1)) }()
		time.Sleep(15 * time.Millisecond)
		slow(d.all[2], d.all[3], far) // what node 3 sends again for lost comes no sooner
		f.wantAnswer("get on node 2", <-second, store.OK, "cart")
		if n := value(t, d.all[3].mesh.metrics.handled); n != 1 {
			t.Fatalf("node 4 has handled %v questions, and should have heard that of node 2 only", n)
		}
		f.wantAnswer("get on node 1", <-got, store.OK, "cart")
		time.Sleep(time.Second)
		if n := value(t, d.all[3].mesh.metrics.handled); n != 2 {
			t.Errorf("node 4 has handled %v questions", n)
		}
		if h := f.holders(keyOf(1)); len(h) != 1 || h[0] != "a" {
			t.Errorf("held by %v, want a", h)
		}
	})
}

func TestTwoNodesThatCanOnlyDialOutFindEachOthersSessions(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.start("c")
		allowed := map[string]bool{}
		x, y := addrOf("a").String(), addrOf("b").String()
		// Nothing gets in to a or b, not even when it is sent from there: port numbers change on the way.
		f.net.losing(func(from, to string) bool {
			allowed[from+to] = true
			return from == x && to == y || from == y && to == x || (to == x || to == y) && !allowed[to+from]
		})
		a, b := f.start("a", "c"), f.start("b", "c")
		time.Sleep(3 * time.Second)
		a.put(keyOf(1), "cart", 0)
		wantTime(t, "a fetch through the third", took(func() {
			f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "cart")
		}), 4*f.delay)
		f.wantAnswer("a miss", a.get(keyOf(2)), store.NotFound, "")
		time.Sleep(2 * time.Minute)
		a.wantPeer("b", Up, 2)
		f.wantAnswer("get on a", a.get(keyOf(1)), store.OK, "cart")
	})
}

func TestANodeWhoseLinkIsCutIsReachedThroughOthers(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c, d := f.start("a"), f.start("b", "a"), f.start("c", "a"), f.start("d", "a")
		f.linked(a, b, c, d)
		a.put(keyOf(1), "cart", 0)
		f.cut(a, b)
		time.Sleep(6 * time.Second)
		a.wantPeer("b", Up, 2)
		b.wantPeer("a", Up, 2)
		wantTime(t, "a fetch", took(func() { f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "cart") }), 4*f.delay)
		time.Sleep(time.Second)
		for _, n := range []*testNode{a, b, c, d} {
			if d := took(func() { f.wantAnswer("a miss", n.get(keyOf(2)), store.NotFound, "") }); d > 4*f.delay+time.Millisecond {
				t.Errorf("a miss on %s took %v", n.name, d)
			}
		}
		time.Sleep(2 * time.Minute)
		a.wantPeer("b", Up, 2)
		if lines := f.log.lines("a", "a node is out"); len(lines) > 0 {
			t.Errorf("it was given up: %v", lines)
		}
		f.mend()
		f.linked(a, b, c, d)
		a.wantPeer("b", Up, 1)
	})
}

func TestLocksAndWritesReachTheHolderOverSeveralLinks(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(5))
		first, last := d.all[0], d.all[4]
		last.put(keyOf(1), "cart", 0)
		lock := last.acquire(keyOf(1))
		f.wantAnswer("acquire", lock, store.OK, "cart")
		if a := first.get(keyOf(1)); a.Status != store.Locked || a.Cookie != lock.Cookie {
			t.Errorf("status %d, cookie %d; want locked by %d", a.Status, a.Cookie, lock.Cookie)
		}
		wantTime(t, "a put: a question and the write", took(func() {
			f.wantAnswer("put", first.put(keyOf(1), "more", lock.Cookie), store.OK, "")
		}), 16*f.delay)
		if !last.holds(keyOf(1)) {
			t.Error("a write has moved the session")
		}
		f.wantAnswer("get", d.all[2].get(keyOf(1)), store.OK, "more")
		f.wantAnswer("delete", first.delete(keyOf(1), store.NoCookie), store.OK, "")
		f.wantAnswer("get", last.get(keyOf(1)), store.NotFound, "")
	})
}

func TestALargeSessionCrossesSeveralLinksWhole(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(4))
		f.net.narrow(4 << 20)
		body := string(bytes.Repeat([]byte("0123456789abcdef"), 512<<10))
		d.all[0].put(keyOf(1), body, 0)
		var a store.Answer
		for a = d.all[3].get(keyOf(1)); a.Status == store.Unknown; a = d.all[3].get(keyOf(1)) {
			time.Sleep(500 * time.Millisecond)
		}
		f.wantAnswer("get", a, store.OK, body)
		lock := d.all[3].acquire(keyOf(1))
		f.wantAnswer("a large write", d.all[1].put(keyOf(1), body+"!", lock.Cookie), store.OK, "")
		f.wantAnswer("get", d.all[3].get(keyOf(1)), store.OK, body+"!")
	})
}

func TestOfTwoCopiesThatARelayFindsOneComesAndTheOtherStays(t *testing.T) {
	for _, size := range []int{1, 100, 200_000} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				d := f.draw(star(4))
				body := strings.Repeat("x", size)
				d.all[2].put(keyOf(1), body, 0)
				d.all[3].put(keyOf(1), body, 0)
				f.wantAnswer("get", d.all[1].get(keyOf(1)), store.OK, body)
				time.Sleep(time.Second)
				for _, n := range d.all {
					if s := n.store.Stats(); s.Doubts != 0 {
						t.Errorf("%s is in doubt", n.name)
					}
					for _, p := range n.mesh.Peers() {
						if p.State != Up {
							t.Errorf("%s sees %s %s", n.name, p.Node, p.State)
						}
					}
				}
				if h := f.holders(keyOf(1)); len(h) != 2 {
					t.Errorf("held by %v, want the asker and one of the two", h)
				}
			})
		})
	}
}

// The relay between giver and receiver dies when the session is through and the receipt is not.
func TestADoubtIsClearedOverAnotherPath(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(ring(5)) // a and c: through b, or through e and d
		a, b, c := d.all[0], d.all[1], d.all[2]
		a.put(keyOf(1), "cart", 0)
		sent := false
		f.net.losing(func(from, to string) bool {
			if from != c.addr.String() || to != b.addr.String() {
				return false
			}
			lost := sent
			sent = true
			return lost
		})
		f.wantAnswer("get on c", c.get(keyOf(1)), store.OK, "cart")
		b.kill()
		f.net.losing(nil)
		f.wantAnswer("get while in doubt", a.get(keyOf(1)), store.Unknown, "")
		time.Sleep(12 * time.Second)
		f.wantAnswer("get when the other path has been taken", a.get(keyOf(1)), store.OK, "cart")
		time.Sleep(time.Second)
		if h := f.holders(keyOf(1)); len(h) != 1 || a.store.Stats().Doubts != 0 {
			t.Errorf("held by %v, %d doubts", h, a.store.Stats().Doubts)
		}
	})
}

func TestANodeFurtherOnThatHasDrainedIsNotWaitedFor(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(4))
		last := d.all[3]
		last.put(keyOf(1), "cart", 0)
		if err := last.mesh.GoodBye(t.Context()); err != nil {
			t.Fatal(err)
		}
		last.stop()
		time.Sleep(100 * time.Millisecond)
		for _, n := range d.all[:3] {
			n.wantPeer("d", Drained, 0)
			f.wantAnswer("a miss", n.get(keyOf(2)), store.NotFound, "")
		}
		f.wantAnswer("get", d.all[0].get(keyOf(1)), store.OK, "cart")
		d.all[3] = f.start("d", d.peersOf(3)...)
		d.reached()
	})
}

func TestANodeThatIsForgottenIsForgottenByAll(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(5))
		if err := d.all[0].mesh.Forget("e"); err == nil {
			t.Error("a node that is up was forgotten")
		}
		d.all[4].kill()
		time.Sleep(10 * time.Second)
		f.wantAnswer("a miss", d.all[0].get(keyOf(1)), store.Unknown, "")
		if err := d.all[1].mesh.Forget("e"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for _, n := range d.all[:4] {
			f.wantAnswer("a miss", n.get(keyOf(1)), store.NotFound, "")
		}
	})
}

func TestARestartedNodeIsReachedOverSeveralLinksAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(4))
		for range 3 {
			d.all[3].kill()
			d.all[3] = f.start("d", "c")
			d.reached()
			d.all[3].put(keyOf(1), "cart", 0)
			f.wantAnswer("get", d.all[0].get(keyOf(1)), store.OK, "cart")
			d.all[0].delete(keyOf(1), store.NoCookie)
		}
	})
}

// A node that starts when its clock has been set back begins with lists that are older than those which the
// others remember of it.
func TestANodeWhoseClockWasSetBackIsHeardAllTheSame(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(3))
		a, c := d.all[0].mesh, d.all[2].mesh
		c.mu.Lock()
		c.atlas.mine.Version = 5
		c.spread(&c.atlas.mine, nil)
		c.mu.Unlock()
		time.Sleep(time.Second)
		c.mu.Lock()
		now := c.atlas.mine
		c.mu.Unlock()
		a.mu.Lock()
		defer a.mu.Unlock()
		if d := cmp.Diff(now, *a.atlas.lists["c"]); d != "" || now.Version <= 5 {
			t.Errorf("version %d: %s", now.Version, d)
		}
	})
}

func TestAQuestionGoesNoFurtherThanItsHops(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		tp := line(5)
		d := &drawn{farm: f, topology: tp}
		f.config = func(c *Config) { c.Manual, c.MaxHops = true, 2 }
		for i := range tp.size {
			d.all = append(d.all, f.start(nodeName(i), d.peersOf(i)...))
		}
		d.reached()
		d.all[2].put(keyOf(2), "cart", 0)
		f.wantAnswer("get over two links", d.all[0].get(keyOf(2)), store.OK, "cart")
		d.all[4].put(keyOf(4), "cart", 0)
		f.wantAnswer("get over four", d.all[0].get(keyOf(4)), store.Unknown, "")
		f.wantAnswer("a miss", d.all[0].get(keyOf(1)), store.Unknown, "")
		f.wantAnswer("a miss in the middle", d.all[2].get(keyOf(1)), store.NotFound, "")
	})
}

// Two nodes are about to create one key at the same time, at the two ends.
func TestTwoNodesFarApartThatCreateOneKeyEndWithOneSession(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(5))
		for i := range 5 {
			for _, n := range d.all {
				n.get(keyOf(i)) // a 404 was given: a put asks first
			}
			done := make(chan store.Answer, 2)
			go func() { done <- d.all[0].put(keyOf(i), "x", 0) }()
			time.Sleep(time.Duration(i) * 15 * time.Millisecond)
			go func() { done <- d.all[4].put(keyOf(i), "y", 0) }()
			f.wantAnswer("put", <-done, store.OK, "")
			f.wantAnswer("put", <-done, store.OK, "")
			time.Sleep(time.Second)
			if h := f.holders(keyOf(i)); len(h) != 1 {
				t.Errorf("held by %v", h)
			}
		}
	})
}
