package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The node is stopped while the old server is about to give it a session: nobody else would get that before its lock is
// broken, which is after 110 seconds.
func TestASessionThatIsTakenOverWhenTheNodeStopsIsNotLeftLocked(t *testing.T) {
	for _, flags := range []int32{0, FlagUninitialized} {
		t.Run(fmt.Sprint("flags ", flags), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := newOld(t)
				st := New(Options{FetchTimeout: fetchTimeout})
				st.JoinUpstream(old)
				old.ask(&Request{Op: Put, Key: []byte("a"), Cookie: NoCookie, Timeout: 20, Flags: flags, Body: []byte("old a")})
				old.on(func(Op) fate { return fate{takes: time.Second} })
				page := make(chan Answer)
				go func() { page <- req(st, Acquire, "a", NoCookie, "") }()
				time.Sleep(500 * time.Millisecond)
				shut(t, st)
				if a := <-page; a.Status != Unknown {
					t.Errorf("the page is told %+v", a)
				}
				if a := old.ask(&Request{Op: Acquire, Key: []byte("a"), Cookie: NoCookie}); a.Status != OK || a.Init != (flags != 0) || string(a.Body) != "old a" {
					t.Errorf("at the old server it is %+v", a)
				}
			})
		})
	}
}

func TestAStopDoesNotWaitLongForAnOldServerThatIsSilent(t *testing.T) {
	for what, slow := range map[string]Op{"to the lock": Acquire, "to its end": Release} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := newOld(t)
				st := New(Options{FetchTimeout: fetchTimeout})
				st.JoinUpstream(old)
				for i := range 200 {
					old.ask(&Request{Op: Put, Key: fmt.Append(nil, i), Cookie: NoCookie, Timeout: 20})
				}
				old.on(func(op Op) fate {
					if op == slow {
						return fate{takes: time.Hour, lost: true}
					}
					return fate{takes: time.Second}
				})
				for i := range 200 {
					go req(st, Acquire, fmt.Sprint(i), NoCookie, "")
				}
				time.Sleep(500 * time.Millisecond)
				begun := time.Now()
				shut(t, st)
				if took := time.Since(begun); took > 6*time.Second {
					t.Errorf("the stop took %v", took)
				}
			})
		})
	}
}

// It can never be taken over. Whoever reads the log finds the setting, and whoever goes back finds the session.
func TestASessionLargerThanThisNodeTakesStaysAtTheOldServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newOld(t)
		st := New(Options{FetchTimeout: fetchTimeout, MaxMemory: 1 << 20})
		st.JoinUpstream(old)
		defer shut(t, st)
		for flags, key := range []string{"written", "created"} {
			old.ask(&Request{Op: Put, Key: []byte(key), Cookie: NoCookie, Timeout: 20, Flags: int32(flags), Body: make([]byte, 100_000)})
			old.on(func(Op) fate { return fate{outsized: true} })
			for range 3 {
				if a := req(st, Acquire, key, NoCookie, ""); a.Status != Unknown && (flags == 0 || a.Status != NotFound) {
					t.Errorf("%s: %+v", key, a)
				}
			}
			a := old.ask(&Request{Op: Acquire, Key: []byte(key), Cookie: NoCookie})
			if flags == 0 && (a.Status != OK || len(a.Body) != 100_000) || flags != 0 && a.Status != NotFound {
				t.Errorf("%s: at the old server it is %+v", key, a)
			}
		}
		if m := st.Memory(); m.Used > 1000 || m.Refusing {
			t.Errorf("%+v", m)
		}
	})
}

// The new holder sees to its backups, and the old holder need not know what becomes of them.
func TestASessionThatHasMovedOnIsDeletedAtTheOldServer(t *testing.T) {
	inKeeping(t, 1, []string{"n1", "n2"}, func(t *testing.T, k *keeping) {
		old := newOld(t)
		n1, n2 := k.nodes[0], k.nodes[1]
		n1.JoinUpstream(old)
		req(old.Store, Put, "a", NoCookie, "old a")
		mustBe(t, "read", n1.get("a"), OK, "old a")
		mustBe(t, "read at the other node", n2.get("a"), OK, "old a")
		if kept, ok := n1.BackupOf("a"); ok {
			n1.DropBackup(kept) // as when the new holder has others
		}
		time.Sleep(3 * time.Second)
		if old.has("a") {
			t.Error("it is still at the old server")
		}
		k.rest()
	})
}
