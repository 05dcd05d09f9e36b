package store

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// double makes a farm in which both a and b hold k, as after a partition: a's copy was promoted.
func double(t *testing.T) (net *network, a, b *node) {
	t.Helper()
	net = farm(t, "a", "b", "c")
	a, b = net.nodes[0], net.nodes[1]
	a.put("k", "one", NoCookie)
	lose(t, net, aReceipt)
	a.out("b")
	net.mustHold(t, "k", "a", "b")
	return net, a, b
}

func (n *node) version(key string) Version {
	s, _ := n.entry(key)
	return s.version()
}

func TestWhenTwoCopiesMeetTheNewerOneStays(t *testing.T) {
	for name, c := range map[string]struct {
		writes func(a, b *node)
		stays  string
	}{
		"a was written last": {func(a, b *node) { b.put("k", "b", 0); time.Sleep(time.Millisecond); a.put("k", "a", 0) }, "a"},
		"b was written last": {func(a, b *node) { a.put("k", "a", 0); time.Sleep(time.Millisecond); b.put("k", "b", 0) }, "b"},
		"only b was written": {func(_, b *node) { b.put("k", "b", 0) }, "b"},
		"a moved, neither was written": {func(a, _ *node) {
			a.net.link("b", "c", false)
			a.net.named("c").get("k")
			a.net.named("c").put("k", "c", 0)
			a.net.wg.Wait()
			a.net.link("b", "c", true)
		}, "c"},
	} {
		// Either they settle, or both come to c, and one of them late.
		for how, late := range map[string]string{"settled": "", "moved to c, b late": "b", "moved to c, a late": "a"} {
			synctest.Test(t, func(t *testing.T) {
				net, a, b := double(t)
				c.writes(a, b)
				if late != "" {
					net.on(func(m message) bool {
						if m.from == late {
							time.Sleep(time.Millisecond)
						}
						return true
					})
					net.named("c").get("k")
				}
				net.wg.Wait()
				net.on(nil)
				a.resolve()
				want := c.stays
				if how != "settled" {
					want = "c"
				}
				net.mustHold(t, "k", want)
				mustBe(t, name+", "+how, net.nodes[2].get("k"), OK, c.stays)
				var conflicts uint64
				for _, n := range net.nodes {
					conflicts += n.Stats().Conflicts
				}
				if conflicts == 0 {
					t.Errorf("%s, %s: no conflict was counted", name, how)
				}
			})
		}
	}
}

func TestADeletionIsSettledLikeAWrite(t *testing.T) {
	for _, last := range []string{"a", "b"} {
		for _, deleted := range []bool{false, true} { // whether the last thing was the deletion
			synctest.Test(t, func(t *testing.T) {
				net, a, b := double(t)
				first, second := a, b
				if last == "a" {
					first, second = b, a
				}
				if deleted {
					first.put("k", "written", 0)
					time.Sleep(time.Millisecond)
					second.delete("k", 0)
				} else {
					first.delete("k", 0)
					time.Sleep(time.Millisecond)
					second.put("k", "written", 0)
				}
				a.resolve()
				if deleted {
					net.mustHold(t, "k")
					mustBe(t, "get", a.get("k"), NotFound, "")
				} else {
					net.mustHold(t, "k", last)
					mustBe(t, "get", a.get("k"), OK, "written")
				}
			})
		}
	}
}

// TestALockOfTheCopyThatLostIsVoid: the newer copy comes to the node on which a page holds the older
// one's lock.
func TestALockOfTheCopyThatLostIsVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, a, b := double(t)
		lock := a.acquire("k")
		b.put("k", "b", 0)
		h := b.Asked(t.Context(), Peer{Node: "a", Instance: 1}, Question{Key: "k", Want: Move}).Handover
		if got := a.Receive(Peer{Node: "b", Instance: 2}, h.ID, h.Record); !got.Accepted {
			t.Fatalf("the newer copy: %+v", got)
		}
		h.Received()
		net.mustHold(t, "k", "a")
		mustBe(t, "put with the void lock", a.put("k", "stale", lock.Cookie), Unknown, "")
		next := a.acquire("k")
		mustBe(t, "acquire", next, OK, "b")
		if next.Cookie <= lock.Cookie {
			t.Errorf("cookie %d was given after %d", next.Cookie, lock.Cookie)
		}
		mustBe(t, "put with the void lock under another", a.put("k", "stale", lock.Cookie), Unknown, "")
		if s := a.Stats(); s.Conflicts != 1 || s.Active != 1 {
			t.Errorf("%+v", s)
		}
		a.resolve()
	})
}

