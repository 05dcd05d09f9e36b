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
