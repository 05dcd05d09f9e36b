package store

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestASessionMovesToTheNodeThatAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b := net.nodes[0], net.nodes[1]
		a.put("k", "one", NoCookie)
		mustBe(t, "get where it is not", b.get("k"), OK, "one")
		net.mustHold(t, "k", "b")
		if s, _ := a.entry("k"); s.state != moved || s.busy.to.Node != "b" || s.body != nil {
			t.Errorf("the giver's note: %v", &s)
		}
		if s := a.Stats(); s.Active != 0 || s.Bytes != 0 || s.Total != 1 {
			t.Errorf("the giver counts %+v", s)
		}
		if s := b.Stats(); s.Active != 1 || s.Bytes != 4 || s.Total != 0 {
			t.Errorf("the receiver counts %+v", s)
		}
		mustBe(t, "back again", a.get("k"), OK, "one")
		net.mustHold(t, "k", "a")
		if s, _ := a.entry("k"); s.epoch != 2 {
			t.Errorf("epoch %d after two moves", s.epoch)
		}
	})
}

func TestCookiesRiseFromNodeToNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		net.nodes[0].put("k", "", NoCookie)
		for i := range 10 {
			n := net.nodes[i%2]
			lock := n.acquire("k")
			if want := int32(i + 2); lock.Status != OK || lock.Cookie != want {
				t.Fatalf("acquire %d: %+v, want cookie %d", i, lock, want)
			}
			n.put("k", "", lock.Cookie)
		}
	})
}

func TestTheTimeLeftTravelsWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		time.Sleep(time.Hour) // the nodes' monotonic clocks differ
		b.restart()
		a.do(Request{Op: Put, Key: []byte("k"), Timeout: 2})
		a.do(Request{Op: Put, Key: []byte("never"), Timeout: 0})
		time.Sleep(2*time.Minute - 1)
		mustBe(t, "a get at b renews", b.get("k"), OK, "")
		mustBe(t, "never", b.get("never"), OK, "")
		time.Sleep(2*time.Minute - 1)
		mustBe(t, "head", b.head("k"), OK, "")
		time.Sleep(2 * time.Minute)
		mustBe(t, "get after its time", b.get("k"), NotFound, "")
		time.Sleep(10 * time.Hour)
		mustBe(t, "one that never expires", b.get("never"), OK, "")
	})
}

// TestALockedSessionStaysWhereItIs: who asks elsewhere is told of the lock, and that renews.
func TestALockedSessionStaysWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b := net.nodes[0], net.nodes[1]
		a.put("k", "one", NoCookie)
		lock := a.acquire("k")
		time.Sleep(19 * time.Minute)
		for name, got := range map[string]Answer{"get": b.get("k"), "acquire": b.acquire("k")} {
			if got.Status != Locked || got.Cookie != lock.Cookie || got.LockAge != 19*time.Minute || got.Body != nil {
				t.Errorf("%s at another node: %+v, want the lock with its cookie and age", name, got)
			}
		}
		mustBe(t, "head at another node", b.head("k"), OK, "")
		net.mustHold(t, "k", "a")
		time.Sleep(19 * time.Minute)
		mustBe(t, "release with the cookie that the answer named", b.release("k", lock.Cookie), OK, "")
		mustBe(t, "then it moves", b.get("k"), OK, "one")
		net.mustHold(t, "k", "b")
	})
}

func TestAHeadDoesNotMoveTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		net.nodes[0].put("k", "one", NoCookie)
		time.Sleep(19 * time.Minute)
		mustBe(t, "head", net.nodes[1].head("k"), OK, "")
		net.mustHold(t, "k", "a")
		time.Sleep(19 * time.Minute)
		mustBe(t, "get after the head renewed it", net.nodes[0].get("k"), OK, "one")
	})
}

func TestWritesArePassedToTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b := net.nodes[0], net.nodes[1]
		a.put("k", "one", NoCookie)

		lock := a.acquire("k")
		got := b.put("k", "two", lock.Cookie-1)
		if got.Status != Locked || got.Cookie != lock.Cookie {
			t.Errorf("put with another cookie: %+v", got)
		}
		mustBe(t, "put with the lock's cookie", b.put("k", "two", lock.Cookie), OK, "")
		net.mustHold(t, "k", "a")

		lock = a.acquire("k")
		mustBe(t, "what was put", lock, OK, "two")
		mustBe(t, "release without a cookie", b.release("k", NoCookie), BadRequest, "")
		mustBe(t, "put with a bad cookie", b.put("k", "x", BadCookie), BadRequest, "")
		mustBe(t, "insert-only put", b.insert("k", "x"), OK, "")
		mustBe(t, "release", b.release("k", lock.Cookie), OK, "")

		mustBe(t, "put without a lock, from where it was never heard of", b.put("k", "three", 9), OK, "")
		net.mustHold(t, "k", "a")
		lock = a.acquire("k")
		mustBe(t, "what was put", lock, OK, "three")
		mustBe(t, "delete", b.delete("k", lock.Cookie), OK, "")
		mustBe(t, "get of what was deleted", b.get("k"), NotFound, "")
		if s := a.Stats(); s.Abandoned != 1 {
			t.Errorf("%d sessions abandoned where it was deleted", s.Abandoned)
		}
	})
}

