package store

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lose makes a hand-over of k from a to b end in doubt: the message of this kind is lost.
func lose(t *testing.T, net *network, kind string) {
	t.Helper()
	net.on(func(m message) bool { return m.kind != kind })
	net.named("b").get("k")
	net.wg.Wait()
	net.on(nil)
	if s := net.named("a").Stats(); s.Doubts != 1 {
		t.Errorf("%d hand-overs in doubt, want 1", s.Doubts)
	}
}

// TestADoubtEndsWithTheReceiversWord has a session on its way from a to b when the record or the
// receipt is lost, and something happen at b before a asks. Of each case there are two: a
// waits for b's word, or has served its own copy again meanwhile, because b was out.
func TestADoubtEndsWithTheReceiversWord(t *testing.T) {
	b := func(f func(*node)) func(*network) { return func(net *network) { f(net.named("b")) } }
	for name, c := range map[string]struct {
		lost  string
		then  func(*network)
		fate  FateKind
		waits []string // who holds it in the end if a waited
		outed []string // and if it did not
		body  string   // of what is held in the end if a waited
		lost2 string   // conflicts are counted in the second case unless this is "none"
	}{
		"not received": {lost: aRecord, fate: NotReceived, waits: []string{"a"}, outed: []string{"a"}, body: "one", lost2: "none"},
		"not received by a new run": {lost: aReceipt, then: b((*node).restart), fate: NotReceived,
			waits: []string{"a"}, outed: []string{"a"}, body: "one", lost2: "none"},
		"kept": {lost: aReceipt, fate: Kept, waits: []string{"b"}, outed: []string{"a"}, body: "one"},
		"kept and written": {lost: aReceipt, then: b(func(n *node) { n.put("k", "two", NoCookie) }), fate: Kept,
			waits: []string{"b"}, outed: []string{"b"}, body: "two"},
		"passed on": {lost: aReceipt, then: func(net *network) {
			net.link("a", "c", false)
			net.named("c").get("k")
			net.wg.Wait()
			net.link("a", "c", true)
		}, fate: PassedOn, waits: []string{"c"}, outed: []string{"c"}, body: "one"},
		"deleted":  {lost: aReceipt, then: b(func(n *node) { n.delete("k", NoCookie) }), fate: Buried},
		"ended":    {lost: aReceipt, then: b(func(n *node) { time.Sleep(20 * time.Minute) }), fate: Lost, outed: []string{"a"}, lost2: "none"},
		"vanished": {lost: aReceipt, then: b(func(n *node) { time.Sleep(20*time.Minute + 2*sweepRound) }), fate: Lost, outed: []string{"a"}, lost2: "none"},
	} {
		for _, out := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				net := farm(t, "a", "b", "c")
				a, b := net.nodes[0], net.nodes[1]
				a.put("k", "one", NoCookie)
				lose(t, net, c.lost)
				h := a.Doubts("b")[0]
				if out && c.fate != Lost {
					a.out("b")
					net.mustBeServed(t, name, a)
				}
				if c.then != nil {
					c.then(net)
				}
				if out && c.fate == Lost {
					a.out("b")
				}
				if got := b.FateOf(h.ID, "k").Kind; got != c.fate {
					t.Errorf("%s: fate %d, want %d", name, got, c.fate)
				}
				a.resolve()
				if s := a.Stats(); s.Doubts != 0 {
					t.Errorf("%s: still %d hand-overs in doubt", name, s.Doubts)
				}
				want := c.waits
				if out {
					want = c.outed
				}
				net.mustHold(t, "k", want...)
				conflicts := a.Stats().Conflicts + b.Stats().Conflicts + net.nodes[2].Stats().Conflicts
				if wanted := out && c.lost2 != "none"; (conflicts > 0) != wanted {
					t.Errorf("%s (out: %v): %d conflicts were counted", name, out, conflicts)
				}
				if len(want) > 0 && !out {
					mustBe(t, name, a.get("k"), OK, c.body)
				}
				if len(want) == 0 {
					mustBe(t, name, a.get("k"), NotFound, "")
				}
			})
		}
	}
}

func (net *network) mustBeServed(t *testing.T, what string, n *node) {
	t.Helper()
	if a, ok := n.Try(&Request{Op: Get, Key: []byte("k")}); !ok || a.Status != OK {
		t.Errorf("%s: %s does not serve its own copy", what, n.name)
	}
}

