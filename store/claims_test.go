package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A node in the wrong hands says that sessions were deleted which never existed, and asks for keys that it is about to
// create, without end.
func TestWhatANodeCanHaveRememberedHereIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		st := New(Options{Node: "a", Instance: 1, Backups: 1, FetchTimeout: time.Second, MaxMemory: most})
		defer st.Close()
		bad, good := Peer{"b", 2}, Peer{"c", 3}
		bury := func(from Peer, key string) KeepKind {
			return st.Keep(from, ParcelBury, Record{Key: key, Stamp: 5, Timeout: MaxTimeout})
		}
		kept := Record{Key: "kept", Stamp: 3, Cookie: 1, Timeout: 20, Left: 20 * time.Minute, Body: make([]byte, 2000)}
		if k := st.Keep(good, ParcelCopy, kept); k != KeepDone {
			t.Fatalf("a backup: %d", k)
		}
		n := 0
		for ; n < 10_000 && bury(bad, fmt.Sprint("made up ", n)) == KeepDone; n++ {
		}
		if used := st.Memory().Used; n < 100 || used > most/claimShare+3000 {
			t.Errorf("%d deletions were remembered, in %d bytes", n, used)
		}
		want := func(asker Peer, key string, kind ReplyKind, much bool) {
			t.Helper()
			if got := st.Asked(t.Context(), asker, Question{Key: key, Want: Create, Inquiry: 7}); got.Kind != kind || got.TooMuch != much {
				t.Errorf("%s asks for %s: %+v", asker.Node, key, got)
			}
		}
		want(bad, "created", ReplyNotKnown, true)
		want(good, "created", ReplyMissing, false)
		if k := bury(good, "deleted"); k != KeepDone {
			t.Errorf("another node's deletion: %d", k)
		}
		if k := bury(bad, "kept"); k != KeepRefused {
			t.Errorf("one of a backup: %d", k)
		}
		if _, ok := st.BackupOf("kept"); ok {
			t.Error("the backup of a deleted session is still there")
		}
		put(st, 0, 100)
		if s := st.Stats(); s.Active != 100 {
			t.Errorf("%d of 100 sessions were stored", s.Active)
		}
		if err := checkIdle(st); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsForgottenIsOwedByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{Node: "a", Instance: 1, Backups: 1, FetchTimeout: time.Second, MaxMemory: 1 << 20})
		defer st.Close()
		b := Peer{"b", 2}
		for round := range 3 {
			n := 0
			for ; n < 10_000 && st.Keep(b, ParcelBury, Record{Key: fmt.Sprint("k", n), Stamp: Stamp(round + 1), Timeout: 20}) == KeepDone; n++ {
			}
			if n < 100 || n == 10_000 {
				t.Fatalf("round %d: %d deletions were remembered", round, n)
			}
			put(st, 0, 10)
			for i := range n { // a new session in the place of a deletion is this node's own
				st.Try(&Request{Op: Put, Key: fmt.Appendf(nil, "k%d", i), Cookie: NoCookie, Timeout: 1})
			}
			if err := checkIdle(st); err != nil {
				t.Fatal(err)
			}
			time.Sleep(31*time.Minute + 2*sweepRound)
			synctest.Wait()
			if used := st.Memory().Used; used != 0 {
				t.Errorf("%d bytes are left over", used)
			}
		}
	})
}
