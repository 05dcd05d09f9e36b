package transport

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"peerstate/store"
)

// inJournalledFarm runs f with nodes of these names, each with a journal, all linked.
func inJournalledFarm(t *testing.T, backups int, names []string, f func(t *testing.T, f *farm, nodes []*testNode)) {
	t.Helper()
	inFarm(t, func(t *testing.T, fm *farm) {
		fm.journals = 100 * time.Millisecond
		f(t, fm, fm.backedUp(backups, names...))
	})
}

// again starts a node that was linked with the others.
func (f *farm) again(name string, others ...*testNode) *testNode {
	f.t.Helper()
	var names []string
	for _, o := range others {
		names = append(names, o.name)
	}
	n := f.startOn(name, names...)
	f.linked(append(others, n)...)
	return n
}

// wantHeldBy waits until one node holds the session, and wants it to be that one ("": any).
func (f *farm) wantHeldBy(key, want string) {
	f.t.Helper()
	var names []string
	for range 400 {
		if names = f.holders(key); len(names) == 1 && (want == "" || names[0] == want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.t.Fatalf("held by %v, want %q\n%s", names, want, f.log)
}

// wantSoon wants an answer to a get, and none before it but that it is not known yet.
func (f *farm) wantSoon(what string, n *testNode, key string, status store.Status, body string) {
	f.t.Helper()
	got := n.get(key)
	for range 10 {
		if got.Status != store.Unknown {
			break
		}
		time.Sleep(100 * time.Millisecond)
		got = n.get(key)
	}
	f.wantAnswer(what, got, status, body)
}

func TestANodeThatIsKilledAndBackAtOnceHasItsSessionsFromItsJournal(t *testing.T) {
	for _, backups := range []int{0, 1} {
		t.Run(fmt.Sprint(backups, " backups"), func(t *testing.T) {
			inJournalledFarm(t, backups, []string{"a", "b", "c"}, func(t *testing.T, f *farm, nodes []*testNode) {
				a, b, c := nodes[0], nodes[1], nodes[2]
				for i := range 30 {
					a.put(keyOf(i), fmt.Sprint("cart ", i), 0)
				}
				lock := a.acquire(keyOf(7))
				a.delete(keyOf(8), 0)
				f.safe()
				time.Sleep(time.Second)
				a.kill()
				time.Sleep(500 * time.Millisecond)
				a = f.again("a", b, c)
				for i := range 30 {
					if i == 7 || i == 8 {
						continue
					}
					f.wantHeldBy(keyOf(i), "a") // and not a keeper of its backup
					f.wantSoon("get", []*testNode{a, b, c}[i%3], keyOf(i), store.OK, fmt.Sprint("cart ", i))
				}
				f.wantSoon("get of what was deleted", b, keyOf(8), store.NotFound, "")
				got := b.get(keyOf(7))
				if got.Status != store.Locked || got.Cookie != lock.Cookie || got.LockAge < time.Second {
					t.Errorf("the lock is %+v, was of cookie %d", got, lock.Cookie)
				}
				f.wantAnswer("put with the lock", a.put(keyOf(7), "new page", lock.Cookie), store.OK, "")
				if next := c.acquire(keyOf(7)); next.Cookie <= lock.Cookie+1<<16 {
					t.Errorf("cookie %d after %d", next.Cookie, lock.Cookie)
				}
				select {
				case <-a.mesh.Compared():
				default:
					t.Error("it does not say that all was compared")
				}
				f.safe()
				time.Sleep(time.Second)
				if want := 29 * backups; f.kept() < want || a.store.Stats().Recalled != 0 {
					t.Errorf("%d backups, want %d", f.kept(), want)
				}
				if backups > 0 {
					a.kill()
					time.Sleep(13 * time.Second) // the idle time-out, which begins with the last ping, and the grace time
					for i := range 30 {
						if i != 7 && i != 8 {
							f.wantSoon("get after another death", b, keyOf(i), store.OK, fmt.Sprint("cart ", i))
						}
					}
				}
			})
		})
	}
}

// A node is away for longer than the grace time. Its sessions were served from their backups, written, deleted and moved.
func TestANodeThatComesBackWithOldContentsHarmsNothing(t *testing.T) {
	inJournalledFarm(t, 1, []string{"a", "b", "c"}, func(t *testing.T, f *farm, nodes []*testNode) {
		a, b, c := nodes[0], nodes[1], nodes[2]
		for i := range 30 {
			a.put(keyOf(i), "old", 0)
		}
		f.safe()
		time.Sleep(time.Second)
		a.kill()
		time.Sleep(13 * time.Second)
		for i := range 20 {
			got := b.acquire(keyOf(i))
			f.wantAnswer("acquire", got, store.OK, "old")
			if i%2 == 0 {
				f.wantAnswer("put", b.put(keyOf(i), "new", got.Cookie), store.OK, "")
			} else {
				f.wantAnswer("delete", b.delete(keyOf(i), got.Cookie), store.OK, "")
			}
		}
		f.safe()
		time.Sleep(2 * time.Minute) // notes of moves are gone
		a = f.again("a", b, c)
		for i := range 30 {
			for _, n := range []*testNode{a, b, c} {
				switch {
				case i >= 20:
					f.wantSoon("get of what nobody changed", n, keyOf(i), store.OK, "old")
				case i%2 == 0:
					f.wantSoon("get of what was written", n, keyOf(i), store.OK, "new")
				default:
					f.wantSoon("get of what was deleted", n, keyOf(i), store.NotFound, "")
				}
			}
			if i >= 20 || i%2 == 0 {
				f.wantHeldBy(keyOf(i), "")
			}
		}
		if n := a.store.Stats(); n.Recalled != 0 || n.Conflicts != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// The node that took a session over from its backup, and wrote to it, is off when the first one comes back.
func TestWhatIsLoadedWaitsForAPlaceThatMayHaveANewerOneUntilThatIsLost(t *testing.T) {
	for _, back := range []bool{true, false} {
		t.Run(fmt.Sprint("it comes back: ", back), func(t *testing.T) {
			inJournalledFarm(t, 1, []string{"a", "b"}, func(t *testing.T, f *farm, nodes []*testNode) {
				a, b := nodes[0], nodes[1]
				a.put(keyOf(1), "old", 0)
				f.safe()
				time.Sleep(time.Second)
				a.kill()
				time.Sleep(13 * time.Second)
				f.wantSoon("get", b, keyOf(1), store.OK, "old")
				f.wantAnswer("put", b.put(keyOf(1), "new", 0), store.OK, "")
				time.Sleep(time.Second)
				b.kill()
				a = f.startOn("a", "b")
				for range 30 {
					f.wantAnswer("get while b is out", a.get(keyOf(1)), store.Unknown, "")
					time.Sleep(time.Second)
				}
				if back {
					b = f.again("b", a)
					for _, n := range []*testNode{a, b} {
						f.wantSoon("get when b is back", n, keyOf(1), store.OK, "new")
					}
					return
				}
				time.Sleep(40 * time.Second)
				f.wantSoon("get when b is lost", a, keyOf(1), store.OK, "old")
			})
		})
	}
}

func TestASessionThatWasOnItsWayWhenItsNodeDiedIsServedByOne(t *testing.T) {
	inJournalledFarm(t, 0, []string{"a", "b", "c"}, func(t *testing.T, f *farm, nodes []*testNode) {
		a, b, c := nodes[0], nodes[1], nodes[2]
		a.put(keyOf(1), "old", 0)
		a.put(keyOf(2), "old", 0)
		time.Sleep(time.Second)
		restore := a.saveDisk() // before b gets one of them
		f.wantSoon("get", b, keyOf(1), store.OK, "old")
		f.wantAnswer("put", b.put(keyOf(1), "new", 0), store.OK, "")
		time.Sleep(time.Second)
		a.kill()
		restore()
		time.Sleep(time.Second)
		a = f.again("a", b, c)
		for _, n := range []*testNode{a, b, c} {
			f.wantSoon("get", n, keyOf(1), store.OK, "new")
			f.wantSoon("get", n, keyOf(2), store.OK, "old")
		}
		f.wantHeldBy(keyOf(1), "")
	})
}

func TestAFarmWhosePowerFailedHasAllItsSessionsAgain(t *testing.T) {
	for _, backups := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(backups, " backups"), func(t *testing.T) {
			inJournalledFarm(t, backups, []string{"a", "b", "c"}, func(t *testing.T, f *farm, nodes []*testNode) {
				for i := range 60 {
					nodes[i%3].put(keyOf(i), fmt.Sprint("cart ", i), 0)
				}
				for i := range 20 { // some have moved
					f.wantSoon("get", nodes[(i+1)%3], keyOf(i), store.OK, fmt.Sprint("cart ", i))
				}
				nodes[0].delete(keyOf(30), 0)
				f.safe()
				time.Sleep(time.Second)
				for _, n := range nodes {
					n.kill()
				}
				time.Sleep(5 * time.Minute)
				for i, n := range nodes {
					var others []string
					for _, o := range nodes {
						if o != n {
							others = append(others, o.name)
						}
					}
					nodes[i] = f.startOn(n.name, others...)
				}
				f.linked(nodes...)
				for i := range 60 {
					for _, n := range nodes {
						if i == 30 {
							f.wantSoon("get of what was deleted", n, keyOf(i), store.NotFound, "")
							continue
						}
						f.wantSoon("get", n, keyOf(i), store.OK, fmt.Sprint("cart ", i))
					}
					if i != 30 {
						f.wantHeldBy(keyOf(i), "")
					}
				}
				for _, n := range nodes {
					if s := n.store.Stats(); s.Recalled != 0 || s.Conflicts != 0 {
						t.Errorf("%s: %+v", n.name, s)
					}
				}
				f.safe()
			})
		})
	}
}

// A miss is answered again when a node is out, since a backup of what it held would be reachable: also on a node that has
// just started, if it has its backups from its journal.
func TestANodeThatStartsWithItsJournalNeedNotWaitForOneThatIsOut(t *testing.T) {
	for _, disk := range []bool{true, false} {
		t.Run(fmt.Sprint("with its disk: ", disk), func(t *testing.T) {
			inJournalledFarm(t, 1, []string{"a", "b", "c"}, func(t *testing.T, f *farm, nodes []*testNode) {
				a, b, c := nodes[0], nodes[1], nodes[2]
				for i := range 20 {
					c.put(keyOf(i), "cart", 0)
				}
				f.safe()
				time.Sleep(time.Second)
				c.kill()
				a.kill()
				if !disk {
					if err := os.RemoveAll(a.data()); err != nil {
						t.Fatal(err)
					}
				}
				a = f.again("a", b)
				time.Sleep(12 * time.Second)
				want := store.Unknown
				if disk {
					want = store.NotFound
				}
				f.wantAnswer("a miss", a.get("nowhere"), want, "")
				if disk {
					time.Sleep(time.Minute) // what is loaded is served when the holder is lost
					for i := range 20 {
						f.wantSoon("get", a, keyOf(i), store.OK, "cart")
					}
				}
			})
		})
	}
}

// A node whose disk was lost comes back empty, after all were off: another one has the backups in its journal.
func TestABackupInAJournalReplacesALostDisk(t *testing.T) {
	inJournalledFarm(t, 1, []string{"a", "b"}, func(t *testing.T, f *farm, nodes []*testNode) {
		a, b := nodes[0], nodes[1]
		a.put(keyOf(1), "cart", 0)
		f.safe()
		time.Sleep(time.Second)
		a.kill()
		b.kill()
		if err := os.RemoveAll(a.data()); err != nil {
			t.Fatal(err)
		}
		a = f.startOn("a", "b")
		f.again("b", a)
		f.wantHeldBy(keyOf(1), "b")
		f.wantSoon("get", a, keyOf(1), store.OK, "cart")
	})
}

// A backup that its node had kept when it was killed is of no use to anybody when that node is back: the holder does not
// know of it. It must not outlive the session.
func TestALoadedBackupDoesNotBringBackWhatItsHolderDeletes(t *testing.T) {
	inJournalledFarm(t, 1, []string{"a", "b", "c"}, func(t *testing.T, f *farm, nodes []*testNode) {
		a, b, c := nodes[0], nodes[1], nodes[2]
		for i := range 20 {
			a.put(keyOf(i), "cart", 0)
		}
		f.safe()
		time.Sleep(time.Second)
		b.kill()
		a.delete(keyOf(0), 0)
		a.put(keyOf(1), "new", 0)
		time.Sleep(500 * time.Millisecond)
		b = f.again("b", a, c)
		f.safe()
		for i := 2; i < 20; i++ {
			a.delete(keyOf(i), 0)
		}
		time.Sleep(time.Second)
		if err := a.mesh.GoodBye(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.stop()
		time.Sleep(time.Minute)
		for _, n := range []*testNode{b, c} {
			f.wantSoon("get", n, keyOf(1), store.OK, "new")
			for i := range 20 {
				if i != 1 {
					f.wantSoon("get of what was deleted", n, keyOf(i), store.NotFound, "")
				}
			}
		}
	})
}

// A node stops without handing anything over, as for the restart of its machine.
func TestANodeThatKeepsItsSessionsAtAStopIsWaitedFor(t *testing.T) {
	inJournalledFarm(t, 0, []string{"a", "b"}, func(t *testing.T, f *farm, nodes []*testNode) {
		a, b := nodes[0], nodes[1]
		a.put(keyOf(1), "cart", 0)
		a.stop()
		time.Sleep(2 * time.Second)
		f.wantAnswer("get while it is off", b.get(keyOf(1)), store.Unknown, "")
		f.again("a", b)
		f.wantSoon("get when it is back", b, keyOf(1), store.OK, "cart")
	})
}

// With journals that are forced before each answer and no backups, what was answered survives whatever kill.
func TestWithForcedJournalsNoKillLosesWhatWasAnswered(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.journals = -1
		nodes := f.backedUp(0, "a", "b", "c")
		for round := range 6 {
			writer, reader := nodes[round%3], nodes[(round+1)%3]
			for i := range 10 {
				f.wantAnswer("put", writer.put(keyOf(i), fmt.Sprint("round ", round), writer.acquire(keyOf(i)).Cookie), store.OK, "")
			}
			for i := range 5 { // a session that has just moved is on the other one's disk
				f.wantSoon("get", reader, keyOf(i), store.OK, fmt.Sprint("round ", round))
			}
			for i, n := range nodes {
				if n != writer && n != reader {
					continue
				}
				n.kill()
				var others []*testNode
				for _, o := range nodes {
					if o != n {
						others = append(others, o)
					}
				}
				nodes[i] = f.again(n.name, others...)
			}
			for i := range 10 {
				f.wantSoon("get", nodes[2], keyOf(i), store.OK, fmt.Sprint("round ", round))
				f.wantHeldBy(keyOf(i), "")
			}
		}
		for _, n := range nodes {
			if s := n.store.Stats(); s.Conflicts != 0 || s.Unforced != 0 {
				t.Errorf("%s: %+v", n.name, s)
			}
		}
	})
}

// While a node was off, others have come to hold its sessions, and keep backups of them for each other. When it is back,
// nobody waits for anything but the answers.
func TestANodeThatComesBackLateIsReadyWhenItHasAsked(t *testing.T) {
	inJournalledFarm(t, 1, []string{"a", "b", "c"}, func(t *testing.T, f *farm, nodes []*testNode) {
		a, b, c := nodes[0], nodes[1], nodes[2]
		for i := range 30 {
			c.put(keyOf(i), "cart", 0)
		}
		f.safe()
		time.Sleep(time.Second)
		c.kill()
		time.Sleep(15 * time.Second)
		f.safe()
		c = f.again("c", a, b)
		time.Sleep(12 * f.delay) // to compare with each, and to ask both
		if n := c.store.Stats().Recalled; n != 0 {
			t.Errorf("%d sessions wait yet", n)
		}
		select {
		case <-c.mesh.Compared():
		default:
			t.Error("it is not ready")
		}
		for i := range 30 {
			f.wantAnswer("get", c.get(keyOf(i)), store.OK, "cart")
		}
	})
}

// While a node was off, another one has stored sessions of which it could make no backup. What became of those nobody
// knows when that one is out, whatever the first one has from its journal.
func TestANodeThatWasOffForLongDoesNotTakeForMissingWhatWasStoredMeanwhile(t *testing.T) {
	for _, how := range []string{"killed", "stopped"} {
		t.Run(how, func(t *testing.T) {
			inJournalledFarm(t, 1, []string{"a", "b"}, func(t *testing.T, f *farm, nodes []*testNode) {
				a, b := nodes[0], nodes[1]
				a.put(keyOf(1), "cart", 0)
				f.safe()
				time.Sleep(time.Second)
				if how == "killed" {
					a.kill()
				} else {
					a.stop()
				}
				time.Sleep(time.Minute)
				f.wantAnswer("a session meanwhile", b.put(keyOf(2), "cart", 0), store.OK, "")
				time.Sleep(time.Second)
				b.kill()
				a = f.startOn("a", "b")
				for range 10 {
					time.Sleep(5 * time.Second)
					f.wantAnswer("get of it", a.get(keyOf(2)), store.Unknown, "")
				}
				f.again("b", a)
				for i := range 2 {
					f.wantSoon("get", a, keyOf(1+i), store.OK, "cart")
				}
			})
		})
	}
}

// Where nobody keeps backups, the giver's copy is the only one until the receiver's is on disk: a receipt says that it is, also in the
// middle of a drain, when the next sessions are already on their way.
func TestWhatADrainHasHandedOverIsOnDisk(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.journals = time.Hour
		nodes := f.backedUp(0, "a", "b")
		a, b := nodes[0], nodes[1]
		const many = 3000
		f.wantAnswer("put", b.put("first", "written at once", 0), store.OK, "")
		time.Sleep(time.Second) // what follows is to be written in an hour
		for i := range many {
			f.wantAnswer("put", a.put(keyOf(i), fmt.Sprint("cart ", i), 0), store.OK, "")
		}
		ctx, enough := context.WithCancel(t.Context())
		defer enough()
		ended := make(chan error)
		go func() { ended <- a.mesh.Drain(ctx, func(DrainProgress) {}) }()
		left := many
		for ; left == many; left = a.store.Stats().Active {
			time.Sleep(time.Millisecond)
		}
		b.kill() // in the midst of it
		enough()
		if err := <-ended; err == nil {
			t.Error("all have been handed over")
		}
		b = f.startOn("b", "a")
		j, _ := b.store.Journal()
		if j.Loaded.Records+left < many+1 {
			t.Errorf("of %d sessions %d are left, and %d on disk", many+1, left, j.Loaded.Records)
		}
	})
}