// TestWhileAHandoverIsInDoubtNobodyIsTold: reads get the answer that makes the client come back, at
// once, and writes wait for what becomes of it.
func TestWhileAHandoverIsInDoubtNobodyIsTold(t *testing.T) {
	for _, lost := range []string{aRecord, aReceipt} {
		synctest.Test(t, func(t *testing.T) {
			net := farm(t, "a", "b", "c")
			a, b, c := net.nodes[0], net.nodes[1], net.nodes[2]
			a.put("k", "one", NoCookie)
			var wg sync.WaitGroup
			net.on(func(m message) bool {
				if m.kind == lost {
					time.Sleep(time.Second) // so that somebody waits already
				}
				return m.kind != lost
			})
			wg.Go(func() { b.head("k"); b.get("k") })
			time.Sleep(time.Second / 2)
			wg.Go(func() { mustBe(t, "a get that waits", a.get("k"), Unknown, "") })
			time.Sleep(time.Second)
			net.on(nil)
			begun := time.Now()
			mustBe(t, "get at the giver", a.get("k"), Unknown, "")
			mustBe(t, "head at the giver", a.head("k"), Unknown, "")
			if lost == aRecord {
				mustBe(t, "acquire at another node", c.acquire("k"), Unknown, "")
			}
			if d := time.Since(begun); d != 0 {
				t.Errorf("reads were answered after %v", d)
			}
			mustBe(t, "a write at the giver that nobody resolves", a.put("k", "x", 5), Unknown, "")
			if d := time.Since(begun); d != fetchTimeout {
				t.Errorf("it was answered after %v", d)
			}
			wg.Go(func() { mustBe(t, "a write at the giver", a.put("k", "two", 5), OK, "") })
			time.Sleep(time.Second)
			a.resolve()
			wg.Wait()
			mustBe(t, "get", c.get("k"), OK, "two")
			net.mustHold(t, "k", "c")
		})
	}
}

func TestASessionInDoubtDoesNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a := net.nodes[0]
		a.put("k", "one", NoCookie)
		lose(t, net, aRecord)
		time.Sleep(10 * time.Hour)
		net.mustHold(t, "k", "a")
		a.resolve()
		time.Sleep(20*time.Minute - 1)
		mustBe(t, "get", a.get("k"), OK, "one")
	})
}

// TestARefusalBinds: b has said that it did not receive the hand-over; then it comes.
func TestARefusalBinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		a.put("k", "one", NoCookie)
		h := a.Asked(t.Context(), Peer{Node: "b", Instance: b.instance}, Question{Key: "k", Want: Move}).Handover
		rec := h.Record
		h.Doubt()
		a.resolve()
		if got := b.Receive(Peer{Node: "a", Instance: 1}, h.ID, rec); got != (Receipt{}) {
			t.Errorf("the record that came late: %+v, want it refused", got)
		}
		net.mustHold(t, "k", "a")
		mustBe(t, "another attempt", b.get("k"), OK, "one")
		if got := b.Receive(Peer{Node: "a", Instance: 1}, h.ID, rec); got != (Receipt{}) {
			t.Errorf("the first record after the second: %+v, want it refused", got)
		}
		if s := b.Stats(); s.Conflicts != 0 {
			t.Errorf("%d conflicts, where there was one session all the time", s.Conflicts)
		}
		net.mustHold(t, "k", "b")
	})
}

func TestReceiptsAreForgottenWhenNobodyCanAskAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		a.put("k", "one", NoCookie)
		lose(t, net, aReceipt)
		a.resolve()
		b.FateOf(HandoverID{Giver: 9, N: 9}, "k")
		if len(b.receipts.taken) != 1 || len(b.receipts.bound) != 1 {
			t.Errorf("%d taken and %d refused", len(b.receipts.taken), len(b.receipts.bound))
		}
		b.receipts.age(receivedFor + refusedFor + int64(time.Hour))
		if len(b.receipts.taken) != 0 || len(b.receipts.bound) != 0 {
			t.Errorf("%d taken and %d refused are remembered for ever", len(b.receipts.taken), len(b.receipts.bound))
		}
		a.get("k")
		net.wg.Wait()
		if len(a.receipts.taken) != 0 {
			t.Error("a hand-over that its giver knows of is remembered")
		}
	})
}

