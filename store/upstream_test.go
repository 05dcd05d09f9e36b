package store

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestASessionThatIsNowhereIsTakenOverFromTheOldServer(t *testing.T) {
	for name, nodes := range sizes {
		t.Run(name, func(t *testing.T) {
			migrating(t, nodes, func(t *testing.T, old *oldServer, net *network) {
				n := net.nodes[0]
				a := n.acquire("a")
				mustBe(t, "acquire", a, OK, "old a")
				if a.Timeout != 30 || a.Cookie < 3 { // the old server has given 2 to this node
					t.Errorf("timeout %d, cookie %d", a.Timeout, a.Cookie)
				}
				mustBe(t, "write", n.put("a", "new a", a.Cookie), OK, "")
				mustBe(t, "read", n.get("a"), OK, "new a")
				mustBe(t, "read", n.get("b"), OK, "old b")
				time.Sleep(100 * time.Millisecond)
				if old.has("a") || old.has("b") {
					t.Error("it is still at the old server")
				}
				if s, _ := n.Upstream(); s.Taken != 2 || s.Remnants != 0 || s.Dropped != 2 {
					t.Errorf("%+v", s)
				}
				for _, n := range net.nodes {
					mustBe(t, "read at "+n.name, n.get("a"), OK, "new a")
				}
				if old.count(Acquire) != 2 {
					t.Errorf("the old server was asked for %d sessions", old.count(Acquire))
				}
			})
		})
	}
}

func TestAStoreWithoutAFarmTakesSessionsOverToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, st := newOld(t), New(Options{FetchTimeout: fetchTimeout})
		defer shut(t, st)
		st.JoinUpstream(old)
		req(old.Store, Put, "a", NoCookie, "old a")
		mustBe(t, "acquire", req(st, Acquire, "a", NoCookie, ""), OK, "old a")
		mustBe(t, "read what is nowhere", req(st, Get, "x", NoCookie, ""), NotFound, "")
		mustBe(t, "write what is nowhere", req(st, Put, "x", NoCookie, "new x"), OK, "")
		mustBe(t, "release what is nowhere", req(st, Release, "y", 3, ""), NotFound, "")
		if a, ok := st.Try(&Request{Op: Put, Key: []byte("z"), Cookie: NoCookie}); !ok || a.Status != OK {
			t.Error("a new visitor's session asked somebody")
		}
		if s, _ := st.Upstream(); !s.Unsafe || s.Taken != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatIsNowhereIsMissingAndMayBeCreated(t *testing.T) {
	for name, nodes := range sizes {
		t.Run(name, func(t *testing.T) {
			migrating(t, nodes, func(t *testing.T, old *oldServer, net *network) {
				n := net.nodes[0]
				begun := time.Now()
				mustBe(t, "acquire", n.acquire("x"), NotFound, "")
				mustBe(t, "head", n.head("x"), NotFound, "")
				mustBe(t, "delete", n.delete("x", NoCookie), NotFound, "")
				mustBe(t, "insert", n.insert("x", "empty"), OK, "")
				if a := n.acquire("x"); !a.Init {
					t.Errorf("nobody was told to initialise the session: %+v", a)
				}
				mustBe(t, "write with a cookie", n.put("y", "new y", 7), OK, "")
				if took := time.Since(begun); took > 100*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				if old.has("x") || old.has("y") || old.count(Put) > 0 {
					t.Error("the old server got something new")
				}
			})
		})
	}
}

func TestASessionThatExistsAtTheOldServerIsNotInserted(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		n := net.nodes[0]
		mustBe(t, "insert", n.insert("a", "empty"), OK, "")
		a := n.acquire("a")
		mustBe(t, "acquire", a, OK, "old a")
		if a.Init {
			t.Error("somebody was told to initialise it")
		}
	})
}

func TestAnUninitialisedSessionStaysSoForOneRequest(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		old.ask(&Request{Op: Put, Key: []byte("u"), Cookie: NoCookie, Timeout: 30, Flags: FlagUninitialized, Body: []byte("empty")})
		if a := net.nodes[1].acquire("u"); !a.Init || a.Status != OK {
			t.Errorf("%+v", a)
		}
		if a := net.nodes[0].get("u"); a.Init {
			t.Error("a second request was told to initialise it")
		}
	})
}

