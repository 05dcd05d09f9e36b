package store

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAPageThatBeganAtTheOldServerKeepsItsLock(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		page := old.ask(&Request{Op: Acquire, Key: []byte("a"), Cookie: NoCookie})
		time.Sleep(3 * time.Second)
		a := net.nodes[0].acquire("a")
		mustBe(t, "acquire", a, Locked, "")
		if a.Cookie != page.Cookie || a.LockAge < 3*time.Second || a.LockAge > 4*time.Second {
			t.Errorf("the lock is %d, %v old; it is %d", a.Cookie, a.LockAge, page.Cookie)
		}
		mustBe(t, "write with another cookie", net.nodes[1].put("a", "no", page.Cookie+1), Locked, "")
		mustBe(t, "delete with another cookie", net.nodes[1].delete("a", page.Cookie+1), Locked, "")
		// The page ends, through a node of the farm.
		mustBe(t, "write", net.nodes[1].put("a", "page's", page.Cookie), OK, "")
		mustBe(t, "acquire", net.nodes[0].acquire("a"), OK, "page's")

		// A page that died is what a release with the cookie from the 423 ends.
		old.ask(&Request{Op: Acquire, Key: []byte("b"), Cookie: NoCookie})
		b := net.nodes[0].acquire("b")
		mustBe(t, "acquire", b, Locked, "")
		mustBe(t, "release", net.nodes[0].release("b", b.Cookie), OK, "")
		mustBe(t, "acquire", net.nodes[0].acquire("b"), OK, "old b")

		page = old.ask(&Request{Op: Acquire, Key: []byte("c"), Cookie: NoCookie})
		mustBe(t, "delete", net.nodes[0].delete("c", page.Cookie), OK, "")
		mustBe(t, "acquire", net.nodes[1].acquire("c"), NotFound, "")
	})
}

func TestARequestWaitsForALockAtTheOldServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newOld(t)
		net := waitingFarm(t, 400*time.Millisecond, "n1", "n2")
		for _, n := range net.nodes {
			n.JoinUpstream(old)
		}
		req(old.Store, Put, "a", NoCookie, "old a")
		page := req(old.Store, Acquire, "a", NoCookie, "")
		time.AfterFunc(150*time.Millisecond, func() { req(old.Store, Put, "a", page.Cookie, "page's") })
		begun := time.Now()
		mustBe(t, "acquire", net.nodes[0].acquire("a"), OK, "page's")
		if took := time.Since(begun); took > 400*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Second)
	})
}

func TestAnOldServerThatDoesNotAnswerIsNotKnownAndNeverMissing(t *testing.T) {
	for name, f := range map[string]fate{"refuses": {lost: true}, "is silent": {takes: time.Hour, lost: true}} {
		t.Run(name, func(t *testing.T) {
			migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
				old.on(func(Op) fate { return f })
				n := net.nodes[0]
				for _, key := range []string{"a", "nowhere"} {
					mustBe(t, "read", n.get(key), Unknown, "")
					mustBe(t, "head", n.head(key), Unknown, "")
					begun := time.Now()
					mustBe(t, "write", n.put(key, "x", 5), Unknown, "")
					mustBe(t, "release", n.release(key, 5), Unknown, "")
					mustBe(t, "delete", n.delete(key, 5), Unknown, "")
					if took := time.Since(begun); took != 3*fetchTimeout {
						t.Errorf("three writes waited %v", took)
					}
				}
				mustBe(t, "a new visitor's write", n.put("new", "new", NoCookie), OK, "")
				time.Sleep(time.Minute)
				old.on(nil)
				mustBe(t, "read", n.get("nowhere"), NotFound, "")
				if a := n.get("a"); a.Status != Unknown && a.Status != OK {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

func TestASlowAnswerIsNotThrownAway(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		old.on(func(Op) fate { return fate{takes: 4 * time.Second} })
		begun := time.Now()
		mustBe(t, "the first try", net.nodes[0].acquire("a"), Unknown, "")
		if took := time.Since(begun); took != fetchTimeout {
			t.Errorf("it took %v", took)
		}
		mustBe(t, "the next one", net.nodes[0].acquire("a"), OK, "old a")
		if took := time.Since(begun); took < 4*time.Second || took > 5*time.Second || old.count(Acquire) != 1 {
			t.Errorf("after %v and %d questions", took, old.count(Acquire))
		}
	})
}

func TestALockOfWhichTheAnswerWasLostIsBroken(t *testing.T) {
	for name, c := range map[string]struct {
		nodes  []string
		within time.Duration
	}{"alone": {[]string{}, 2 * time.Second}, "in a farm": {[]string{"n1", "n2"}, 20 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			migrating(t, c.nodes, func(t *testing.T, old *oldServer, net *network) {
				var st *Store
				if len(net.nodes) > 0 {
					st = net.nodes[0].Store
				} else {
					st = New(Options{FetchTimeout: fetchTimeout})
					defer st.Close()
					st.JoinUpstream(old)
				}
				old.on(func(op Op) fate { return fate{silent: op == Acquire} })
				mustBe(t, "acquire", req(st, Acquire, "a", NoCookie, ""), Unknown, "")
				old.on(nil)
				begun := time.Now()
				a := Answer{Status: Unknown}
				for a.Status != OK && time.Since(begun) < time.Minute {
					time.Sleep(500 * time.Millisecond)
					if a = req(st, Acquire, "a", NoCookie, ""); a.Status == NotFound {
						t.Fatal("it is said to be missing")
					}
				}
				mustBe(t, "acquire", a, OK, "old a")
				if took := time.Since(begun); took > c.within {
					t.Errorf("it took %v", took)
				}
				// A lock of a page is never broken.
				old.ask(&Request{Op: Acquire, Key: []byte("b"), Cookie: NoCookie})
				for range 100 {
					time.Sleep(500 * time.Millisecond)
					mustBe(t, "acquire", req(st, Acquire, "b", NoCookie, ""), Locked, "")
				}
			})
		})
	}
}