// TestAnOldCopyOfADeletedSessionIsDeclined, and its giver drops it.
func TestAnOldCopyOfADeletedSessionIsDeclined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, a, b := double(t)
		b.delete("k", 0)
		mustBe(t, "get where it was deleted", b.get("k"), NotFound, "")
		net.mustHold(t, "k")
		if s, _ := a.entry("k"); s.state != deleted || s.stamp != b.version("k").Stamp {
			t.Errorf("the giver of the old copy knows %v", &s)
		}
		if s := a.Stats(); s.Conflicts != 1 || s.Abandoned != 0 {
			t.Errorf("the giver counts %+v", s)
		}
		a.resolve()
		mustBe(t, "get where the old copy was", a.get("k"), NotFound, "")
	})
}

// TestAnOldCopyOfASessionThatWentOnIsDeclined: b has given the newer one to c, and the older one comes.
func TestAnOldCopyOfASessionThatWentOnIsDeclined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, a, b := double(t)
		b.put("k", "newer", 0)
		net.link("a", "c", false)
		mustBe(t, "get at c", net.nodes[2].get("k"), OK, "newer")
		net.wg.Wait()
		net.link("b", "c", false)
		mustBe(t, "get at b, which cannot ask c", b.get("k"), Unknown, "")
		net.link("a", "c", true)
		net.link("b", "c", true)
		net.mustHold(t, "k", "c")
		mustBe(t, "get at a", a.get("k"), OK, "newer")
		net.wg.Wait()
		a.resolve()
		net.mustHold(t, "k", "a")
	})
}

// TestANoteDoesNotWinFromASessionThatIsStillEmpty: it may have been created since what the note is of
// ended, and then nobody else has a session to win with.
func TestANoteDoesNotWinFromASessionThatIsStillEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a := net.nodes[0]
		a.put("k", "one", 0)
		net.nodes[1].get("k")
		net.wg.Wait()
		net.nodes[1].restart() // and so that session is gone
		rec := Record{Key: "k", Stamp: a.version("k").Stamp + 1, Timeout: 20, Left: time.Minute, Cookie: 1, Flags: FlagUninitialized, Body: []byte("new")}
		if got := a.Receive(Peer{Node: "b", Instance: 2}, HandoverID{Giver: 2, N: 1}, rec); !got.Accepted {
			t.Errorf("a newer empty session: %+v", got)
		}
		net.mustHold(t, "k", "a")
	})
}

// TestANewSessionUnderADeletedIdHasALaterStamp, though its node's clock is behind.
func TestANewSessionUnderADeletedIdHasALaterStamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		b.SetClockOffset(-time.Hour)
		a.put("k", "one", 0)
		a.delete("k", 0)
		gone := a.version("k")
		mustBe(t, "insert", b.insert("k", "new"), OK, "")
		created := b.version("k")
		if created.Stamp <= gone.Stamp || created.Deleted != gone.Stamp || created.Compare(gone) <= 0 {
			t.Errorf("created as %+v after %+v", created, gone)
		}
		mustBe(t, "insert where it was deleted", a.insert("k", "newer"), OK, "")
		net.mustHold(t, "k", "b")
		mustBe(t, "delete", a.delete("k", 0), OK, "")
		mustBe(t, "put where it was deleted first", a.put("k", "third", 0), OK, "")
		if third := a.version("k"); third.Stamp <= created.Stamp+1 {
			t.Errorf("stamp %d after the deletion of %d", third.Stamp, created.Stamp)
		}
	})
}

func TestSettleSaysWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "b", "c")
		b, c := net.nodes[0], net.nodes[1]
		for _, key := range []string{"held", "older", "equal", "moved", "deleted", "stale", "frozen"} {
			b.put(key, key, 0)
		}
		c.get("moved")
		b.delete("deleted", 0)
		b.delete("stale", 0)
		asking := b.Asked(t.Context(), Peer{Node: "c", Instance: 2}, Question{Key: "frozen", Want: Move})
		b.Asked(t.Context(), Peer{Node: "c", Instance: 2}, Question{Key: "promised", Want: Create})
		at := func(key string, later int) Version {
			return Version{Stamp: Stamp(int(b.version(key).Stamp) + later), Epoch: b.version(key).Epoch}
		}
		net.wg.Wait()
		mine := b.version("held")
		gone := b.version("deleted")
		for name, x := range map[string]struct {
			key    string
			v      Version
			holder string
			want   Settlement
		}{
			"unknown":             {"nowhere", at("held", 0), "a", Settlement{Kind: SettleNone}},
			"promised":            {"promised", at("held", 0), "a", Settlement{Kind: SettleNone}},
			"asked only":          {"held", Version{}, "c", Settlement{Kind: SettleMine, Version: mine}},
			"older there":         {"held", at("held", -1), "a", Settlement{Kind: SettleMine, Version: mine}},
			"equal, larger name":  {"held", mine, "c", Settlement{Kind: SettleMine, Version: mine}},
			"itself":              {"held", mine, "b", Settlement{Kind: SettleMine, Version: mine}},
			"equal, smaller name": {"equal", at("equal", 0), "a", Settlement{Kind: SettleDropped}},
			"newer there":         {"older", at("older", 1), "c", Settlement{Kind: SettleDropped}},
			"given away since":    {"moved", at("moved", -1), "a", Settlement{Kind: SettleMoved, Version: at("moved", 0), Node: "c", Holder: Peer{"c", net.named("c").instance}}},
			"given away before":   {"moved", at("moved", 1), "a", Settlement{Kind: SettleNone}},
			"deleted later":       {"deleted", at("deleted", -1), "a", Settlement{Kind: SettleMine, Version: gone}},
			"deleted before":      {"stale", at("stale", 1), "a", Settlement{Kind: SettleDropped}},
			"on its way":          {"frozen", at("frozen", 1), "a", Settlement{Kind: SettleBusy}},
		} {
			if diff := cmp.Diff(x.want, b.Settle(x.key, x.v, x.holder)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		net.mustHold(t, "held", "b")
		net.mustHold(t, "equal")
		net.mustHold(t, "older")
		if s, _ := b.entry("older"); s.state != moved || s.busy.to.Node != "c" {
			t.Errorf("what was dropped is %v", &s)
		}
		if s := b.Stats(); s.Conflicts != 2 {
			t.Errorf("%d conflicts", s.Conflicts)
		}
		asking.Handover.Declined(Version{})
	})
}