// Who is not told to initialise it raises no Session_Start.
func TestAnUninitialisedSessionThatIsGivenBackStaysSo(t *testing.T) {
	for _, what := range []string{"", "the answer to its deletion is lost", "its creation is lost"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := newOld(t)
				st := New(Options{FetchTimeout: fetchTimeout, MaxMemory: 1 << 20})
				st.JoinUpstream(old)
				defer shut(t, st)
				key, body := []byte("u"), make([]byte, 2<<20)
				old.ask(&Request{Op: Put, Key: key, Cookie: NoCookie, Timeout: 33, Flags: FlagUninitialized, Body: body})
				old.on(func(op Op) fate {
					return fate{lost: what == "its creation is lost" && op == Put, silent: what == "the answer to its deletion is lost" && op == Delete}
				})
				for range 3 {
					if a := req(st, Acquire, "u", NoCookie, ""); a.Status != Unknown && (what == "" || a.Status != NotFound) {
						t.Errorf("acquire: %v", a.Status)
					}
				}
				a := old.ask(&Request{Op: Acquire, Key: key, Cookie: NoCookie})
				switch {
				case what == "" && (a.Status != OK || !a.Init || a.Timeout != 33 || len(a.Body) != len(body)):
					t.Errorf("at the old server it is %v, to be initialised: %v, timeout %d, %d bytes", a.Status, a.Init, a.Timeout, len(a.Body))
				case what != "" && a.Status == OK && !a.Init:
					t.Errorf("it is there, and nobody initialises it")
				}
			})
		})
	}
}

// Another page may create the key at the old server at the very moment.
func TestAnUninitialisedSessionThatIsGivenBackDisplacesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newOld(t)
		st := New(Options{FetchTimeout: fetchTimeout, MaxMemory: 1 << 20})
		st.JoinUpstream(old)
		defer shut(t, st)
		old.ask(&Request{Op: Put, Key: []byte("u"), Cookie: NoCookie, Timeout: 20, Flags: FlagUninitialized, Body: make([]byte, 2<<20)})
		old.on(func(op Op) fate {
			if op == Put {
				req(old.Store, Put, "u", NoCookie, "written")
			}
			return fate{}
		})
		mustBe(t, "acquire", req(st, Acquire, "u", NoCookie, ""), Unknown, "")
		if old.count(Put) != 1 {
			t.Errorf("%d were created", old.count(Put))
		}
		mustBe(t, "read", req(st, Get, "u", NoCookie, ""), OK, "written")
	})
}

func TestHeadTakesNothingOver(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		mustBe(t, "head", net.nodes[0].head("a"), OK, "")
		if !old.has("a") || old.count(Acquire) > 0 {
			t.Error("it was taken over")
		}
	})
}

// Whatever the order in which things happen at the old server and between the nodes, a session that several nodes want
// at once goes to one of them, and is missing for none.
func TestSeveralNodesThatWantOneSessionAtOnceNeverDoubleNorMissIt(t *testing.T) {
	for seed := range uint64(60) {
		migrating(t, []string{"n1", "n2", "n3"}, func(t *testing.T, old *oldServer, net *network) {
			chance := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			some := func() time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(chance.IntN(40)) * time.Millisecond
			}
			old.on(func(Op) fate { return fate{takes: some()} })
			net.on(func(message) bool {
				time.Sleep(some())
				return true
			})
			var pages sync.WaitGroup
			written := make(chan int32, 100)
			for _, n := range net.nodes {
				for range 2 {
					pages.Go(func() {
						time.Sleep(some())
						for {
							a := n.acquire("a")
							switch a.Status {
							case NotFound:
								t.Errorf("seed %d: missing at %s", seed, n.name)
								return
							case OK:
								if w := n.put("a", string(a.Body)+"+", a.Cookie); w.Status != OK {
									t.Errorf("seed %d: a write with the lock: %+v", seed, w)
								}
								written <- a.Cookie
								return
							}
							time.Sleep(500 * time.Millisecond)
						}
					})
				}
			}
			pages.Wait()
			mustBe(t, "in the end", net.nodes[0].get("a"), OK, "old a++++++")
			close(written)
			seen := map[int32]bool{}
			for c := range written {
				if seen[c] {
					t.Errorf("seed %d: cookie %d was given twice", seed, c)
				}
				seen[c] = true
			}
			if holders := net.holders("a"); len(holders) != 1 {
				t.Errorf("seed %d: held by %v", seed, holders)
			}
		})
	}
}

