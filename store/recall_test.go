package store

import (
	"context"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// journalled opens a store with a journal; without a farm's name it is alone.
func journalled(t *testing.T, dir, farm string, instance uint64, every time.Duration) *Store {
	t.Helper()
	st := New(Options{Node: "a", Instance: instance, FetchTimeout: fetchTimeout, Backups: len(farm) % 2})
	if err := st.OpenJournal(JournalOptions{Dir: dir, Farm: farm, Node: "a", Every: every}); err != nil {
		st.Close()
		t.Fatal(err)
	}
	return st
}

// shut closes a store, and with it writes what waits.
func shut(t *testing.T, st *Store) {
	t.Helper()
	st.Close()
	if err := check(st); err != nil {
		t.Error(err)
	}
	if err := st.CloseJournal(); err != nil {
		t.Error(err)
	}
}

func req(st *Store, op Op, key string, cookie int32, body string) Answer {
	r := &Request{Op: op, Key: []byte(key), Cookie: cookie, Timeout: 20, Body: []byte(body)}
	if a, ok := st.Try(r); ok {
		return a
	}
	return st.Do(context.Background(), r)
}

const often = 100 * time.Millisecond

func TestANodeThatIsAloneServesAfterARestartWhatItHad(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := journalled(t, dir, "", 1, often)
		for _, key := range []string{"written", "rewritten", "locked", "released", "deleted", "again", "read", "idle", "forever"} {
			req(st, Put, key, NoCookie, "old "+key)
		}
		st.Try(&Request{Op: Put, Key: []byte("forever"), Cookie: NoCookie, Body: []byte("old forever")})
		req(st, Put, "rewritten", NoCookie, "new")
		req(st, Release, "released", req(st, Acquire, "released", NoCookie, "").Cookie, "")
		for _, key := range []string{"deleted", "again"} {
			req(st, Delete, key, NoCookie, "")
		}
		req(st, Put, "again", NoCookie, "new again")
		empty := Request{Op: Put, Key: []byte("empty"), Cookie: NoCookie, Timeout: 20, Flags: FlagUninitialized, Body: []byte("empty")}
		st.Try(&empty)
		for range 5 {
			time.Sleep(4 * time.Minute)
			for _, key := range []string{"written", "rewritten", "released", "again", "read", "empty", "locked"} {
				req(st, Head, key, NoCookie, "") // which is not written down each time
			}
		}
		lock := req(st, Acquire, "locked", NoCookie, "")
		time.Sleep(time.Second)
		shut(t, st)

		time.Sleep(3 * time.Minute)
		st = journalled(t, dir, "", 2, often)
		if got := st.Stats(); got.Active != 8 || got.Backups != 0 {
			t.Errorf("%+v", got)
		}
		for key, want := range map[string]string{"written": "old written", "rewritten": "new", "released": "old released", "again": "new again",
			"read": "old read", "forever": "old forever", "empty": "empty"} {
			mustBe(t, key, req(st, Get, key, NoCookie, ""), OK, want)
		}
		for _, key := range []string{"deleted", "idle"} {
			mustBe(t, key, req(st, Get, key, NoCookie, ""), NotFound, "")
		}
		met := req(st, Acquire, "locked", NoCookie, "")
		if met.Status != Locked || met.Cookie != lock.Cookie || met.LockAge.Round(time.Second) != 3*time.Minute+time.Second {
			t.Errorf("the lock of cookie %d is %+v", lock.Cookie, met)
		}
		mustBe(t, "put with that lock", req(st, Put, "locked", lock.Cookie, "new"), OK, "")
		if got := req(st, Acquire, "locked", NoCookie, ""); got.Cookie < lock.Cookie+1<<16 {
			t.Errorf("cookie %d after %d", got.Cookie, lock.Cookie)
		}
		shut(t, st)
	})
}