// TestOfTwoEqualCopiesOneStays even if both nodes tell each other at the same moment.
func TestOfTwoEqualCopiesOneStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, a, b := double(t)
		va, vb := a.version("k"), b.version("k")
		if va.Compare(vb) != 0 {
			t.Fatalf("not equal: %+v, %+v", va, vb)
		}
		b.Settle("k", va, "a")
		a.Settle("k", vb, "b")
		net.mustHold(t, "k", "a")
		a.resolve()
	})
}

// TestADeclinedCopyIsDroppedEvenIfTheReceiversIsEqual: one of the two has to, and the receiver has decided.
func TestADeclinedCopyIsDroppedEvenIfTheReceiversIsEqual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, a, b := double(t)
		h := a.Asked(t.Context(), Peer{Node: "b", Instance: 2}, Question{Key: "k", Want: Move}).Handover
		got := b.Receive(Peer{Node: "a", Instance: 1}, h.ID, h.Record)
		if got.Accepted || got.Version != b.version("k") {
			t.Errorf("a copy that is equal to the one that is here: %+v", got)
		}
		h.Declined(got.Version)
		net.mustHold(t, "k", "b")
		a.resolve()
		net.mustHold(t, "k", "b")
	})
}

// TestADeclinedSessionIsServedOn: the receiver had no use for it, and knows of none.
func TestADeclinedSessionIsServedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a := net.nodes[0]
		a.put("k", "one", 0)
		h := a.Asked(t.Context(), Peer{Node: "b", Instance: 2}, Question{Key: "k", Want: Move}).Handover
		time.Sleep(time.Hour)
		h.Declined(Version{})
		net.mustHold(t, "k", "a")
		time.Sleep(20*time.Minute - 1)
		mustBe(t, "get", a.get("k"), OK, "one")
	})
}

func TestAStampFarAheadIsTakenAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		a.SetClockOffset(farAhead)
		a.put("just so", "x", 0)
		a.SetClockOffset(farAhead + 1)
		a.put("too far", "y", 0)
		mustBe(t, "get", b.get("just so"), OK, "x")
		if s := b.Stats(); s.Ahead != 0 {
			t.Errorf("%d stamps are ahead", s.Ahead)
		}
		mustBe(t, "get", b.get("too far"), OK, "y")
		if s := b.Stats(); s.Ahead != 1 {
			t.Errorf("%d stamps are ahead, want 1", s.Ahead)
		}
		before := b.version("too far").Stamp
		mustBe(t, "put", b.put("too far", "z", 0), OK, "")
		if after := b.version("too far").Stamp; after != before+1 {
			t.Errorf("stamp %d after %d", after, before)
		}
	})
}

// TestASessionComesToANodeThatHasDroppedALaterEmptyOneForIt: its note of where the session is must not be later than
// the session.
func TestASessionComesToANodeThatHasDroppedALaterEmptyOneForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.nodes[0], net.nodes[1]
		b.put("k", "cart", NoCookie)
		empty := Record{Key: "k", Stamp: b.version("k").Stamp + 100, Timeout: 20, Left: time.Minute, Flags: FlagUninitialized, Cookie: 1}
		if got := a.Receive(Peer{"c", 9}, HandoverID{9, 1}, empty); !got.Accepted {
			t.Fatalf("not taken: %+v", got)
		}
		if got := a.Settle("k", b.version("k"), "b"); got.Kind != SettleDropped {
			t.Fatalf("the empty session stays: %+v", got)
		}
		mustBe(t, "get at a", a.get("k"), OK, "cart")
		net.mustHold(t, "k", "a")
	})
}
