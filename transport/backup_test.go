package transport

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"peerstate/store"
)

// backedUp starts a farm in which each session has backups copies, all linked.
func (f *farm) backedUp(backups int, names ...string) []*testNode {
	f.t.Helper()
	f.backups = backups
	var all []*testNode
	for i, name := range names {
		all = append(all, f.start(name, names[:i]...))
	}
	f.linked(all...)
	return all
}

// safe waits until all nodes have backed up all that they hold.
func (f *farm) safe() {
	f.t.Helper()
	for range 600 {
		unsafe := 0
		for _, n := range f.nodes {
			unsafe += n.store.Stats().Unsafe
		}
		if unsafe == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, n := range f.nodes {
		f.t.Errorf("%s: %+v", n.name, n.store.Stats())
	}
	f.t.Fatal("not all is backed up after a minute")
}

// kept counts the backups on all nodes.
func (f *farm) kept() (n int) {
	for _, node := range f.nodes {
		n += node.store.Stats().Backups
	}
	return n
}

func TestANodesSessionsSurviveItsDeath(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		a, b, c := nodes[0], nodes[1], nodes[2]
		for i := range 50 {
			a.put(keyOf(i), fmt.Sprint("cart ", i), 0)
		}
		a.delete(keyOf(49), 0)
		f.safe()
		if f.kept() != 49 || b.store.Stats().Backups < 10 || c.store.Stats().Backups < 10 {
			t.Errorf("backups: %d on b, %d on c", b.store.Stats().Backups, c.store.Stats().Backups)
		}
		a.kill()
		f.wantAnswer("get before the holder is out", b.get(keyOf(1)), store.Unknown, "")
		time.Sleep(10*time.Second + 500*time.Millisecond) // the idle time-out and the grace time
		for i := range 49 {
			f.wantAnswer("get", b.get(keyOf(i)), store.OK, fmt.Sprint("cart ", i))
			f.wantAnswer("get", c.get(keyOf(i)), store.OK, fmt.Sprint("cart ", i))
		}
		f.safe()
		time.Sleep(100 * time.Millisecond) // the last receipt is on its way
		for i := range 49 {
			if h := f.holders(keyOf(i)); len(h) != 1 {
				t.Fatalf("held by %v", h)
			}
		}
		if f.kept() != 49 {
			t.Errorf("%d backups after the loss, want 49", f.kept())
		}
		f.wantAnswer("get of what was deleted", b.get(keyOf(49)), store.Unknown, "")
		time.Sleep(time.Minute)
		f.wantAnswer("get of what was deleted", b.get(keyOf(49)), store.NotFound, "")
	})
}

func TestAnIdleSessionOfADeadNodeGetsABackupAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		for i := range 20 {
			nodes[0].put(keyOf(i), "cart", 0)
		}
		f.safe()
		nodes[0].kill()
		time.Sleep(15 * time.Second)
		f.safe()
		held := nodes[1].store.Stats().Active + nodes[2].store.Stats().Active
		if held != 20 || f.kept() != 20 {
			t.Errorf("%d held, %d backups, want 20 of each", held, f.kept())
		}
		// And so the next death is survived as well.
		nodes[1].kill()
		time.Sleep(11 * time.Second)
		for i := range 20 {
			f.wantAnswer("get", nodes[2].get(keyOf(i)), store.OK, "cart")
		}
	})
}

func TestANodeThatCrashedAndIsBackEmptyGetsItsSessionsFromTheBackups(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		a := nodes[0]
		a.put(keyOf(1), "cart", 0)
		f.safe()
		a.kill()
		time.Sleep(500 * time.Millisecond)
		a = f.start("a", "b", "c")
		f.linked(a, nodes[1], nodes[2])
		if d := took(func() { f.wantAnswer("get", a.get(keyOf(1)), store.OK, "cart") }); d > 200*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

func TestALockThatDiedWithItsHolderWritesNoMoreOnceSomebodyWasThere(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b")
		a, b := nodes[0], nodes[1]
		a.put(keyOf(1), "cart", 0)
		f.safe()
		lost := a.acquire(keyOf(1))
		a.kill()
		time.Sleep(11 * time.Second)
		got := b.acquire(keyOf(1))
		f.wantAnswer("acquire", got, store.OK, "cart")
		if got.Cookie < lost.Cookie+1<<16 {
			t.Errorf("cookie %d after %d", got.Cookie, lost.Cookie)
		}
		f.wantAnswer("put with the dead lock", b.put(keyOf(1), "old page", lost.Cookie), store.Unknown, "")
		f.wantAnswer("put", b.put(keyOf(1), "new page", got.Cookie), store.OK, "")
		f.wantAnswer("put with the dead lock", b.put(keyOf(1), "old page", lost.Cookie), store.Unknown, "")
	})
}