// Requests only write into memory how long a session lasts, and that is written down by and by.
func TestASessionThatWasJustReadIsNotLostByACrash(t *testing.T) {
	for _, minutes := range []int32{1, 3, 20, 1000} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			timeout := time.Duration(minutes) * time.Minute
			st := journalled(t, dir, "", 1, often)
			st.Try(&Request{Op: Put, Key: []byte("k"), Cookie: NoCookie, Timeout: minutes, Body: []byte("cart")})
			time.Sleep(timeout/10 - time.Second)
			mustBe(t, "the last read", req(st, Get, "k", NoCookie, ""), OK, "cart")
			time.Sleep(timeout - time.Second)
			saved := t.TempDir()
			if err := os.CopyFS(saved, os.DirFS(dir)); err != nil { // as after a crash
				t.Fatal(err)
			}
			shut(t, st)
			st = journalled(t, saved, "", 2, often)
			mustBe(t, "get", req(st, Get, "k", NoCookie, ""), OK, "cart")
			shut(t, st)
		})
	}
}

func TestSessionsEndWhileTheirNodeIsOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := journalled(t, dir, "", 1, often)
		req(st, Put, "k", NoCookie, "cart")
		req(st, Put, "deleted", NoCookie, "cart")
		req(st, Delete, "deleted", NoCookie, "")
		shut(t, st)
		time.Sleep(22 * time.Minute) // a tenth more: a request may have come since it was written down
		st = journalled(t, dir, "", 2, often)
		mustBe(t, "get", req(st, Get, "k", NoCookie, ""), NotFound, "")
		if _, known := st.entry("deleted"); !known {
			t.Error("the deletion is forgotten before its time")
		}
		shut(t, st)
		time.Sleep(20 * time.Minute)
		st = journalled(t, dir, "", 3, often)
		time.Sleep(time.Second)
		if j, _ := st.Journal(); j.Keys != 0 || st.entries() != 0 {
			t.Errorf("%d keys in the journal, %d entries", j.Keys, st.entries())
		}
		shut(t, st)
	})
}

func TestAClockThatIsWrongMakesNoSessionLastLongerThanItsTimeout(t *testing.T) {
	const minute = int64(time.Minute)
	now := instant{mono: 7, wall: 1000 * minute}
	for name, c := range map[string]struct {
		expires, lockedAt int64
		left, age         time.Duration
	}{
		"as it was":                {1010 * minute, 990 * minute, 10 * time.Minute, 10 * time.Minute},
		"set back since":           {5000 * minute, 4990 * minute, 20 * time.Minute, 0},
		"set far ahead since":      {10 * minute, 9 * minute, 0, 991 * time.Minute},
		"far ahead when it was on": {most63, most63, 20 * time.Minute, 0},
	} {
		v := saved{kind: savedHeld, stamp: 1, timeout: 20, cookie: 1, lock: 1, expires: c.expires, lockedAt: c.lockedAt}
		if r := v.record("k", now); r.Left != c.left || r.LockAge != c.age {
			t.Errorf("%s: %v left, locked for %v; want %v, %v", name, r.Left, r.LockAge, c.left, c.age)
		}
	}
}