// TestAWriteWhoseAnswerIsLostIsNeverSentTwice: it was carried out, and the client must not be told that
// it was, nor that it was not.
func TestAWriteWhoseAnswerIsLostIsNeverSentTwice(t *testing.T) {
	for _, lost := range []string{aRequest, anAnswer} {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b")
			a, b := net.nodes[0], net.nodes[1]
			a.put("k", "one", NoCookie)
			lock := a.acquire("k")
			net.on(func(m message) bool { return m.kind != lost })
			mustBe(t, "put whose "+lost+" is lost", b.put("k", "two", lock.Cookie), Unknown, "")
			if n := net.count(aRequest, "b"); n != 1 {
				t.Errorf("it was sent %d times", n)
			}
			net.on(nil)
			want, locked := "two", Status(OK)
			if lost == aRequest {
				want, locked = "", Locked
			}
			mustBe(t, "get", b.get("k"), locked, want)
		})
	}
}

// TestAHolderThatHasTheSessionNoMoreIsNotTheEnd: the session moves on between the reply and the write.
func TestAHolderThatHasTheSessionNoMoreIsNotTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b, c := net.nodes[0], net.nodes[1], net.nodes[2]
		a.put("k", "one", NoCookie)
		var once sync.Once
		net.on(func(m message) bool {
			if m.kind == aRequest {
				once.Do(func() { mustBe(t, "get at c", c.get("k"), OK, "one") })
			}
			return true
		})
		mustBe(t, "put", b.put("k", "two", 5), OK, "")
		net.mustHold(t, "k", "c")
		mustBe(t, "get", c.get("k"), OK, "two")
		if n := net.count(aRequest, "b"); n != 2 {
			t.Errorf("the write was sent %d times", n)
		}
	})
}

// TestALateQuestionIsPointedOn is the narrow miss: c's question reaches b before the session does, and
// a after it has left.
func TestALateQuestionIsPointedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a, b, c := net.nodes[0], net.nodes[1], net.nodes[2]
		a.put("k", "one", NoCookie)
		net.on(func(m message) bool {
			if m.kind == aQuestion && m.from == "c" && m.to == "a" {
				time.Sleep(20 * time.Millisecond)
			}
			return true
		})
		var wg sync.WaitGroup
		wg.Go(func() { mustBe(t, "get at c", c.get("k"), OK, "one") })
		time.Sleep(10 * time.Millisecond) // b has told c that it does not have it
		mustBe(t, "get at b", b.get("k"), OK, "one")
		wg.Wait()
		net.mustHold(t, "k", "c")
	})
}

func TestANoteOfAMoveIsKeptForAWhile(t *testing.T) {
	for fetch, kept := range map[time.Duration]time.Duration{fetchTimeout: 60 * time.Second, 20 * time.Second: 80 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b")
			a, b := net.nodes[0], net.nodes[1]
			a.fetchTimeout = fetch
			a.put("k", "one", NoCookie)
			b.get("k")
			asked := func() Reply {
				return a.Asked(t.Context(), Peer{Node: "c", Instance: 3}, Question{Key: "k", Want: Move})
			}
			time.Sleep(kept - 1)
			if r := asked(); r.Kind != ReplyMoved || r.Node != "b" || r.Epoch != 1 {
				t.Errorf("just before %v: %+v, want that it moved to b", kept, r)
			}
			time.Sleep(time.Nanosecond)
			if r := asked(); r.Kind != ReplyMissing {
				t.Errorf("after %v: %+v, want missing", kept, r)
			}
			time.Sleep(sweepRound + sweepEvery)
			if n := a.entries(); n != 0 {
				t.Errorf("%d entries are left over", n)
			}
		})
	}
}

// TestTheGiverAnswersNothingWhileASessionIsOnItsWay: requests at the giver wait and follow it.
func TestTheGiverAnswersNothingWhileASessionIsOnItsWay(t *testing.T) {
	for _, at := range []string{aRecord, aReceipt} {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b")
			a, b := net.nodes[0], net.nodes[1]
			a.put("k", "one", NoCookie)
			net.on(func(m message) bool {
				if m.kind == at && (m.from == "a") == (at == aRecord) {
					time.Sleep(time.Second)
				}
				return true
			})
			var wg sync.WaitGroup
			begun := time.Now()
			wg.Go(func() { mustBe(t, "acquire at b", b.acquire("k"), OK, "one") })
			synctest.Wait()
			if s, _ := a.entry("k"); s.state != frozen {
				t.Errorf("while the %s is on its way: %v, want it frozen", at, &s)
			}
			wg.Go(func() {
				if got := a.get("k"); got.Status != Locked || got.Cookie != 2 {
					t.Errorf("get at a: %+v, want the lock that b has by now", got)
				}
			})
			wg.Go(func() {
				a, err := a.Forwarded(t.Context(), &Request{Op: Put, Key: []byte("k")})
				if err != ErrNotHere {
					t.Errorf("a write that was passed on: %+v, %v, want ErrNotHere", a, err)
				}
			})
			wg.Wait()
			if d := time.Since(begun); d < time.Second {
				t.Errorf("all were answered after %v, while nobody could know", d)
			}
			net.mustHold(t, "k", "b")
		})
	}
}
