package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatAllCallMissingIsNotFoundAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a := net.nodes[0]
		begun := time.Now()
		for name, got := range map[string]Answer{
			"get": a.get("k"), "acquire": a.acquire("k"), "release": a.release("k", 1),
			"delete": a.delete("k", 1), "head": a.head("k"),
		} {
			mustBe(t, name, got, NotFound, "")
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("it took %v", d)
		}
		for _, n := range net.nodes {
			if n.entries() != 0 {
				t.Errorf("%s remembers %d entries of what is nowhere", n.name, n.entries())
			}
		}
	})
}

// TestNotKnownIsNotMissing: a node that may have the session cannot be asked. Reads come back soon by
// themselves and are answered at once; writes wait.
func TestNotKnownIsNotMissing(t *testing.T) {
	writes := []Op{Put, Release, Delete}
	for op := range Op(Ops) {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b", "c")
			a := net.nodes[0]
			net.link("a", "c", false)
			var waits time.Duration
			for _, w := range writes {
				if op == w {
					waits = fetchTimeout
				}
			}
			begun := time.Now()
			mustBe(t, op.String(), a.do(Request{Op: op, Key: []byte("k"), Cookie: 3, Timeout: 20}), Unknown, "")
			if d := time.Since(begun); d != waits {
				t.Errorf("%v: answered after %v, want %v", op, d, waits)
			}
			net.mustHold(t, "k")
		})
	}
}

func TestAWriteWaitsForANodeToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, c := net.nodes[0], net.nodes[2]
		c.put("k", "one", NoCookie)
		lock := c.acquire("k")
		net.link("a", "c", false)
		var wg sync.WaitGroup
		begun := time.Now()
		wg.Go(func() { mustBe(t, "put", a.put("k", "two", lock.Cookie), OK, "") })
		wg.Go(func() { mustBe(t, "put of a new session", a.insert("new", "x"), OK, "") })
		time.Sleep(time.Second)
		net.link("a", "c", true)
		wg.Wait()
		if d := time.Since(begun) - time.Second; d > 2*retryAfter {
			t.Errorf("answered %v after the node came back", d)
		}
		mustBe(t, "get", c.get("k"), OK, "two")
		net.mustHold(t, "new", "a")
	})
}

// TestAClientThatGoesAwayEndsItsOwnWaitOnly: the question goes on for the others.
func TestAClientThatGoesAwayEndsItsOwnWaitOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		b.put("k", "one", NoCookie)
		net.on(func(m message) bool { time.Sleep(time.Second); return true })
		var wg sync.WaitGroup
		wg.Go(func() { mustBe(t, "the asker", a.get("k"), OK, "one") })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			mustBe(t, "one that joins it and goes away", a.Do(ctx, &Request{Op: Acquire, Key: []byte("k")}), Unknown, "")
		})
		time.Sleep(time.Second / 2)
		cancel()
		wg.Wait()
		if got := a.acquire("k"); got.Status != OK {
			t.Errorf("acquire after that: %+v", got)
		}
	})
}

func TestAQuestionEndsWithTheFetchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		b.put("k", "one", NoCookie)
		lock := b.acquire("k")
		hold := make(chan struct{})
		net.on(func(m message) bool { <-hold; return true })
		for name, r := range map[string]Request{
			"get": {Op: Get}, "put": {Op: Put, Cookie: lock.Cookie}, "insert": {Op: Put, Flags: 1},
		} {
			begun := time.Now()
			r.Key = []byte("k")
			mustBe(t, name, a.do(r), Unknown, "")
			if d := time.Since(begun); d != fetchTimeout {
				t.Errorf("%s: answered after %v", name, d)
			}
		}
		close(hold)
		net.wg.Wait()
		net.mustHold(t, "k", "b")
	})
}

// TestASessionThatComesTooLateForTheQuestionIsThereForTheNext one: flowing bytes are an answer.
func TestASessionThatComesTooLateForTheQuestionIsThereForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		b.put("k", "one", NoCookie)
		net.on(func(m message) bool { time.Sleep(fetchTimeout * 2 / 3); return true })
		mustBe(t, "get", a.get("k"), Unknown, "")
		time.Sleep(fetchTimeout)
		mustBe(t, "get", a.get("k"), OK, "one")
		if n := net.count(aQuestion, "a"); n != 1 {
			t.Errorf("%d questions", n)
		}
	})
}