// In a farm nothing that is loaded is served or denied before it has been compared.
func TestInAFarmWhatIsLoadedIsABackupAtFirst(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := journalled(t, dir, "f", 1, often)
		b, c := Peer{"b", 5}, Peer{"c", 6}
		st.SetKeepers([]Keeper{{Peer: b, Preferred: true, Linked: true}})
		for _, key := range []string{"mine", "locked", "given", "deleted", "frozen"} {
			req(st, Put, key, NoCookie, key)
		}
		lock := req(st, Acquire, "locked", NoCookie, "")
		req(st, Delete, "deleted", NoCookie, "")
		given := st.Asked(t.Context(), c, Question{Key: "given", Want: Move})
		given.Handover.Received()
		frozen := st.Asked(t.Context(), c, Question{Key: "frozen", Want: Move})
		kept := Record{Key: "kept", Stamp: 5, Timeout: 20, Left: time.Minute, Cookie: 1, Keepers: []Peer{c}, Body: []byte("kept")}
		if got := st.Keep(b, ParcelCopy, kept); got != KeepDone {
			t.Fatal(got)
		}
		time.Sleep(time.Second)
		frozen.Handover.Declined(Version{})
		shut(t, st)

		st = journalled(t, dir, "f", 2, often)
		st.Join(nobody{})
		if got := st.Stats(); got.Active != 0 || got.Backups != 5 || got.Recalled != 3 {
			t.Errorf("%+v", got)
		}
		for key, want := range map[string]struct {
			holder Peer
			places []string
		}{
			"mine": {Peer{"a", 1}, []string{"b"}}, "locked": {Peer{"a", 1}, []string{"b"}}, "frozen": {Peer{"a", 1}, []string{"b", "c"}},
			"given": {c, []string{"c", "b"}}, "kept": {b, []string{"b", "c"}},
		} {
			got, ok := st.BackupOf(key)
			if !ok || got.Holder != want.holder || !got.Loaded || !slices.Equal(st.PlacesOf(got), want.places) {
				t.Errorf("%s: %+v, %v at %v, want %+v", key, got, ok, st.PlacesOf(got), want)
			}
			mustBe(t, key, req(st, Get, key, NoCookie, ""), Unknown, "")
		}
		if got := st.Settle("given", Version{}, ""); got.Kind != SettleKept || got.Holder != c {
			t.Errorf("of what it gave away it says %+v", got)
		}
		if got := st.Asked(t.Context(), c, Question{Key: "given", Want: Locate}); got.Kind != ReplyMoved || got.Node != "c" || got.Instance != c.Instance {
			t.Errorf("of what it gave away it says %+v", got)
		}
		if got := st.Settle("deleted", Version{Stamp: 1}, "b"); got.Kind != SettleMine || !got.Version.Tombstone {
			t.Errorf("of what it deleted it says %+v", got)
		}
		for _, key := range []string{"mine", "locked"} {
			backup, _ := st.BackupOf(key)
			if !st.PromoteBackup(backup) {
				t.Fatal("not promoted")
			}
		}
		mustBe(t, "mine", req(st, Get, "mine", NoCookie, ""), OK, "mine")
		if got := req(st, Get, "locked", NoCookie, ""); got.Status != Locked || got.Cookie != lock.Cookie {
			t.Errorf("the lock of cookie %d is %+v", lock.Cookie, got)
		}
		if got := req(st, Acquire, "mine", NoCookie, ""); got.Cookie <= 1<<16 {
			t.Errorf("cookie %d", got.Cookie)
		}
		shut(t, st)
	})
}

// nobody is a farm in which no question is answered.
type nobody struct{}

func (nobody) Ask(context.Context, Question) Verdict { return Verdict{} }
func (nobody) Forward(context.Context, string, *Request) (Answer, error) {
	return Answer{}, ErrNotHere
}

// BenchmarkALoad loads 100,000 sessions of 2 KB.
func BenchmarkALoad(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	open := func() *Store {
		st := New(Options{Node: "a", Instance: 1})
		if err := st.OpenJournal(JournalOptions{Dir: dir, Node: "a", Every: often}); err != nil {
			b.Fatal(err)
		}
		return st
	}
	end := func(st *Store) {
		st.Close()
		if err := st.CloseJournal(); err != nil {
			b.Fatal(err)
		}
	}
	st := open()
	for i := range n {
		st.Try(&Request{Op: Put, Key: sessionKey(nil, i), Cookie: NoCookie, Timeout: 20, Body: make([]byte, 2048)})
	}
	end(st)
	for b.Loop() {
		st := open()
		b.StopTimer()
		if got := st.Stats().Active; got != n {
			b.Fatalf("%d sessions", got)
		}
		end(st)
		b.StartTimer()
	}
}

// A node that is restarted twice has its sessions both times: to it and to those who keep backups they are the same.
func TestAPromotionAfterARestartIsNoMove(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := journalled(t, dir, "f", 1, often)
		req(st, Put, "k", NoCookie, "cart")
		first, _ := st.entry("k")
		for run := range uint64(3) {
			shut(t, st)
			st = journalled(t, dir, "f", 2+run, often)
			b, ok := st.BackupOf("k")
			if !ok || b.Version.Compare(first.version()) != 0 || !st.PromoteBackup(b) {
				t.Fatalf("run %d: %+v, %v", run, b, ok)
			}
			s, _ := st.entry("k")
			if s.version().Compare(first.version()) != 0 || s.cookie <= first.cookie+1<<16 {
				t.Errorf("run %d: %+v, was %+v", run, s.version(), first.version())
			}
			if run == 1 { // a request in between is written down
				lock := req(st, Acquire, "k", NoCookie, "")
				req(st, Release, "k", lock.Cookie, "")
				first.cookie = lock.Cookie
			}
		}
		shut(t, st)
	})
}
