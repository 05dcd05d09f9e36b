package transport

import (
	"testing"
	"time"

	"peerstate/store"
)

func TestASessionStoredThroughOneNodeIsReadThroughAnother(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		f.wantAnswer("put on a", a.put(keyOf(1), "cart", store.NoCookie), store.OK, "")
		wantTime(t, "a get on b", took(func() {
			f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "cart")
		}), 2*f.delay)
		time.Sleep(time.Second)
		if got := f.holders(keyOf(1)); len(got) != 1 || got[0] != "b" {
			t.Errorf("held by %v, want b", got)
		}
		f.wantAnswer("get on a again", a.get(keyOf(1)), store.OK, "cart")
	})
}

func TestANewSessionAsksNobody(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		before := f.net.packets()
		if d := took(func() { a.put(keyOf(1), "x", 0) }); d != 0 {
			t.Errorf("it took %v", d)
		}
		if sent := f.net.packets() - before; sent != 0 {
			t.Errorf("%d packets were sent", sent)
		}
	})
}

func TestAMissCostsOneRoundTripToTheSlowestNode(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.delay = 40 * time.Millisecond
		c := f.start("c", "a", "b")
		f.linked(a, b, c)
		time.Sleep(10 * time.Second)
		wantTime(t, "a miss", took(func() {
			f.wantAnswer("get", a.get(keyOf(1)), store.NotFound, "")
		}), 50*time.Millisecond)
	})
}
