package store

import (
	"testing"
	"testing/synctest"
)

func TestPromisesToOneGiverAreBoundedAndThoseToOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{Node: "a", Instance: 1})
		defer st.Close()
		for n := range uint64(boundMost) {
			if f := st.FateOf(HandoverID{Giver: 9, N: n}, "k"); f.Kind != NotReceived {
				t.Fatalf("promise %d: %d", n, f.Kind)
			}
		}
		for _, c := range []struct {
			id   HandoverID
			want FateKind
		}{{HandoverID{9, boundMost}, Unsaid}, {HandoverID{9, 1}, NotReceived}, {HandoverID{8, 1}, NotReceived}} {
			if f := st.FateOf(c.id, "k"); f.Kind != c.want {
				t.Errorf("%v: %d, want %d", c.id, f.Kind, c.want)
			}
		}
		if n := len(st.receipts.bound); n != boundMost+1 {
			t.Errorf("%d promises are remembered", n)
		}
		// What was not promised can still come in; what was cannot.
		if got := st.Receive(Peer{Node: "b", Instance: 9}, HandoverID{9, boundMost}, Record{Key: "k", Stamp: 1, Timeout: 20}); !got.Accepted {
			t.Error("a hand-over that nothing was promised of is refused")
		}
		if got := st.Receive(Peer{Node: "b", Instance: 9}, HandoverID{9, 1}, Record{Key: "other", Stamp: 1, Timeout: 20}); got.Accepted {
			t.Error("a hand-over that was promised to be refused is taken in")
		}
		st.receipts.age(2 * refusedFor)
		if f := st.FateOf(HandoverID{Giver: 9, N: boundMost + 5}, "k"); f.Kind != NotReceived {
			t.Errorf("after an hour: %d", f.Kind)
		}
		st.Settled(HandoverID{9, boundMost})
		if n := st.receipts.givers[9]; n != (entries{bound: 1}) {
			t.Errorf("counted: %+v", n)
		}
	})
}