func TestABackupOutlivesNeitherItsSessionsEndNorItsDeletion(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b")
		a, b := nodes[0], nodes[1]
		a.put(keyOf(1), "cart", 0)
		a.put(keyOf(2), "cart", 0)
		a.put(keyOf(3), "cart", 0)
		f.safe()
		a.delete(keyOf(1), 0)
		time.Sleep(time.Second)
		if n := b.store.Stats().Backups; n != 2 {
			t.Errorf("%d backups after a deletion", n)
		}
		for range 8 { // one is used, and lives
			time.Sleep(5 * time.Minute)
			f.wantAnswer("get", a.get(keyOf(2)), store.OK, "cart")
		}
		if n := b.store.Stats().Backups; n != 1 {
			t.Errorf("%d backups after one has expired", n)
		}
		f.wantAnswer("get of an expired one", b.get(keyOf(3)), store.NotFound, "")
		a.kill()
		time.Sleep(11 * time.Second)
		f.wantAnswer("get", b.get(keyOf(2)), store.OK, "cart")
		f.wantAnswer("get of what was deleted", b.get(keyOf(1)), store.NotFound, "")
	})
}

func TestAMovedSessionIsSafeAtOnceAndStaysSo(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		a, b := nodes[0], nodes[1]
		for i := range 20 {
			a.put(keyOf(i), "cart", 0)
		}
		f.safe()
		for i := range 20 {
			f.wantAnswer("get", b.get(keyOf(i)), store.OK, "cart")
		}
		if n := b.store.Stats().Unsafe; n != 0 {
			t.Errorf("%d sessions are not safe after they moved", n)
		}
		time.Sleep(100 * time.Millisecond)
		if f.kept() != 20 {
			t.Errorf("%d backups, want 20", f.kept())
		}
		b.kill()
		time.Sleep(11 * time.Second)
		for i := range 20 {
			f.wantAnswer("get", nodes[2].get(keyOf(i)), store.OK, "cart")
		}
	})
}

func TestOnlyOneOfTwoKeepersPromotes(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(2, "a", "b", "c", "d")
		for i := range 40 {
			nodes[0].put(keyOf(i), "cart", 0)
		}
		f.safe()
		if f.kept() != 80 {
			t.Fatalf("%d backups, want 80", f.kept())
		}
		nodes[0].kill()
		time.Sleep(9900 * time.Millisecond)
		// A page and its request in the background, on two nodes, just as the backups are promoted.
		for i := range 40 {
			locked := make(chan int32, 2)
			for _, n := range nodes[1:3] {
				go func() {
					for {
						a := n.acquire(keyOf(i))
						if a.Status == store.OK || a.Status == store.Locked && a.Cookie != 0 {
							if a.Status == store.Locked {
								a.Cookie = 0
							}
							locked <- a.Cookie
							return
						}
						time.Sleep(50 * time.Millisecond)
					}
				}()
			}
			x, y := <-locked, <-locked
			if (x == 0) == (y == 0) {
				t.Errorf("locks %d and %d", x, y)
			}
			if h := f.holders(keyOf(i)); len(h) != 1 {
				t.Errorf("held by %v", h)
			}
		}
		f.safe()
		if f.kept() != 80 {
			t.Errorf("%d backups after the loss, want 80", f.kept())
		}
	})
}

// whenSafe is how long an answer takes that must wait for the backups, and whether it is refused, by PEERSTATE_BACKUP_SYNC, how
// many nodes there are and whether the other one is hung.
var whenSafe = map[string]struct {
	sync    store.Sync
	nodes   int
	hung    bool
	took    time.Duration
	refused bool
}{
	"off":                        {store.SyncOff, 2, false, 0, false},
	"on":                         {store.SyncOn, 2, false, 20 * time.Millisecond, false},
	"strict":                     {store.SyncStrict, 2, false, 20 * time.Millisecond, false},
	"on, alone":                  {store.SyncOn, 1, false, 0, false},
	"strict, alone":              {store.SyncStrict, 1, false, 0, true},
	"on, and the keeper is hung": {store.SyncOn, 2, true, time.Second, false},
	"strict, the keeper is hung": {store.SyncStrict, 2, true, time.Second, true},
}

