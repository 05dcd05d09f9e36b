package store

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store/journal"
)

// moveBeforeACopy has a session of the first node written at another, before a copy of it comes to the second: when the session moves,
// with a message, or has moved.
func (k *keeping) moveBeforeACopy(t *testing.T, to *node, when string) {
	t.Helper()
	a, b := k.nodes[0], k.nodes[1]
	late, err := a.Outbox(Peer{"b", 2}).Take(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	k.on(func(m message) bool {
		if m.kind == when {
			k.bring(a, b, late[0])
		}
		return true
	})
	to.get("k")
	synctest.Wait()
	to.write("k", "new")
	if when == "" {
		k.bring(a, b, late[0])
	}
}

// A copy that comes late, when the session has been written here and has gone on, and there was no memory here to keep
// what went: it must never be promoted, or a visitor would get what he had before.
func TestACopyOlderThanWhatWentOnFromHereIsNotKept(t *testing.T) {
	for _, c := range []struct {
		when string
		late func(k *keeping, late func()) (handed bool) // has the copy come, and b give the session to c
	}{
		{"when it has gone", func(k *keeping, late func()) bool {
			got := k.nodes[2].get("k")
			synctest.Wait()
			late()
			return got.Status == OK
		}},
		{"while it goes", func(k *keeping, late func()) bool {
			k.on(func(m message) bool {
				if m.kind == aReceipt {
					late()
				}
				return true
			})
			return k.nodes[2].get("k").Status == OK
		}},
	} {
		t.Run(c.when, func(t *testing.T) {
			inKeeping(t, 1, []string{"a", "b", "c"}, func(t *testing.T, k *keeping) {
				a, b := k.nodes[0], k.nodes[1]
				a.write("k", "old")
				a.SetKeepers([]Keeper{{Peer: Peer{"b", 2}, Linked: true}})
				all, err := a.Outbox(Peer{"b", 2}).Take(t.Context(), 1)
				if err != nil {
					t.Fatal(err)
				}
				parcel := all[0] // on its way to b for a while
				mustBe(t, "it moves to b", b.get("k"), OK, "old")
				mustBe(t, "and is written there", b.write("k", strings.Repeat("new", 1<<15)), OK, "")
				b.room.most = 4 << 15 // it is more than the half that is for backups
				if !c.late(k, func() {
					if got := b.Keep(Peer{"a", 1}, parcel.Kind, parcel.Record); got != KeepNewer {
						t.Errorf("it is answered by %d", got)
					}
				}) {
					t.Fatal("it has not gone on")
				}
				synctest.Wait()
				parcel.Refused()
				if kept, ok := b.BackupOf("k"); ok {
					t.Errorf("it is kept: %+v; promoted: %v", kept, b.PromoteBackup(kept))
				}
			})
		})
	}
}

// The node wrote a session of which it had a backup, and gave it away: the old backup goes from the disk a round after the
// note has come, and a crash may be between.
func TestABackupOlderThanWhatWentOnFromHereIsNotPromotedAfterACrash(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{Farm: "f", Node: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Minute).UnixNano()
	old := saved{kind: savedBackup, stamp: 5, epoch: 3, timeout: 20, cookie: 1, expires: until, who: Peer{"b", 6}}
	cases := map[string]struct {
		note saved
		want bool
	}{
		"older":                   {saved{stamp: 8, epoch: 1}, false},
		"moved less often":        {saved{stamp: 5, epoch: 4}, false},
		"the copy of what went":   {saved{stamp: 5, epoch: 3}, true},
		"newer":                   {saved{stamp: 4, epoch: 9}, true},
		"than an empty one":       {saved{stamp: 8, flags: FlagUninitialized}, true},
		"of what was deleted":     {saved{stamp: 8, deleted: 6, flags: FlagUninitialized}, false},
		"newer than the deletion": {saved{stamp: 8, deleted: 4, flags: FlagUninitialized}, true},
	}
	for key, c := range cases {
		c.note.kind, c.note.expires, c.note.who = savedMoved, until, Peer{"c", 7}
		j.Set(savedSession(key), c.note.head(), nil)
		j.Set(savedBackupOf(key), old.head(), []byte("cart"))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	st := journalled(t, dir, "f", 2, often)
	defer shut(t, st)
	for key, c := range cases {
		kept, ok := st.BackupOf(key)
		if !ok {
			t.Fatalf("%s: not loaded", key)
		}
		if got := st.PromoteBackup(kept); got != c.want {
			t.Errorf("%s: promoted: %v", key, got)
		}
		if _, ok := st.BackupOf(key); ok {
			t.Errorf("%s: it is still there", key)
		}
	}
}

func TestAKeeperThatRefusesWhatHasMovedSinceIsSentOtherSessions(t *testing.T) {
	for _, when := range []string{aReceipt, ""} { // while it moves, and when it has moved
		inKeeping(t, 1, []string{"a", "b"}, func(t *testing.T, k *keeping) {
			a, b := k.nodes[0], k.nodes[1]
			a.write("k", "old")
			k.moveBeforeACopy(t, b, when)
			a.write("other", "cart")
			k.deliver(all)
			k.mustBeSafe(t)
		})
	}
}

// The new holder does not know of a copy that was still on its way when the session went. It would stay for as long as the session may
// last, grow old, and be promoted if enough nodes were out.
func TestACopyThatComesWhenItsSessionHasMovedIsForgotten(t *testing.T) {
	for _, when := range []string{aReceipt, ""} { // or while it moves
		inKeeping(t, 1, []string{"a", "b", "c"}, func(t *testing.T, k *keeping) {
			a, b, c := k.nodes[0], k.nodes[1], k.nodes[2]
			a.SetKeepers([]Keeper{{Peer: Peer{"b", 2}, Preferred: true, Linked: true}})
			a.write("k", "old")
			k.moveBeforeACopy(t, c, when)
			k.deliver(all)
			k.mustBeSafe(t)
			if kept, ok := b.BackupOf("k"); ok {
				t.Errorf("b has %+v still", kept)
			}
		})
	}
}
