package transport

import (
	"testing"
	"time"

	"peerstate/store"
)

func TestANodeNeedsTheAddressOfOneOtherToLinkToAll(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		c := f.start("c", "a")
		f.linked(a, b, c)
		begun := time.Now()
		d := f.start("d", "c") // joins later, by another one
		f.linked(a, b, c, d)
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("it took %v until the fourth was linked with all", took)
		}
		b.put(keyOf(1), "cart", 0)
		f.wantAnswer("get on d", d.get(keyOf(1)), store.OK, "cart")
		time.Sleep(10 * time.Second)
		f.wantAnswer("a miss", d.get(keyOf(2)), store.NotFound, "")
	})
}

func TestAHeardOfNodeThatCannotBeReachedIsWaitedForUntilItIsLost(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		b.put(keyOf(1), "cart", 0)
		b.kill()
		time.Sleep(time.Second)
		// c has never met b, and must not say that b's sessions are missing.
		c := f.start("c", "a")
		f.linked(a, c)
		time.Sleep(6 * time.Second)
		f.wantAnswer("get", c.get(keyOf(1)), store.Unknown, "")
		time.Sleep(70 * time.Second)
		f.wantAnswer("get when it is lost", c.get(keyOf(1)), store.NotFound, "")
	})
}

func TestANodeThatComesBackIsLinkedByThoseWhoHadGivenItUp(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		c := f.start("c", "a")
		f.linked(a, b, c)
		b.kill()
		time.Sleep(2 * time.Minute)
		b = f.start("b", "a")
		f.linked(a, b, c)
	})
}

func TestANodeThatOnlyCanDialOutTakesFullPart(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		// d lets nothing in from an address that it has not sent to before.
		allowed := map[string]bool{}
		d := addrOf("d").String()
		f.net.losing(func(from, to string) bool {
			if from == d {
				allowed[to] = true
			}
			return to == d && !allowed[from]
		})
		n := f.start("d", "a")
		f.linked(a, b, n)
		n.put(keyOf(1), "cart", 0)
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "cart")
	})
}
