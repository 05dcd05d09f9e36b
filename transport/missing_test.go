package transport

import (
	"testing"
	"time"

	"peerstate/store"
)

func TestNotKnownIsNotMissing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "b")
		b := f.start("b", "a")
		f.linked(a, b)
		f.wantAnswer("a miss while both are up", a.get(keyOf(1)), store.NotFound, "")
		b.put(keyOf(2), "cart", 0)
		b.kill()
		for _, when := range []time.Duration{0, time.Second, 8 * time.Second, 20 * time.Second, 30 * time.Second} {
			time.Sleep(when)
			f.wantAnswer("get", a.get(keyOf(2)), store.Unknown, "")
			f.wantAnswer("acquire", a.acquire(keyOf(2)), store.Unknown, "")
			f.wantAnswer("head", a.head(keyOf(2)), store.Unknown, "")
		}
		d := took(func() { f.wantAnswer("release", a.release(keyOf(2), 2), store.Unknown, "") })
		if d < 2*time.Second || d > 2500*time.Millisecond {
			t.Errorf("a release waited %v for the other node, want the fetch time-out", d)
		}
		f.wantAnswer("a new visitor's session", a.put(keyOf(3), "new", 0), store.OK, "")
		time.Sleep(20 * time.Second)
		if d := took(func() { f.wantAnswer("get when it is lost", a.get(keyOf(2)), store.NotFound, "") }); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

func TestAConfiguredPeerThatWasNeverThereIsWaitedForOnce(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "b")
		f.wantAnswer("get at once", a.get(keyOf(1)), store.Unknown, "")
		time.Sleep(5 * time.Second)
		for range 3 {
			if d := took(func() { f.wantAnswer("get", a.get(keyOf(1)), store.NotFound, "") }); d != 0 {
				t.Errorf("a miss took %v", d)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestANodeThatStartsWaitsForThoseItKnew(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "b")
		b := f.start("b", "a")
		f.linked(a, b)
		b.put(keyOf(1), "cart", 0)
		a.kill()
		f.cut(a, b)
		a = f.start("a") // b is not even configured any more
		time.Sleep(20 * time.Second)
		f.wantAnswer("get while b cannot be reached", a.get(keyOf(1)), store.Unknown, "")
		f.mend()
		f.linked(a, b)
		f.wantAnswer("get when it can", a.get(keyOf(1)), store.OK, "cart")
	})
}

func TestANodeThatStartsDoesNotWaitForThoseThatWereLost(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "b")
		b := f.start("b", "a")
		f.linked(a, b)
		b.kill()
		time.Sleep(80 * time.Second)
		a.stop()
		a = f.start("a")
		if d := took(func() { f.wantAnswer("get", a.get(keyOf(1)), store.NotFound, "") }); d != 0 {
			t.Errorf("a miss took %v", d)
		}
	})
}

func TestAllNodesStartCold(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c := f.start("a", "b", "c"), f.start("b", "a", "c"), f.start("c", "a", "b")
		f.linked(a, b, c)
		for _, n := range []*testNode{a, b, c} {
			n.kill()
		}
		a, b = f.start("a", "b", "c"), f.start("b", "a", "c")
		f.linked(a, b)
		f.wantAnswer("get while c may have the session", a.get(keyOf(1)), store.Unknown, "")
		c = f.start("c", "a", "b")
		f.linked(a, b, c)
		f.wantAnswer("get when all are up", a.get(keyOf(1)), store.NotFound, "")
	})
}

func TestANodeRestartsWhileItsSessionsAreAskedFor(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "b")
		b := f.start("b", "a")
		f.linked(a, b)
		// The visitor's session is on a. b restarts again and again, and never says that it has gone.
		a.put(keyOf(1), "cart", 0)
		for range 5 {
			lock := a.acquire(keyOf(1))
			f.wantAnswer("acquire on a", lock, store.OK, "cart")
			b.kill()
			b = f.start("b", "a")
			for i := 0; ; i++ {
				got := b.get(keyOf(1))
				if got.Status == store.Locked {
					break
				}
				if got.Status != store.Unknown {
					t.Fatalf("b says %d", got.Status)
				}
				if i > 100 {
					t.Fatal("not linked again")
				}
				time.Sleep(100 * time.Millisecond)
			}
			f.wantAnswer("release through b", b.release(keyOf(1), lock.Cookie), store.OK, "")
		}
	})
}

func TestRequestsForTheSameMissingSessionShareOneQuestion(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		done := make(chan store.Answer)
		before := counter(t, a.mesh.metrics.fetches, "missing")
		for range 50 {
			go func() { done <- a.get(keyOf(1)) }()
		}
		for range 50 {
			f.wantAnswer("get", <-done, store.NotFound, "")
		}
		if n := counter(t, a.mesh.metrics.fetches, "missing") - before; n != 1 {
			t.Errorf("%v questions were asked", n)
		}
	})
}