func TestAWriteIsAnsweredWhenItsBackupsHaveIt(t *testing.T) {
	for what, c := range whenSafe {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				f.sync = c.sync
				nodes := f.backedUp(1, []string{"a", "b"}[:c.nodes]...)
				nodes[0].put(keyOf(1), "one", 0)
				f.mend()
				if c.hung {
					f.net.losing(func(string, string) bool { return true })
				}
				var a store.Answer
				d := took(func() { a = nodes[0].put(keyOf(1), "two", 0) })
				if (a.Status == store.Unknown) != c.refused {
					t.Errorf("status %d", a.Status)
				}
				wantTime(t, "put", d, c.took)
				if n := nodes[0].store.Stats().Unsynced; (n > 0) != (c.took >= time.Second || c.nodes == 1 && c.sync != store.SyncOff) {
					t.Errorf("%d writes counted as not safe", n)
				}
			})
		})
	}
}

func TestWithSyncBackupsEveryAnsweredWriteSurvives(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.sync = store.SyncOn
		nodes := f.backedUp(1, "a", "b", "c")
		for i := range 30 {
			for j := range 3 {
				f.wantAnswer("put", nodes[i%3].put(keyOf(i), fmt.Sprint(i, "/", j), 0), store.OK, "")
			}
		}
		nodes[0].kill() // at once
		time.Sleep(11 * time.Second)
		for i := range 30 {
			f.wantAnswer("get", nodes[1+i%2].get(keyOf(i)), store.OK, fmt.Sprint(i, "/2"))
		}
	})
}

func TestWhoIsToldToInitialiseASessionIsToldWhenItsBackupsKnow(t *testing.T) {
	for what, c := range whenSafe {
		for _, op := range []store.Op{store.Get, store.Acquire} {
			t.Run(fmt.Sprint(what, ", ", op), func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					f.sync = c.sync
					nodes := f.backedUp(1, []string{"a", "b"}[:c.nodes]...)
					a := nodes[0]
					a.insert("k", "empty")
					if c.nodes > 1 {
						f.safe()
					}
					before := a.store.Stats().Unsynced
					if c.hung {
						f.net.losing(func(string, string) bool { return true })
					}
					var got store.Answer
					read := func() { got = a.do(store.Request{Op: op, Key: []byte("k"), Cookie: store.NoCookie}) }
					wantTime(t, "the first read", took(read), c.took)
					if (got.Status == store.Unknown) != c.refused || got.Init == c.refused {
						t.Errorf("it is answered %d, initialise %v", got.Status, got.Init)
					}
					if n := a.store.Stats().Unsynced - before; (n > 0) != (c.hung || c.nodes == 1 && c.sync != store.SyncOff) {
						t.Errorf("%d requests counted as not safe", n)
					}
					if c.refused {
						return
					}
					if op == store.Acquire {
						wantTime(t, "release", took(func() { a.release("k", got.Cookie) }), 0)
					}
					wantTime(t, "the next read", took(read), 0)
					f.wantAnswer("read", got, store.OK, "empty")
					if got.Init {
						t.Error("a second one is told to initialise it")
					}
				})
			})
		}
	}
}

func TestWithSyncBackupsOnlyOneIsToldToInitialiseASessionAlsoAfterACrash(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.sync = store.SyncOn
		nodes := f.backedUp(1, "a", "b", "c")
		for i := range 30 {
			nodes[0].insert(keyOf(i), "empty")
			if a := nodes[0].acquire(keyOf(i)); a.Status != store.OK || !a.Init {
				t.Fatalf("the first acquire: %d, initialise %v", a.Status, a.Init)
			}
		}
		nodes[0].kill() // at once
		time.Sleep(11 * time.Second)
		for i := range 30 {
			a := nodes[1+i%2].acquire(keyOf(i))
			f.wantAnswer("acquire", a, store.OK, "empty")
			if a.Init {
				t.Errorf("a second one is told to initialise session %d", i)
			}
		}
	})
}

// What could not be told is told to the next who asks.
func TestWithStrictBackupsAFirstReadThatWasNotSafeIsTakenBack(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.sync = store.SyncStrict
		nodes := f.backedUp(1, "a", "b")
		a, b := nodes[0], nodes[1]
		a.insert("k", "empty")
		f.safe()
		f.net.losing(func(string, string) bool { return true })
		f.wantAnswer("acquire", a.acquire("k"), store.Unknown, "")
		f.mend()
		f.safe()
		for _, n := range []*testNode{b, a} {
			got := n.acquire("k")
			f.wantAnswer("acquire", got, store.OK, "empty")
			if got.Init != (n == b) {
				t.Errorf("%s is told %v", n.name, got.Init)
			}
			n.release("k", got.Cookie)
		}
		if n := a.store.Stats().Conflicts + b.store.Stats().Conflicts; n > 0 {
			t.Errorf("%d sessions were dropped", n)
		}
	})
}

