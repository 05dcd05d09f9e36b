package transport

import (
	"testing"
	"time"

	"peerstate/store"
)

// The question of c passes b, and is still on its way to a, when the session goes from a to b: b
// has answered that it does not have it, a answers that it gave it away. By a's note c finds it.
func TestAQuestionThatNarrowlyMissesAMovingSessionFindsIt(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		c := f.start("c", "a", "b")
		f.linked(a, b, c)
		a.put(keyOf(1), "cart", 0)
		far := 100 * time.Millisecond
		slow(c, a, far)
		got := make(chan store.Answer)
		asked := time.Now()
		go func() { got <- c.get(keyOf(1)) }()
		time.Sleep(2*f.delay + time.Millisecond) // b has said that it does not have it
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "cart")
		if since := time.Since(asked); since > far {
			t.Fatalf("the session moved after %v, and the question was at a by then", since)
		}
		f.wantAnswer("get on c", <-got, store.OK, "cart")
		time.Sleep(time.Second)
		if h := f.holders(keyOf(1)); len(h) != 1 || h[0] != "c" {
			t.Errorf("held by %v, want c", h)
		}
	})
}

// slow makes packets from one node to another take longer.
func slow(from, to *testNode, delay time.Duration) {
	x, y := from.addr.String(), to.addr.String()
	from.farm.net.delaying(func(from, to string) time.Duration {
		if from == x && to == y {
			return delay
		}
		return 0
	})
}

// c has a note of a session that has moved often and ended; d has one of the next session under that id, which has
// moved once, to the same node, while e was asking: that note is the newer one, though its epoch is lower.
func TestANoteOfAnEarlierSessionHidesNoLaterMove(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a"), f.start("d", "a"), f.start("e", "a")}
		f.linked(nodes...)
		a, b, c, d, e := nodes[0], nodes[1], nodes[2], nodes[3], nodes[4]
		k := keyOf(1)
		a.put(k, "earlier", 0)
		for _, n := range []*testNode{b, c, b, c, b} {
			f.wantAnswer("get", n.get(k), store.OK, "earlier")
			time.Sleep(time.Second)
		}
		f.wantAnswer("delete", b.delete(k, 0), store.OK, "")
		time.Sleep(time.Second)
		f.wantAnswer("put", d.put(k, "later", 0), store.OK, "")
		if !d.holds(k) {
			t.Fatalf("held by %v", f.holders(k))
		}
		f.net.delaying(func(from, to string) time.Duration {
			if from == e.addr.String() && to == d.addr.String() || from == d.addr.String() && to == e.addr.String() {
				return 100 * time.Millisecond
			}
			return time.Millisecond
		})
		got := make(chan store.Answer, 1)
		go func() { got <- e.get(k) }()
		time.Sleep(50 * time.Millisecond)
		f.wantAnswer("get on b", b.get(k), store.OK, "later")
		f.wantAnswer("get on e", <-got, store.OK, "later")
	})
}
