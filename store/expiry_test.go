package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// try is Try for a store without a farm.
func try(t *testing.T, st *Store, r Request) Answer {
	t.Helper()
	a, ok := st.Try(&r)
	if !ok {
		t.Fatalf("%v wanted to ask others", r.Op)
	}
	return a
}

func TestASessionIsRefusedTheMomentItExpires(t *testing.T) {
	for op := range Op(Ops) {
		synctest.Test(t, func(t *testing.T) {
			st := alone(t)
			put := Request{Op: Put, Key: []byte("k"), Timeout: 3, Body: []byte("old")}
			try(t, st, put)
			time.Sleep(3*time.Minute - 1)
			if a := try(t, st, Request{Op: Get, Key: put.Key}); a.Status != OK {
				t.Errorf("1 ns before it expires: status %d", a.Status)
			}
			time.Sleep(3 * time.Minute)
			want := NotFound
			if op == Put {
				want = OK
			}
			if a := try(t, st, Request{Op: op, Key: put.Key, Cookie: 77, Timeout: 3}); a.Status != want {
				t.Errorf("%v at the moment it expires: status %d, want %d", op, a.Status, want)
			}
			if st.Stats().TimedOut != 1 {
				t.Errorf("%v: %d sessions timed out, want 1", op, st.Stats().TimedOut)
			}
			if a := try(t, st, Request{Op: Acquire, Key: put.Key}); op == Put && a.Cookie != 2 {
				t.Errorf("a put of what is expired makes a new session: its first lock has cookie %d", a.Cookie)
			}
		})
	}
}

func TestEachRequestThatFindsTheKeyRenewsIt(t *testing.T) {
	requests := map[string]Request{
		"get":                   {Op: Get},
		"acquire":               {Op: Acquire},
		"head":                  {Op: Head},
		"release":               {Op: Release, Cookie: 1},
		"release without lock":  {Op: Release, Cookie: NoCookie},
		"put":                   {Op: Put, Cookie: NoCookie, Timeout: 1},
		"put with a bad cookie": {Op: Put, Cookie: BadCookie, Timeout: 1},
		"put that is ignored":   {Op: Put, Flags: FlagUninitialized, Timeout: 5},
		"bad delete":            {Op: Delete, Cookie: BadCookie},
		"delete without lock":   {Op: Delete, Cookie: NoCookie},
	}
	for name, r := range requests {
		for _, locked := range []bool{false, true} {
			if name == "delete without lock" && !locked {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				st := alone(t)
				r.Key = []byte("k")
				try(t, st, Request{Op: Put, Key: r.Key, Timeout: 1})
				if locked {
					try(t, st, Request{Op: Acquire, Key: r.Key})
				}
				time.Sleep(time.Minute - 1)
				a := try(t, st, r)
				time.Sleep(time.Minute - 1)
				if b := try(t, st, Request{Op: Head, Key: r.Key}); b.Status != OK {
					t.Errorf("%s (locked: %v), which was answered %d, did not renew", name, locked, a.Status)
				}
			})
		}
	}
}

func TestALockedSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := alone(t)
		try(t, st, Request{Op: Put, Key: []byte("k"), Timeout: 1})
		a := try(t, st, Request{Op: Acquire, Key: []byte("k")})
		time.Sleep(time.Minute)
		if b := try(t, st, Request{Op: Put, Key: []byte("k"), Flags: 1, Timeout: 1}); b.Status != OK {
			t.Errorf("put: status %d", b.Status)
		}
		if b := try(t, st, Request{Op: Acquire, Key: []byte("k")}); b.Status != OK || !b.Init || b.Cookie != a.Cookie {
			t.Errorf("the new session: %+v, want its first lock", b)
		}
	})
}

func TestTimeoutZeroNeverExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := alone(t)
		try(t, st, Request{Op: Put, Key: []byte("never"), Timeout: 0})
		try(t, st, Request{Op: Put, Key: []byte("later"), Timeout: 1})
		try(t, st, Request{Op: Put, Key: []byte("later"), Timeout: 0})
		try(t, st, Request{Op: Put, Key: []byte("no more"), Timeout: 0})
		try(t, st, Request{Op: Put, Key: []byte("no more"), Timeout: 1})
		time.Sleep(20 * time.Hour)
		for key, want := range map[string]Status{"never": OK, "later": OK, "no more": NotFound} {
			if a := try(t, st, Request{Op: Get, Key: []byte(key)}); a.Status != want {
				t.Errorf("%s: status %d, want %d", key, a.Status, want)
			}
		}
	})
}