func TestOneQuestionIsSharedByAllWhoWantTheSameKey(t *testing.T) {
	for _, exists := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b", "c")
			a, c := net.nodes[0], net.nodes[2]
			if exists {
				c.put("k", "one", NoCookie)
			}
			net.on(func(m message) bool { time.Sleep(10 * time.Millisecond); return true })
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() {
					r := Request{Op: []Op{Get, Head}[i%2], Key: []byte("k")}
					want, body := NotFound, ""
					if exists {
						want = OK
					}
					if exists && r.Op == Get {
						body = "one"
					}
					mustBe(t, fmt.Sprint(r.Op, i), a.do(r), want, body)
				})
				if i == 0 {
					synctest.Wait() // the first one, a get, asks
				}
			}
			wg.Wait()
			if n := net.count(aQuestion, "a"); n != 2 {
				t.Errorf("%d questions went to 2 nodes", n)
			}
		})
	}
}

// TestAWriteAsksForItselfAfterAReadFoundNothing: what a read may take for missing is not enough to
// store a session.
func TestAWriteAsksForItselfAfterAReadFoundNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		net.on(func(m message) bool { time.Sleep(10 * time.Millisecond); return true })
		var wg sync.WaitGroup
		wg.Go(func() { mustBe(t, "get", a.get("k"), NotFound, "") })
		synctest.Wait()
		wg.Go(func() { mustBe(t, "insert", a.insert("k", "new"), OK, "") })
		wg.Go(func() { mustBe(t, "put with a cookie", a.put("other", "new", 4), OK, "") })
		wg.Wait()
		if n := net.count(aQuestion, "a"); n != 3 {
			t.Errorf("%d questions", n)
		}
		if s, ok := b.entry("k"); !ok || len(s.busy.promises) != 1 {
			t.Error("b was not told that the key is being created")
		}
		time.Sleep(2*fetchTimeout + sweepRound + sweepEvery)
		if n := b.entries(); n != 0 {
			t.Errorf("b remembers %d entries", n)
		}
	})
}

func TestANewSessionCostsNoQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a := net.nodes[0]
		net.link("a", "b", false)
		for i, cookie := range []int32{0, NoCookie} {
			mustBe(t, "put", a.put(fmt.Sprint("k", i), "new", cookie), OK, "")
		}
		mustBe(t, "put that it holds already", a.put("k0", "newer", 7), OK, "")
		mustBe(t, "put with other flags", a.do(Request{Op: Put, Key: []byte("k2"), Flags: 2}), OK, "")
		if n := net.count(aQuestion, "a"); n != 0 {
			t.Errorf("%d questions", n)
		}
	})
}

// TestAKeyThatWasHeardOfIsAskedForFirst goes through all that a new visitor's first page is not.
func TestAKeyThatWasHeardOfIsAskedForFirst(t *testing.T) {
	plain := Request{Op: Put, Cookie: NoCookie, Timeout: 20}
	with := func(f func(*Request)) Request { r := plain; f(&r); return r }
	for name, c := range map[string]struct {
		before func(a, b *node)
		put    Request
	}{
		"a lock's cookie":             {nil, with(func(r *Request) { r.Cookie = 1 })},
		"a bad cookie":                {nil, with(func(r *Request) { r.Cookie = BadCookie })},
		"an insert":                   {nil, with(func(r *Request) { r.Flags = FlagUninitialized })},
		"a 404 that was given":        {func(a, _ *node) { a.get("k") }, plain},
		"a 404, ten minutes ago":      {func(a, _ *node) { time.Sleep(time.Minute); a.get("k"); time.Sleep(10*time.Minute - 1) }, plain},
		"a move":                      {func(a, b *node) { a.put("k", "", 0); b.get("k") }, plain},
		"a deletion":                  {func(a, _ *node) { a.put("k", "", 0); a.delete("k", 0) }, plain},
		"another that is creating it": {func(_, b *node) { b.insert("k", ""); b.delete("k", 0) }, plain},
	} {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b")
			a, b := net.nodes[0], net.nodes[1]
			if c.before != nil {
				c.before(a, b)
			}
			asked := net.count(aQuestion, "a")
			c.put.Key = []byte("k")
			mustBe(t, name, a.do(c.put), OK, "")
			if net.count(aQuestion, "a") == asked {
				t.Errorf("%s: it was stored without a question", name)
			}
		})
	}
}

