package store

import (
	"slices"
	"testing"
	"testing/synctest"
)

func TestASessionForWhichThereIsNoMemoryStaysAtTheOldServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newOld(t)
		st := New(Options{FetchTimeout: fetchTimeout, MaxMemory: 1 << 20})
		st.JoinUpstream(old)
		defer shut(t, st)
		old.ask(&Request{Op: Put, Key: []byte("a"), Cookie: NoCookie, Timeout: 20, Body: make([]byte, 2<<20)})
		mustBe(t, "read", req(st, Get, "a", NoCookie, ""), Unknown, "")
		if a := old.ask(&Request{Op: Acquire, Key: []byte("a"), Cookie: NoCookie}); a.Status != OK || st.Memory().Refused[RefusedHandover] != 1 {
			t.Errorf("%+v", a)
		}
	})
}

// Its answer was not read to its end.
func TestASessionWhoseContentsHaveNoRoomOnTheirWayStaysAtTheOldServer(t *testing.T) {
	for _, flags := range []int32{0, FlagUninitialized} {
		synctest.Test(t, func(t *testing.T) {
			old := newOld(t)
			st := New(Options{FetchTimeout: fetchTimeout, MaxMemory: 1 << 20})
			st.JoinUpstream(old)
			defer shut(t, st)
			old.ask(&Request{Op: Put, Key: []byte("a"), Cookie: NoCookie, Timeout: 20, Flags: flags, Body: make([]byte, 100_000)})
			used := st.Memory().Used
			old.on(func(Op) fate { return fate{full: true} })
			mustBe(t, "read", req(st, Get, "a", NoCookie, ""), Unknown, "")
			if m := st.Memory(); m.Refused[RefusedHandover] != 1 || !m.Refusing || m.Used > used+1000 {
				t.Errorf("%+v, was %d", m, used)
			}
			a := old.ask(&Request{Op: Acquire, Key: []byte("a"), Cookie: NoCookie})
			if flags == 0 && (a.Status != OK || len(a.Body) != 100_000) || flags != 0 && a.Status != NotFound {
				t.Errorf("flags %d: at the old server it is %v", flags, a.Status)
			}
		})
	}
}

func TestWhatWasCountedOnItsWayFromTheOldServerIsCountedOnceInTheEnd(t *testing.T) {
	for _, what := range []string{"taken", "no memory", "leaving"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := newOld(t)
				st := New(Options{FetchTimeout: fetchTimeout, MaxMemory: 1 << 20})
				st.JoinUpstream(old)
				defer shut(t, st)
				size := 500_000
				if what == "no memory" {
					size = 1<<20 - 20_000 // it can be received, but not kept
				}
				old.ask(&Request{Op: Put, Key: []byte("a"), Cookie: NoCookie, Timeout: 20, Body: make([]byte, size)})
				old.counting = st
				old.on(func(op Op) fate {
					if what == "leaving" {
						st.leaving.Store(true)
					}
					return fate{counts: true}
				})
				a := req(st, Get, "a", NoCookie, "")
				synctest.Wait()
				switch m := st.Memory(); {
				case what == "taken" && (a.Status != OK || m.Used < int64(size) || m.Used > int64(size)+1000):
					t.Errorf("%v, %d bytes for %d", a.Status, m.Used, size)
				case what != "taken" && (a.Status != Unknown || m.Used > 1000):
					t.Errorf("%v, %d bytes stay counted", a.Status, m.Used)
				}
			})
		})
	}
}

func TestNothingIsTakenInByANodeThatLeaves(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		n := net.nodes[0]
		old.on(func(op Op) fate {
			if op == Acquire {
				n.leaving.Store(true) // while it is on its way
			}
			return fate{}
		})
		if a := n.acquire("a"); a.Status != Unknown {
			t.Errorf("%+v", a)
		}
		mustBe(t, "read at the other node", net.nodes[1].get("a"), OK, "old a")
		if names := net.holders("a"); !slices.Equal(names, []string{"n2"}) {
			t.Errorf("held by %v", names)
		}
		mustBe(t, "head", n.head("b"), OK, "")
		mustBe(t, "read at the one that leaves", n.get("b"), Unknown, "")
	})
}
