package transport

import (
	"testing"
	"time"

	"peerstate/store"
)

// clocked makes it look as if a's peers had these clocks.
func clocked(a *testNode, offsets map[string]time.Duration) {
	a.mesh.mu.Lock()
	for name, d := range offsets {
		a.mesh.nodes[name].offset, a.mesh.nodes[name].clocked = d, true
	}
	a.mesh.mu.Unlock()
	a.mesh.watchClock()
}

// stampAhead is how far the stamp of a write on this node is ahead of its own clock.
func (n *testNode) stampAhead(key string) time.Duration {
	n.put(key, "x", 0)
	return time.Duration(int64(n.store.Settle(key, store.Version{}, "").Version.Stamp) - time.Now().UnixNano())
}

func TestANodeWhoseClockDiffersFromMostOthersStampsWithTheirTime(t *testing.T) {
	const m = time.Minute
	for what, tt := range map[string]struct {
		offsets map[string]time.Duration
		want    time.Duration // that is added to stamps
	}{
		"all agree":                       {map[string]time.Duration{"b": 0, "c": time.Second, "d": -50 * time.Second}, 0},
		"one differs":                     {map[string]time.Duration{"b": 0, "c": 0, "d": 10 * m}, 0},
		"half of them differ":             {map[string]time.Duration{"b": 5 * m, "c": 0, "d": 5 * m}, 0},
		"two of two differ":               {map[string]time.Duration{"b": 5 * m, "c": 5 * m}, 5 * m},
		"all three differ":                {map[string]time.Duration{"b": -5 * m, "c": -6 * m, "d": -7 * m}, -6 * m},
		"one of three is mad":             {map[string]time.Duration{"b": 2 * m, "c": 2 * m, "d": 1 << 62}, 2 * m},
		"the only other one":              {map[string]time.Duration{"b": time.Hour}, 0},
		"by less than a minute":           {map[string]time.Duration{"b": 59 * time.Second, "c": 59 * time.Second}, 0},
		"the smallest of all differences": {map[string]time.Duration{"b": -1 << 63, "c": -1 << 63, "d": -1 << 63}, -1 << 63},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				a := f.start("a")
				nodes := []*testNode{a}
				for name := range tt.offsets {
					nodes = append(nodes, f.start(name, "a"))
				}
				for _, n := range nodes[1:] {
					f.linked(a, n)
				}
				clocked(a, tt.offsets)
				if tt.want == -1<<63 {
					if got := a.stampAhead(keyOf(1)); got > 0 {
						t.Errorf("stamps are ahead by %v", got)
					}
					return
				}
				if got := a.stampAhead(keyOf(1)); got != tt.want {
					t.Errorf("stamps are ahead of this clock by %v, want %v", got, tt.want)
				}
				if a.mesh.Skewed() != (tt.want != 0) {
					t.Errorf("Skewed is %v", a.mesh.Skewed())
				}
				if tt.want == 0 {
					return
				}
				f.wantLogged("a", "this machine's clock is wrong")
				time.Sleep(2500 * time.Millisecond) // pongs bring the real clocks
				if got := a.stampAhead(keyOf(2)); got != 0 || a.mesh.Skewed() {
					t.Errorf("when the clocks agree again stamps are ahead by %v", got)
				}
				f.wantLogged("a", "this machine's clock agrees with the other nodes' again")
			})
		})
	}
}

func TestANodeThatIsNotLinkedHasNoSayInTheTime(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a")
		f.linked(a, b)
		f.linked(a, c)
		clocked(a, map[string]time.Duration{"b": time.Hour, "c": time.Hour})
		c.stop()
		time.Sleep(50 * time.Millisecond)
		clocked(a, map[string]time.Duration{"b": time.Hour})
		if a.mesh.Skewed() {
			t.Error("one node says that this one's clock is wrong, and is believed")
		}
	})
}

// Stamps never go back for one key, whatever the clocks of two nodes say.
func TestTheLaterWriteWinsThoughItsNodesClockIsBehind(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.store.SetClockOffset(time.Hour) // a's clock is an hour ahead
		a.put(keyOf(1), "first", 0)
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "first")
		if n := b.store.Stats().Ahead; n != 1 {
			t.Errorf("%d stamps far ahead are counted", n)
		}
		b.put(keyOf(1), "second", 0)
		f.wantAnswer("get on a", a.get(keyOf(1)), store.OK, "second")
		f.wantAnswer("delete on a", a.delete(keyOf(1), store.NoCookie), store.OK, "")
		f.wantAnswer("put on b", b.put(keyOf(1), "third", 0), store.OK, "")
		f.wantAnswer("get on a", a.get(keyOf(1)), store.OK, "third")
		if x, y := a.store.Stats().Conflicts, b.store.Stats().Conflicts; x+y > 0 {
			t.Errorf("%d and %d conflicts", x, y)
		}
	})
}

func TestAPeersClockIsMeasuredWithoutTheTimeOnTheWay(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.delay = 100 * time.Millisecond
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		time.Sleep(3 * time.Second)
		if d := a.peer("b").Offset; d.Abs() > time.Millisecond {
			t.Errorf("two equal clocks differ by %v", d)
		}
	})
}