func TestA404IsForgottenInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a := net.nodes[0]
		a.get("k")
		time.Sleep(2*heardFor + 2*sweepEvery)
		asked := net.count(aQuestion, "a")
		mustBe(t, "put", a.put("k", "new", NoCookie), OK, "")
		if net.count(aQuestion, "a") != asked {
			t.Error("a key that was unknown twenty minutes ago is asked for")
		}
	})
}

// TestAFullMemoryOf404sRemembersTooMuch, never too little.
func TestAFullMemoryOf404sRemembersTooMuch(t *testing.T) {
	h := newHeard()
	for i := range heardMost {
		h.add(fmt.Sprint(i), 0)
	}
	if h.has([]byte("new"), 0) {
		t.Error("it counts as full before it is")
	}
	h.add("one more", 1)
	for _, key := range []string{"one more", "never heard of", "0"} {
		if !h.has([]byte(key), int64(heardFor)) {
			t.Errorf("%q is not heard of while the memory is full", key)
		}
	}
	h.age(int64(heardFor))
	if h.has([]byte("never heard of"), 1+int64(heardFor)) || !h.has([]byte("0"), 1+int64(heardFor)) {
		t.Error("ten minutes later it is not back to normal")
	}
}

// TestThoseWhoWaitedForASessionAreServedBeforeItMovesOn: c asks the moment it has arrived at b.
func TestThoseWhoWaitedForASessionAreServedBeforeItMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b, c := net.nodes[0], net.nodes[1], net.nodes[2]
		a.put("k", "one", NoCookie)
		var wg group
		all := make(chan struct{}) // closed when all have asked
		asked := sync.OnceFunc(func() { close(all) })
		net.on(func(m message) bool {
			switch {
			case m.kind == aRecord && m.to == "b":
				time.Sleep(10 * time.Millisecond)
			case m.kind == aReceipt && m.from == "b":
				for range 20 { // whoever comes first
					wg.Go(func() { mustBe(t, "get at c", c.get("k"), OK, "one") })
				}
				asked()
			}
			return true
		})
		for range 50 {
			wg.Go(func() { mustBe(t, "get at b", b.get("k"), OK, "one") })
		}
		<-all
		wg.Wait()
		net.mustHold(t, "k", "c")
		if n := net.count(aQuestion, "b"); n != 2 {
			t.Errorf("b asked %d times: the session went on before all were served", n)
		}
	})
}

// answers is a farm whose answers to questions are given one after the other.
type answers []Verdict

func (a *answers) Ask(context.Context, Question) Verdict {
	v := (*a)[0]
	*a = (*a)[1:]
	return v
}

func (*answers) Forward(context.Context, string, *Request) (Answer, error) {
	return Answer{}, ErrNotHere
}

// TestASessionThatArrivedAndIsGoneAgainIsAskedForAgain, as when what arrived was declined.
func TestASessionThatArrivedAndIsGoneAgainIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, r := range []Request{{Op: Get}, {Op: Head}, {Op: Delete}} {
			st := New(Options{Node: "a", FetchTimeout: fetchTimeout})
			st.Join(&answers{{Outcome: Arrived}, {Outcome: Arrived}, {Outcome: Missing}})
			r.Key = []byte("k")
			mustBe(t, r.Op.String(), st.Do(t.Context(), &r), NotFound, "")
			if n := st.entries(); n != 0 {
				t.Errorf("%v: %d entries are left over", r.Op, n)
			}
			st.Close()
		}
	})
}
