package store

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// promoted serves here what is a backup, and gives the number that the session's cookies are raised to.
func promoted(t *testing.T, st *Store, key string) int32 {
	t.Helper()
	if b, ok := st.BackupOf(key); ok && !st.PromoteBackup(b) {
		t.Fatal("not promoted")
	}
	s, ok := st.entry(key)
	if !ok || s.state != held {
		t.Fatalf("%s is not here: %+v", key, s)
	}
	return s.cookie
}

// crashed gives a copy of the directory as a process that is killed now leaves it.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return left
}

// writeNothing has the first round of a journal over, which begins with the first change. The next comes when its interval is over.
func writeNothing(st *Store) {
	req(st, Put, "other", NoCookie, "")
	synctest.Wait()
}

// drawnAlike gives the numbers of two runs that draw the same jump for a key that they promote at their start.
func drawnAlike(t *testing.T, key string) (one, two uint64) {
	t.Helper()
	seen := map[uint64]uint64{}
	for run := uint64(1); run < 1<<20; run++ {
		drawn := (&Store{instance: run}).draw(key, instant{}) >> 48
		if other := seen[drawn]; other != 0 {
			return other, run
		}
		seen[drawn] = run
	}
	t.Fatal("all differ")
	return 0, 0
}

// A session is served after a crash, a page locks it, and before that is on disk there is a second crash. The next run begins with
// the record that the first one began with. Whatever the two drew by chance, the lock that is forgotten writes no more
// once somebody has been there, and no other page gets its cookie.
func TestALockThatASecondCrashForgetsWritesNoMore(t *testing.T) {
	for _, farm := range []string{"", "f"} {
		t.Run("farm "+farm, func(t *testing.T) {
			first := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				st := journalled(t, first, farm, 1000, time.Hour)
				req(st, Put, "k", NoCookie, "cart")
				shut(t, st)
				one, two := drawnAlike(t, "k")
				pairs := [][2]uint64{{one, two}}
				for i := range uint64(16) {
					pairs = append(pairs, [2]uint64{2 * i, 2*i + 1})
				}
				for _, runs := range pairs {
					dir := crashed(t, first)
					a := journalled(t, dir, farm, runs[0], time.Hour)
					writeNothing(a)
					promoted(t, a, "k")
					dead := req(a, Acquire, "k", NoCookie, "")
					mustBe(t, "the lock", dead, OK, "cart")
					left := crashed(t, dir)
					shut(t, a)

					b := journalled(t, left, farm, runs[1], time.Hour)
					promoted(t, b, "k")
					lock := req(b, Acquire, "k", NoCookie, "")
					mustBe(t, "the next lock", lock, OK, "cart")
					if lock.Cookie == dead.Cookie {
						t.Errorf("runs %d: cookie %d was given twice", runs, lock.Cookie)
					}
					mustBe(t, "a put with the dead lock under the next", req(b, Put, "k", dead.Cookie, "stale"), Unknown, "")
					mustBe(t, "put", req(b, Put, "k", lock.Cookie, "new cart"), OK, "")
					for _, op := range []Op{Put, Release, Delete} {
						if got := req(b, op, "k", dead.Cookie, "stale"); got.Status != Unknown {
							t.Errorf("runs %d: %v with the dead lock, %d, where cookies were raised to %d: %+v", runs, op, dead.Cookie, lock.Cookie-1, got)
						}
					}
					mustBe(t, "get", req(b, Get, "k", NoCookie, ""), OK, "new cart")
					shut(t, b)
				}
			})
		})
	}
}

// A lock that was lost is still of use to its page as long as nobody else has been there.
func TestALockThatASecondCrashForgetsMayWriteIfNobodyHasBeenThere(t *testing.T) {
	first := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := journalled(t, first, "f", 1000, time.Hour)
		req(st, Put, "k", NoCookie, "cart")
		shut(t, st)
		for run := range uint64(16) {
			dir := crashed(t, first)
			a := journalled(t, dir, "f", 2*run, time.Hour)
			writeNothing(a)
			promoted(t, a, "k")
			dead := req(a, Acquire, "k", NoCookie, "")
			left := crashed(t, dir)
			shut(t, a)
			b := journalled(t, left, "f", 2*run+1, time.Hour)
			promoted(t, b, "k")
			mustBe(t, "put", req(b, Put, "k", dead.Cookie, "new cart"), OK, "")
			mustBe(t, "get", req(b, Get, "k", NoCookie, ""), OK, "new cart")
			shut(t, b)
		}
	})
}

// Of two nodes with a backup one promotes it, a page locks the session there, and that node is lost before the other one
// has heard of it.
func TestALockThatDiedWithASecondNodeWritesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var higher, lower int
		for i := range uint64(32) {
			holder := Peer{"h", 5}
			var nodes [2]*Store
			for j, name := range []string{"a", "b"} {
				nodes[j] = New(Options{Node: name, Instance: 2*i + uint64(j), FetchTimeout: fetchTimeout, Backups: 2})
				nodes[j].Join(nobody{})
				nodes[j].Keep(holder, ParcelCopy, Record{Key: "k", Stamp: 5, Timeout: 20, Left: 10 * time.Minute, Cookie: 7, Body: []byte("cart")})
			}
			promoted(t, nodes[0], "k")
			dead := req(nodes[0], Acquire, "k", NoCookie, "")
			b := nodes[1]
			if promoted(t, b, "k") > dead.Cookie {
				higher++
			} else {
				lower++
			}
			lock := req(b, Acquire, "k", NoCookie, "")
			mustBe(t, "the next lock", lock, OK, "cart")
			mustBe(t, "put", req(b, Put, "k", lock.Cookie, "new cart"), OK, "")
			mustBe(t, "a put with the dead lock", req(b, Put, "k", dead.Cookie, "stale"), Unknown, "")
			for _, st := range nodes {
				st.Close()
			}
		}
		if higher == 0 || lower == 0 {
			t.Errorf("raised beyond the dead lock %d times, not so far %d times", higher, lower)
		}
	})
}

// Its giver lets its own copy go when it hears that the session was received. Where nobody has another one, that is not said before
// it is on disk: what a crash may take is the last changes, and not a session that has just moved.
func TestASessionThatHasJustMovedIsNotLostByACrash(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprint("another copy ", kept), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				a, giver := journalled(t, dir, "ff", 1, time.Hour), Peer{"b", 5}
				writeNothing(a)
				rec := Record{Key: "k", Stamp: 5, Epoch: 1, Timeout: 20, Left: time.Minute, Cookie: 1, Body: []byte("cart")}
				if kept {
					rec.Keepers = []Peer{giver}
				}
				begun := time.Now()
				got := a.Receive(giver, HandoverID{5, 1}, rec)
				other := rec
				other.Key, other.Keepers = "other", []Peer{giver}
				a.Forced(t.Context(), got.And(a.Receive(giver, HandoverID{5, 2}, other)))
				if took := time.Since(begun); took > fetchTimeout/2 {
					t.Errorf("it took %v", took)
				}
				left := crashed(t, dir)
				shut(t, a)
				a = journalled(t, left, "ff", 2, time.Hour)
				if _, ok := a.BackupOf("k"); ok == kept {
					t.Errorf("it is in the journal: %v", ok)
				}
				shut(t, a)
			})
		})
	}
}
