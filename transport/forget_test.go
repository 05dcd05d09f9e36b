package transport

import (
	"strings"
	"testing"
	"time"

	"peerstate/store"
)

func TestAForgottenNodeIsWaitedForByNobody(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		c := f.start("c", "a", "b")
		f.linked(a, b, c)
		if err := a.mesh.Forget("c"); err == nil {
			t.Error("a node that is up was forgotten")
		}
		if err := a.mesh.Forget("d"); err == nil || !strings.HasSuffix(err.Error(), "; there are b, c") {
			t.Errorf("of an unknown node it says %v", err)
		}
		c.kill()
		time.Sleep(7 * time.Second)
		f.wantAnswer("get before", b.get(keyOf(1)), store.Unknown, "")
		if err := a.mesh.Forget("c"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		f.wantAnswer("get on a", a.get(keyOf(1)), store.NotFound, "")
		f.wantAnswer("get on b", b.get(keyOf(1)), store.NotFound, "")
		c = f.start("c", "a", "b")
		f.linked(a, b, c)
	})
}
