package transport

import (
	"testing"
	"time"

	"peerstate/store"
)

// In a line a - b - c, a second node called a comes to c, which has no link to the first.
func TestASecondLiveNodeOfOneNameIsRefusedWhereTheFirstIsReachedThroughOthers(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(3))
		a, b, c := d.all[0], d.all[1], d.all[2]
		a.put(keyOf(1), "x", 0)
		f.copyCertificates("a", "2")
		twin := f.startOn("2", "c")
		time.Sleep(2 * time.Second)
		if c.mesh.direct("a") != nil || twin.mesh.direct("c") != nil {
			t.Error("the second node is linked")
		}
		f.wantLogged("c", twinLine)
		f.wantLogged("2", twinLine)
		f.wantAnswer("head on c", c.head(keyOf(1)), store.OK, "")
		f.wantAnswer("head on b", b.head(keyOf(1)), store.OK, "")
	})
}

// The first has crashed, nobody has noticed yet, and it comes back with a link to another node.
func TestANodeThatComesBackWithAnotherLinkIsNotTakenForASecondOne(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(3))
		a, b, c := d.all[0], d.all[1], d.all[2]
		f.copyCertificates("a", "2") // the machine is replaced, and keeps its name
		a.kill()
		moved := f.startOn("2", "c")
		begun := time.Now()
		f.linked(c, moved)
		if d := time.Since(begun); d > 3*time.Second {
			t.Errorf("it took %v", d)
		}
		time.Sleep(10 * time.Second)
		moved.put(keyOf(1), "x", 0)
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "x")
		for _, n := range []string{"b", "c", "2"} {
			if lines := f.log.lines(n, twinLine); len(lines) > 0 {
				t.Error(lines)
			}
		}
	})
}
