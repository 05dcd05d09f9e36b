package transport

import (
	"slices"
	"testing"
	"time"
)

// wantLinks waits until a node knows these links and no others.
func wantLinks(t *testing.T, n *testNode, want ...string) {
	t.Helper()
	var got []string
	for range 100 {
		got = got[:0]
		for _, l := range n.mesh.Links() {
			got = append(got, l.A+" "+l.B)
		}
		if slices.Equal(got, want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%s knows the links %q, want %q", n.name, got, want)
}

// rtt gives the round-trip time of a link as a node knows it.
func (n *testNode) rtt(a, b string) time.Duration {
	for _, l := range n.mesh.Links() {
		if l.A == a && l.B == b {
			return l.RTT
		}
	}
	return -1
}

func TestEveryNodeKnowsTheLinksOfTheFarmAndTheirRoundTripTimes(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.Manual = true }
		a := f.start("a")
		b := f.start("b", "a")
		c := f.start("c", "b")
		for _, n := range []*testNode{a, b, c} {
			wantLinks(t, n, "a b", "b c")
			for _, ends := range [][2]string{{"a", "b"}, {"b", "c"}} {
				if got := n.rtt(ends[0], ends[1]); got < 19*time.Millisecond || got > 25*time.Millisecond {
					t.Errorf("%s takes a round trip from %s to %s to be %v, and it is 20ms", n.name, ends[0], ends[1], got)
				}
			}
		}

		// A line that becomes slow is slow for those who only hear of it, too.
		f.net.delaying(func(from, to string) time.Duration {
			if c := addrOf("c").String(); from == c || to == c {
				return 60 * time.Millisecond
			}
			return 10 * time.Millisecond
		})
		time.Sleep(2 * time.Minute)
		if got := a.rtt("b", "c"); got < 115*time.Millisecond || got > 130*time.Millisecond {
			t.Errorf("a takes the round trip from b to c to be %v, and it is 120ms", got)
		}

		c.kill()
		time.Sleep(6 * time.Second)
		wantLinks(t, a, "a b")
		b.kill()
		time.Sleep(6 * time.Second)
		wantLinks(t, a)
	})
}

func TestSmallChangesOfRoundTripTimesAreNotTold(t *testing.T) {
	for _, x := range []struct {
		told, now uint32
		again     bool
	}{{0, 10, false}, {0, 21, true}, {10, 25, false}, {500, 600, false}, {500, 700, true}, {700, 500, true}, {90, 0, true}} {
		if got := tripsDiffer([]uint32{7, x.told}, []uint32{7, x.now}); got != x.again {
			t.Errorf("from %d to %d: told again: %v", x.told, x.now, got)
		}
	}
	if tripsDiffer(nil, nil) {
		t.Error("nothing has changed to nothing")
	}
}