// A node that is out has the newer record by the word of one that is up, and may come back with it: an older copy is not served
// meanwhile, or what is written on it would displace the newer one.
func TestAnOlderCopyIsNotServedWhileTheNodeWithTheNewerOneMayComeBack(t *testing.T) {
	inJournalledFarm(t, 1, []string{"a", "b", "c", "d"}, func(t *testing.T, f *farm, nodes []*testNode) {
		a, b, c, d := nodes[0], nodes[1], nodes[2], nodes[3]
		key := keyOf(1)
		a.put(key, "old", 0)
		f.safe()
		stamp := a.store.Settle(key, store.Version{}, "").Version.Stamp
		f.wantAnswer("get", c.get(key), store.OK, "old")
		f.wantAnswer("put", c.put(key, "new", 0), store.OK, "")
		f.wantAnswer("get", d.get(key), store.OK, "new")
		f.safe()
		time.Sleep(time.Second)
		// There was no memory for copies of what went, and one of what was comes late.
		for _, n := range []*testNode{a, b, c} {
			if kept, ok := n.store.BackupOf(key); ok {
				n.store.DropBackup(kept)
			}
		}
		late := store.Record{Key: key, Stamp: stamp, Timeout: 20, Left: 20 * time.Minute, Cookie: 1, Body: []byte("old")}
		if kept := b.store.Keep(store.Peer{Node: "a", Instance: a.mesh.config.Instance}, store.ParcelCopy, late); kept != store.KeepDone {
			t.Fatalf("the late copy is answered by %d", kept)
		}
		a.kill()
		d.kill()
		for range 8 {
			time.Sleep(5 * time.Second)
			for _, n := range []*testNode{b, c} {
				f.wantAnswer("get at "+n.name+" while d is out", n.get(key), store.Unknown, "")
			}
		}
		d = f.again("d", b, c)
		time.Sleep(30 * time.Second) // then a is lost, which had it before
		for _, n := range []*testNode{b, c, d} {
			f.wantSoon("get at "+n.name, n, key, store.OK, "new")
		}
	})
}
