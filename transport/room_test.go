package transport

import (
	"context"
	"strings"
	"testing"
	"time"

	"peerstate/store"
)

// roomFor starts a, which has no limit, and b, which may keep a mebibyte.
func roomFor(f *farm) (a, b *testNode) {
	f.memory = map[string]int64{"b": 1 << 20}
	a = f.start("a")
	b = f.start("b", "a")
	f.linked(a, b)
	return a, b
}

func TestASessionForWhichThereIsNoMemoryHereStaysWithItsHolderAndIsWrittenThere(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := roomFor(f)
		b.put("own", strings.Repeat("x", 700<<10), 0)
		for what, size := range map[string]int{"more than is left": 500 << 10, "more than there is in all": 2 << 20} {
			a.put(what, strings.Repeat("x", size), 0)
			if got := b.get(what); got.Status != store.Unknown {
				t.Errorf("%s: get on b is answered %d", what, got.Status)
			}
			if got := a.get(what); got.Status != store.OK || len(got.Body) != size {
				t.Errorf("%s: get on a is answered %d with %d bytes", what, got.Status, len(got.Body))
			}
			if got := f.holders(what); len(got) != 1 || got[0] != "a" {
				t.Errorf("%s: held by %v", what, got)
			}
			f.wantAnswer("put through b", b.put(what, "small", 0), store.OK, "")
			f.wantAnswer("get on b", b.get(what), store.OK, "small")
		}
		if m := b.store.Memory(); m.Refused[store.RefusedHandover] != 2 || m.Used > 800<<10 {
			t.Errorf("%+v", m)
		}
		if n := counter(t, b.mesh.metrics.handovers, incoming, "no memory"); n != 2 {
			t.Errorf("%v are counted as refused", n)
		}
	})
}

func TestAWriteForWhichTheHolderHasNoMemoryIsAnErrorAndChangesNothing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := roomFor(f)
		b.put("k", "small", 0)
		lock := b.acquire("k")
		f.wantAnswer("put through a", a.put("k", strings.Repeat("x", 2<<20), lock.Cookie), store.Unknown, "")
		f.wantAnswer("release", b.release("k", lock.Cookie), store.OK, "")
		f.wantAnswer("get", b.get("k"), store.OK, "small")
		if m := b.store.Memory(); m.Refused[store.RefusedWrite] != 1 {
			t.Errorf("%+v", m)
		}
	})
}

func TestADrainSaysWhoHasNoMemoryForWhatIsLeft(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := roomFor(f)
		for i := range 30 {
			a.put(keyOf(i), strings.Repeat("x", 100<<10), 0)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var last DrainProgress
		err := a.mesh.Drain(ctx, func(p DrainProgress) { last = p })
		if err == nil || !strings.Contains(err.Error(), "no memory is left for them on b (PEERSTATE_MAX_MEMORY)") {
			t.Errorf("it ended with %v", err)
		}
		if last.Given == 0 || last.Left == 0 || last.Given+last.Left != 30 {
			t.Errorf("%+v", last)
		}
		for i := range 30 {
			if got := f.holders(keyOf(i)); len(got) != 1 {
				t.Errorf("session %d is held by %v", i, got)
			}
		}
		if m := b.store.Memory(); m.Used > m.Limit {
			t.Errorf("%+v", m)
		}
	})
}