// The backup may be quicker than the answer to the question whether there is such a session.
func TestABackupThatComesWhileTheSessionIsLookedForDoesNotMakeItMissing(t *testing.T) {
	inKeeping(t, 1, []string{"n1", "n2"}, func(t *testing.T, k *keeping) {
		old := newOld(t)
		for _, n := range k.nodes {
			n.JoinUpstream(old)
		}
		req(old.Store, Put, "a", NoCookie, "old a")
		first := true
		k.on(func(m message) bool {
			if m.kind == aReply && m.from == "n1" && first {
				first = false
				mustBe(t, "acquire on n1", k.nodes[0].acquire("a"), OK, "old a")
				k.deliver(all)
			}
			return true
		})
		if a := k.nodes[1].acquire("a"); a.Status != Locked {
			t.Errorf("acquire on n2: %+v", a)
		}
		k.rest()
	})
}

func TestWhatHasEndedInTheFarmIsNotTakenAgain(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		n1, n2 := net.nodes[0], net.nodes[1]
		old.on(func(op Op) fate { return fate{lost: op == Delete} })
		for _, key := range []string{"a", "b", "c"} {
			mustBe(t, "read", n1.get(key), OK, "old "+key)
		}
		mustBe(t, "delete", n1.delete("a", NoCookie), OK, "")
		mustBe(t, "shorten", n1.do(Request{Op: Put, Key: []byte("b"), Cookie: NoCookie, Timeout: 1}), OK, "")
		time.Sleep(2 * time.Minute)
		for _, n := range net.nodes {
			mustBe(t, "deleted", n.get("a"), NotFound, "")
		}
		mustBe(t, "expired", n1.get("b"), NotFound, "")
		if a := n2.get("b"); a.Status != Locked { // by n1, until it has been able to delete it
			t.Errorf("expired, elsewhere: %+v", a)
		}
		if s, _ := n1.Upstream(); s.Remnants != 3 || !old.has("a") {
			t.Errorf("%+v", s)
		}
		old.on(nil)
		time.Sleep(2 * time.Second)
		mustBe(t, "expired", n2.get("b"), NotFound, "")
		if s, _ := n1.Upstream(); s.Remnants != 0 || old.has("a") || old.has("b") || old.has("c") {
			t.Errorf("%+v", s)
		}
	})
}

// A page may have begun the key anew on another node, without asking, and have ended it.
func TestWhatEndsInTheFarmWhileTheOldServerAnswersIsNotTaken(t *testing.T) {
	migrating(t, []string{"n1", "n2"}, func(t *testing.T, old *oldServer, net *network) {
		n := net.nodes[0]
		old.on(func(op Op) fate { return fate{takes: 200 * time.Millisecond} })
		got := make(chan Answer)
		go func() { got <- n.get("a") }()
		time.Sleep(100 * time.Millisecond)
		if k := n.Keep(Peer{"n2", 1}, ParcelBury, Record{Key: "a", Stamp: 5, Timeout: 30}); k != KeepDone {
			t.Fatal(k)
		}
		if a := <-got; a.Status == OK {
			t.Errorf("it has come back: %q", a.Body)
		}
		mustBe(t, "read", n.get("a"), NotFound, "")
		if a := old.ask(&Request{Op: Acquire, Key: []byte("a"), Cookie: NoCookie}); a.Status != OK {
			t.Errorf("it is left locked there: %+v", a)
		}
	})
}