// TestMemoryIsGivenBackSoonAfterASessionExpires asks nothing: the sweeper does it on its own.
func TestMemoryIsGivenBackSoonAfterASessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := alone(t)
		const n = 100_000
		var bytes int64
		for i := range n {
			key := fmt.Appendf(nil, "session %d", i)
			try(t, st, Request{Op: Put, Key: key, Timeout: 1, Body: []byte("contents")})
			bytes += int64(len(key) + len("contents"))
		}
		try(t, st, Request{Op: Put, Key: []byte("stays"), Timeout: 20, Body: []byte("x")})
		if s := st.Stats(); s.Active != n+1 || s.Bytes != bytes+6 || s.Total != n+1 {
			t.Errorf("before: %+v, want %d sessions of %d bytes", s, n+1, bytes+6)
		}
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if s := st.Stats(); s.Active != n+1 {
			t.Errorf("%d sessions 1 ns before they expire", s.Active)
		}
		time.Sleep(sweepRound + sweepEvery)
		synctest.Wait()
		if s := st.Stats(); s.Active != 1 || s.Bytes != 6 || s.TimedOut != n {
			t.Errorf("after: %+v", s)
		}
		room := 0
		for i := range st.shards {
			room += st.shards[i].most
		}
		if room > 1+n/100 {
			t.Errorf("the maps still have the size of %d entries", room)
		}
	})
}

func TestADeletionIsForgottenTenMinutesAfterTheSessionsTimeout(t *testing.T) {
	for timeout, kept := range map[int32]time.Duration{20: 30 * time.Minute, 0: 30 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			st := New(Options{Node: "a"})
			st.Close() // thirty days of sweeping are not needed to see it
			key := []byte("k")
			try(t, st, Request{Op: Put, Key: key, Timeout: timeout, Body: []byte("x")})
			try(t, st, Request{Op: Delete, Key: key, Cookie: NoCookie})
			if s := st.Stats(); s.Active != 0 || s.Bytes != 0 || s.Abandoned != 1 {
				t.Errorf("after the deletion: %+v", s)
			}
			sh := st.shard(key)
			time.Sleep(kept - 1)
			st.sweepShard(sh)
			if s, ok := st.entry("k"); !ok || s.state != deleted {
				t.Errorf("timeout %d: the deletion is forgotten before %v", timeout, kept)
			}
			time.Sleep(time.Nanosecond)
			st.sweepShard(sh)
			if _, ok := st.entry("k"); ok {
				t.Errorf("timeout %d: the deletion is not forgotten after %v", timeout, kept)
			}
			if err := checkIdle(st); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAJumpOfTheWallClockChangesNoTimes moves the clock that stamps follow by years, forth and back.
func TestAJumpOfTheWallClockChangesNoTimes(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, jump := range []time.Duration{-40 * year, -time.Hour, time.Hour, 200 * year} {
		synctest.Test(t, func(t *testing.T) {
			st := alone(t)
			key := []byte("k")
			try(t, st, Request{Op: Put, Key: key, Timeout: 2})
			try(t, st, Request{Op: Acquire, Key: key})
			time.Sleep(time.Minute)
			st.SetClockOffset(jump)
			if a := try(t, st, Request{Op: Get, Key: key}); a.Status != Locked || a.LockAge != time.Minute {
				t.Errorf("after a jump by %v: status %d, lock age %v", jump, a.Status, a.LockAge)
			}
			time.Sleep(2*time.Minute - 1)
			if a := try(t, st, Request{Op: Head, Key: key}); a.Status != OK {
				t.Errorf("a jump by %v ended the session", jump)
			}
			st.SetClockOffset(0)
			time.Sleep(2 * time.Minute)
			if a := try(t, st, Request{Op: Head, Key: key}); a.Status != NotFound {
				t.Errorf("a jump by %v made the session immortal", jump)
			}
		})
	}
}

// TestStampsRiseWhateverTheClockDoes goes through everything that raises a stamp, and what does not.
func TestStampsRiseWhateverTheClockDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := New(Options{Node: "a"})
		defer st.Close()
		var last Stamp
		for range 12 {
			st.SetClockOffset(time.Duration(rapid.Int64Range(-int64(90*365*24*time.Hour), int64(90*365*24*time.Hour)).Draw(rt, "offset")))
			r := Request{Key: []byte("k"), Op: Op(rapid.IntRange(0, Ops-1).Draw(rt, "op")), Cookie: 0, Timeout: 20,
				Flags: rapid.Int32Range(0, 1).Draw(rt, "flags")}
			before, known := st.entry("k")
			a, _ := st.Try(&r)
			after, _ := st.entry("k")
			insert := r.Op == Put && r.Flags == 0 || r.Op == Put && before.state != held
			writes := a.Init || a.Status == OK && (insert || r.Op == Delete)
			switch {
			case writes && after.stamp <= last:
				rt.Fatalf("%v: stamp %d after %d", r.Op, after.stamp, last)
			case !writes && known && after.stamp != last:
				rt.Fatalf("%v changed the stamp", r.Op)
			}
			last = after.stamp
			if after.lock != 0 {
				st.Try(&Request{Op: Release, Key: r.Key, Cookie: after.lock})
			}
		}
		if err := checkIdle(st); err != nil {
			rt.Fatal(err)
		}
	})
}
