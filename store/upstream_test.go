package store

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// oldServer is a state server that is to be replaced. It does what Microsoft's does.
type oldServer struct {
	*Store

	mu   sync.Mutex
	fate func(op Op) fate // nil: all goes well
	did  map[Op]int

	counting *Store // the one that takes sessions over
}

// fate is what becomes of a request.
type fate struct {
	takes    time.Duration // before it is carried out
	lost     bool          // it never arrives
	silent   bool          // its answer does not
	full     bool          // there is no memory for its answer's body
	outsized bool          // that is larger than is taken
	counts   bool          // its answer's body is counted
}

func newOld(t *testing.T) *oldServer {
	return &oldServer{Store: alone(t), did: map[Op]int{}}
}

func (o *oldServer) Do(ctx context.Context, r *Request) (Answer, error) {
	o.mu.Lock()
	var f fate
	if o.fate != nil {
		f = o.fate(r.Op)
	}
	o.did[r.Op]++
	o.mu.Unlock()
	if f.takes > 0 {
		wait := time.NewTimer(f.takes)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			f.silent = true // but it is carried out
		}
	}
	if f.lost {
		return Answer{}, errLost
	}
	a := o.ask(r)
	if f.silent {
		return Answer{}, errLost
	}
	if (f.full || f.outsized) && a.Body != nil {
		a.Status, a.Body, r.Counted = Full, nil, int64(len(a.Body))
		if f.outsized {
			return a, ErrOutsized
		}
	}
	if f.counts && a.Body != nil {
		r.Counted = int64(len(a.Body))
		if !o.counting.Reserve(ctx, r.Counted) {
			return Answer{}, errLost
		}
	}
	return a, nil
}

// ask is what a page that runs against the old server does.
func (o *oldServer) ask(r *Request) Answer {
	if a, ok := o.Try(r); ok {
		return a
	}
	return o.Store.Do(context.Background(), r)
}

func (o *oldServer) on(f func(op Op) fate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fate = f
}

func (o *oldServer) count(op Op) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.did[op]
}

// has tells whether a session is there.
func (o *oldServer) has(key string) bool { return req(o.Store, Head, key, NoCookie, "").Status == OK }

// migrating runs f with an old server that has sessions "a" to "d" with 30 minutes, and nodes that take them over.
func migrating(t *testing.T, names []string, f func(t *testing.T, old *oldServer, net *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		old := newOld(t)
		for _, key := range []string{"a", "b", "c", "d"} {
			old.ask(&Request{Op: Put, Key: []byte(key), Cookie: NoCookie, Timeout: 30, Body: []byte("old " + key)})
		}
		net := waitingFarm(t, 0, names...)
		for _, n := range net.nodes {
			n.JoinUpstream(old)
		}
		f(t, old, net)
	})
}

var sizes = map[string][]string{"in a farm": {"n1", "n2", "n3"}, "alone in a farm": {"n1"}}

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
