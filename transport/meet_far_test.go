package transport

import (
	"slices"
	"testing"
	"time"

	"peerstate/store"
)

// In a line a - b - c - d that is cut in the middle, a and d have each stored a session of one key.
func TestNodesThatReachEachOtherThroughOthersCompareWhatTheyHoldToo(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(4))
		first, last := d.all[0], d.all[3]
		f.split(d.all[2], last)
		time.Sleep(20 * time.Second)
		f.wantAnswer("put on a", first.put(keyOf(1), "older", 0), store.OK, "")
		time.Sleep(time.Second)
		f.wantAnswer("put on d", last.put(keyOf(1), "newer", 0), store.OK, "")
		f.mend()
		d.reached()
		time.Sleep(2 * time.Second)
		if h := f.holders(keyOf(1)); !slices.Equal(h, []string{"d"}) {
			t.Errorf("held by %v", h)
		}
		if n := first.store.Stats().Conflicts; n != 1 {
			t.Errorf("%d conflicts are counted, want 1", n)
		}
		f.wantAnswer("get on a", first.get(keyOf(1)), store.OK, "newer")
	})
}