func TestTwoSidesThatWereCutOffSettleInBulkWhenTheyMeet(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b")
		a, b := nodes[0], nodes[1]
		const n = 1200
		for i := range n {
			a.put(keyOf(i), "before", 0)
		}
		f.safe()
		f.split(a)
		time.Sleep(15 * time.Second) // each is out for the other, and b has promoted its backups
		for i := range n {
			switch i % 4 {
			case 0: // nobody comes
			case 1:
				f.wantAnswer("put", a.put(keyOf(i), "a's", 0), store.OK, "")
			case 2:
				f.wantAnswer("put", b.put(keyOf(i), "b's", 0), store.OK, "")
			case 3:
				f.wantAnswer("put", a.put(keyOf(i), "a's", 0), store.OK, "")
				time.Sleep(time.Millisecond)
				f.wantAnswer("delete", b.delete(keyOf(i), 0), store.OK, "")
			}
		}
		packets := f.net.packets()
		f.mend()
		f.linked(a, b)
		time.Sleep(900 * time.Millisecond)
		if sent := f.net.packets() - packets; sent > n {
			t.Errorf("%d packets to settle %d sessions", sent, n)
		}
		for i := range n {
			holders := f.holders(keyOf(i))
			switch i % 4 {
			case 3:
				if len(holders) != 0 {
					t.Errorf("what was deleted is held by %v", holders)
				}
				f.wantAnswer("get of what was deleted", a.get(keyOf(i)), store.NotFound, "")
			default:
				if len(holders) != 1 {
					t.Errorf("session %d is held by %v", i%4, holders)
				}
				want := [...]string{"before", "a's", "b's"}[i%4]
				f.wantAnswer("get", a.get(keyOf(i)), store.OK, want)
				f.wantAnswer("get", b.get(keyOf(i)), store.OK, want)
			}
		}
		if got := a.store.Stats().Conflicts + b.store.Stats().Conflicts; got != n {
			t.Errorf("%d conflicts were counted, want %d", got, n)
		}
		if !strings.Contains(f.log.String(), "two nodes had a copy of one session") {
			t.Error("no conflict was logged")
		}
	})
}

func TestAMissIsAnsweredAtOnceWhileANodeIsOutThatHasBackups(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		time.Sleep(time.Minute) // nobody has just started
		nodes[2].kill()
		time.Sleep(time.Second)
		f.wantAnswer("get while it may come back", nodes[0].get(keyOf(1)), store.Unknown, "")
		time.Sleep(10 * time.Second)
		d := took(func() { f.wantAnswer("get when it is out", nodes[0].get(keyOf(1)), store.NotFound, "") })
		wantTime(t, "a miss", d, 2*f.delay)
		nodes[1].kill()
		time.Sleep(11 * time.Second)
		f.wantAnswer("get when two are out", nodes[0].get(keyOf(2)), store.Unknown, "")
	})
}

func TestBackupsStandWhereTheyShould(t *testing.T) {
	for placement, want := range map[Placement]int{OtherSite: 40, SameSite: 0} {
		t.Run(string(placement), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				f.config = func(c *Config) {
					c.Placement, c.Site = placement, "london"
					if c.Certs.Self().Node == "c" {
						c.Site = "tokyo"
					}
				}
				nodes := f.backedUp(1, "a", "b", "c")
				for i := range 40 {
					nodes[i%2].put(keyOf(i), "cart", 0)
				}
				f.safe()
				if got := nodes[2].store.Stats().Backups; got != want {
					t.Errorf("%d backups on the other site, want %d", got, want)
				}
				for i := range 40 { // and they stay there when sessions move
					nodes[1-i%2].get(keyOf(i))
				}
				time.Sleep(time.Second)
				f.safe()
				if got := nodes[2].store.Stats().Backups; got != want || f.kept() != 40 {
					t.Errorf("%d backups on the other site, %d in all after moves, want %d and 40", got, f.kept(), want)
				}
			})
		})
	}
}

// The holder is gone, and the keeper of the backup stops just then: it promotes nothing any more.
func TestANodeThatLeavesSaysOfASessionThatItOnlyKeepsThatItIsNotKnown(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.backups = 1
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		f.wantAnswer("put on a", a.put(keyOf(1), "cart", 0), store.OK, "")
		time.Sleep(time.Second)
		b.store.Leave()
		a.kill()
		time.Sleep(30 * time.Second)
		f.wantAnswer("get on b", b.get(keyOf(1)), store.Unknown, "")
	})
}