// TestAPromotedCopyGivesNoCookieTwice, whatever locks b gave before it died.
func TestAPromotedCopyGivesNoCookieTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		a.put("k", "one", NoCookie)
		before, _ := a.entry("k")
		lose(t, net, aReceipt)
		a.out("b")
		s, _ := a.entry("k")
		if raised := s.cookie - before.cookie; raised < 1<<16 || raised >= 1<<25+1<<16 {
			t.Errorf("the cookie counter was raised by %d", raised)
		}
		if s.epoch != before.epoch+1 || s.stamp != before.stamp {
			t.Errorf("epoch %d, stamp %d; before it was %d, %d", s.epoch, s.stamp, before.epoch, before.stamp)
		}
		here, there := a.acquire("k"), b.acquire("k")
		if here.Status != OK || there.Status != OK || here.Cookie <= there.Cookie {
			t.Errorf("cookie %d at a, %d at b", here.Cookie, there.Cookie)
		}
	})
}

// TestALockThatDiedWithItsHolderWritesNoMore once the session was locked or written since. Until then
// its page may still end well.
func TestALockThatDiedWithItsHolderWritesNoMore(t *testing.T) {
	since := map[string]func(a *node){
		"nothing":  func(a *node) {},
		"a read":   func(a *node) { a.get("k"); a.head("k") },
		"a lock":   func(a *node) { a.release("k", a.acquire("k").Cookie) },
		"a put":    func(a *node) { a.put("k", "newer", NoCookie) },
		"its lock": func(a *node) { a.acquire("k") },
		"a move":   func(a *node) { a.net.named("c").get("k"); a.get("k") },
		"a lock and a move": func(a *node) {
			a.release("k", a.acquire("k").Cookie)
			a.net.named("c").get("k")
			a.get("k")
		},
	}
	for name, then := range since {
		for _, op := range []Op{Put, Release, Delete} {
			synctest.Test(t, func(t *testing.T) {
				net := farm(t, "a", "b", "c")
				a, b := net.nodes[0], net.nodes[1]
				net.named("c").put("k", "one", NoCookie)
				mustBe(t, "get at a", a.get("k"), OK, "one")
				net.wg.Wait()
				lose(t, net, aReceipt)
				lock := b.acquire("k")
				net.link("a", "b", false)
				net.link("c", "b", false)
				a.out("b")
				b.restart()
				net.link("a", "b", true)
				net.link("c", "b", true)
				then(a)

				before, _ := a.entry("k")
				got := a.do(Request{Op: op, Key: []byte("k"), Cookie: lock.Cookie, Timeout: 20, Body: []byte("late")})
				after, _ := a.entry("k")
				want := Unknown
				if name == "nothing" || name == "a read" || name == "a move" {
					want = OK
				}
				if got.Status != want {
					t.Errorf("%v with the dead lock's cookie after %s: status %s, want %s", op, name, statusNames[got.Status], statusNames[want])
				}
				if want == Unknown && (after.stamp != before.stamp || after.lock != before.lock) {
					t.Errorf("%v with the dead lock's cookie after %s changed the session", op, name)
				}
				if before.lock != 0 {
					mustBe(t, "the living lock's put", a.put("k", "newest", before.lock), OK, "")
				}
				mustBe(t, "a put without a cookie", a.put("k", "newest", NoCookie), OK, "")
				a.resolve()
			})
		}
	}
}

// TestOnlyTheSessionsThatWereOnTheirWayToANodeArePromoted when it is out.
func TestOnlyTheSessionsThatWereOnTheirWayToANodeArePromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b", "c")
		a := net.nodes[0]
		a.put("k", "one", NoCookie)
		a.put("given", "two", NoCookie)
		net.named("b").get("given")
		lose(t, net, aRecord)
		a.out("c")
		mustBe(t, "get while c is out", a.get("k"), Unknown, "")
		a.out("b")
		mustBe(t, "get while b is out", a.get("k"), OK, "one")
		net.mustHold(t, "given", "b")
		a.out("b") // again, and nothing happens
		if s, _ := a.entry("k"); s.epoch != 1 {
			t.Errorf("epoch %d", s.epoch)
		}
		a.resolve()
	})
}
