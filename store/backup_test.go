package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// keeping is a number of stores that keep backups of each other's sessions. What they send each other arrives
// when a test says so.
type keeping struct {
	*network
	backups int
}

// inKeeping runs f with stores of these names, each session with a number of backups.
func inKeeping(t *testing.T, backups int, names []string, f func(t *testing.T, k *keeping)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(backups, names)
		defer k.end(t)
		f(t, k)
	})
}

func newKeeping(backups int, names []string) *keeping {
	k := &keeping{network: &network{cut: map[[2]string]bool{}}, backups: backups}
	for i, name := range names {
		n := &node{net: k.network, name: name, instance: uint64(i + 1)}
		k.run(n)
		k.nodes = append(k.nodes, n)
	}
	k.meet()
	return k
}

func (k *keeping) end(t interface{ Errorf(string, ...any) }) {
	k.wg.Wait()
	for _, n := range k.nodes {
		n.Close()
		if err := checkIdle(n.Store); err != nil {
			t.Errorf("%s: %v", n.name, err)
		}
	}
}

// run gives a node a new, empty store.
func (k *keeping) run(n *node) {
	n.Store = New(Options{Node: n.name, Instance: n.instance, FetchTimeout: fetchTimeout, Backups: k.backups})
	n.Join(n)
}

// crash ends a run of a node, and with it all that it had; the next one begins.
func (k *keeping) crash(n *node) {
	n.Close()
	n.instance += 100
	k.run(n)
	k.meet()
}

// meet tells all nodes who can keep backups.
func (k *keeping) meet() {
	for _, n := range k.nodes {
		var all []Keeper
		for _, o := range k.nodes {
			if o != n {
				all = append(all, Keeper{Peer: Peer{o.name, o.instance}, Preferred: true, Linked: k.linked(n.name, o.name)})
			}
		}
		n.SetKeepers(all)
	}
}

// deliver brings what waits in the outboxes; fate says what becomes of each parcel.
func (k *keeping) deliver(fate func(p *Parcel) KeepKind) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for again := true; again; {
		again = false
		for _, from := range k.nodes {
			for _, to := range k.nodes {
				o := from.Outbox(Peer{to.name, to.instance})
				if o == nil {
					continue
				}
				all, err := o.Take(ctx, 10)
				if err != nil {
					continue
				}
				for _, p := range all {
					again = true
					switch fate(p) {
					case KeepBusy:
						p.Failed()
						again = false
					case KeepRefused:
						p.Refused()
					default:
						k.bring(from, to, p)
					}
				}
			}
		}
	}
}

func (k *keeping) bring(from, to *node, p *Parcel) {
	switch to.Keep(Peer{from.name, from.instance}, p.Kind, p.Record) {
	case KeepDone:
		p.Kept()
	case KeepLacking:
		p.Lacking()
	case KeepBusy:
		p.Failed()
	default:
		p.Refused()
	}
}

func all(*Parcel) KeepKind { return KeepDone }

// rest lets everything happen that happens by itself.
func (k *keeping) rest() {
	for range 4 {
		k.deliver(all)
		time.Sleep(10 * time.Second) // what was refused is tried again
		synctest.Wait()
	}
	k.deliver(all)
}

// copiesOf gives the backups of a key, by node.
func (k *keeping) copiesOf(key string) map[string]Backup {
	found := map[string]Backup{}
	for _, n := range k.nodes {
		if b, ok := n.BackupOf(key); ok {
			found[n.name] = b
		}
	}
	return found
}

// mustBeSafe fails unless each session has its backups, of its last record. Other copies may be left where
// nobody could be told to forget them.
func (k *keeping) mustBeSafe(t interface {
	Helper()
	Fatalf(string, ...any)
}) {
	t.Helper()
	for _, n := range k.nodes {
		st := n.Stats()
		if st.Unsafe != 0 {
			t.Fatalf("%s has %d sessions that are not safe", n.name, st.Unsafe)
		}
		n.Holdings(1<<62, func(some []Holding) bool {
			for _, h := range some {
				if h.Version.Tombstone {
					continue
				}
				good := 0
				copies := k.copiesOf(h.Key)
				for _, b := range copies {
					if b.Version.Stamp == h.Version.Stamp && b.Holder == (Peer{n.name, n.instance}) {
						good++
					} else if b.Version.Compare(h.Version) > 0 {
						t.Fatalf("there is a backup of %s that is newer than the session: %v, %v", h.Key, copies, h.Version)
					}
				}
				if good < k.backups {
					t.Fatalf("%s on %s has %d good backups, want %d: %v, %v", h.Key, n.name, good, k.backups, copies, h.Version)
				}
			}
			return true
		})
	}
}

func (n *node) write(key, body string) Answer { return n.put(key, body, 0) }

// Whatever is written, moved, deleted, cut and sent again: when all is quiet each session has as many
// backups as it should, of its last record, and when all have expired none is left.
func TestInTheEndEachSessionHasItsBackups(t *testing.T) {
	for seed := range uint64(60) {
		inKeeping(t, 1+int(seed%2), []string{"a", "b", "c", "d"}, func(t *testing.T, k *keeping) {
			draw := rand.New(rand.NewPCG(seed, 0))
			for _, n := range k.nodes { // so that each write asks first, and there is one session of a key
				n.heard.fullTill = 1 << 62
			}
			for range 60 {
				n, key := k.nodes[draw.IntN(4)], fmt.Sprint("k", draw.IntN(3))
				switch draw.IntN(8) {
				case 0, 1:
					n.write(key, fmt.Sprint(time.Now().UnixNano()))
				case 2:
					n.get(key)
				case 3:
					n.delete(key, 0)
				case 4, 5:
					k.deliver(func(*Parcel) KeepKind {
						return [...]KeepKind{KeepDone, KeepDone, KeepDone, KeepBusy, KeepRefused}[draw.IntN(5)]
					})
				case 6: // only for backups: what the stores say of sessions is not what this test is about
					var all []Keeper
					for _, o := range k.nodes {
						if o != n {
							all = append(all, Keeper{Peer: Peer{o.name, o.instance}, Preferred: true, Linked: draw.IntN(2) == 0})
						}
					}
					n.SetKeepers(all)
				case 7:
					k.meet()
				}
				synctest.Wait() // receipts have been read
				for _, n := range k.nodes {
					if err := check(n.Store); err != nil {
						t.Fatalf("seed %d: %s: %v", seed, n.name, err)
					}
				}
			}
			k.meet()
			k.rest()
			k.mustBeSafe(t)
			time.Sleep(25 * time.Minute)
			for _, n := range k.nodes {
				if st := n.Stats(); st.Active != 0 || st.Backups != 0 {
					t.Errorf("%s has %d sessions and %d backups after their time", n.name, st.Active, st.Backups)
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

func TestASessionWhoseOnlyBackupIsGoneIsNotSafe(t *testing.T) {
	inKeeping(t, 1, []string{"a", "b"}, func(t *testing.T, k *keeping) {
		a, b := k.nodes[0], k.nodes[1]
		a.write("k", "x")
		k.rest()
		k.mustBeSafe(t)
		a.SetKeepers(nil)
		synctest.Wait()
		if n := a.Stats().Unsafe; n != 1 {
			t.Errorf("%d sessions are not safe while nobody has a backup, want 1", n)
		}
		k.crash(b)
		k.rest()
		k.mustBeSafe(t)
	})
}

func TestOnlyTheNewestOfManyWritesIsSent(t *testing.T) {
	inKeeping(t, 1, []string{"a", "b"}, func(t *testing.T, k *keeping) {
		for i := range 100 {
			k.nodes[0].write("k", fmt.Sprint(i))
		}
		var bodies []string
		k.deliver(func(p *Parcel) KeepKind {
			bodies = append(bodies, string(p.Record.Body))
			return KeepDone
		})
		if !slices.Equal(bodies, []string{"99"}) {
			t.Errorf("%q were sent", bodies)
		}
		k.mustBeSafe(t)
	})
}

func TestARenewalCarriesNoBody(t *testing.T) {
	inKeeping(t, 1, []string{"a", "b"}, func(t *testing.T, k *keeping) {
		k.nodes[0].write("k", "cart")
		k.deliver(all)
		sent := 0
		for range 40 {
			time.Sleep(time.Minute)
			k.nodes[0].get("k")
			time.Sleep(SweepRound)
			k.deliver(func(p *Parcel) KeepKind {
				sent++
				if p.Kind != ParcelRenew || p.Record.Body != nil {
					t.Errorf("a parcel of kind %d with %d bytes", p.Kind, len(p.Record.Body))
				}
				return KeepDone
			})
		}
		if sent < 10 || sent > 30 { // within a tenth of 20 minutes
			t.Errorf("%d renewals in 50 minutes", sent)
		}
		if len(k.copiesOf("k")) != 1 {
			t.Error("the backup has expired, and the session has not")
		}
	})
}

// A giver that has not heard of the receipt yet keeps what the receiver writes, and does not serve its own
// older copy when the receiver is gone.
func TestAGiverInDoubtDoesNotServeACopyOfWhichItHasANewerBackup(t *testing.T) {
	inKeeping(t, 1, []string{"a", "b"}, func(t *testing.T, k *keeping) {
		a, b := k.nodes[0], k.nodes[1]
		a.write("k", "old")
		k.on(func(m message) bool { return m.kind != aReceipt })
		if got := b.get("k"); got.Status != OK {
			t.Fatalf("status %d", got.Status)
		}
		b.write("k", "new")
		k.deliver(all)
		if err := check(a.Store); err != nil {
			t.Error(err)
		}
		k.on(nil)
		k.crash(b)
		a.resolve()
		if got := a.get("k"); string(got.Body) == "old" {
			t.Error("the older copy is served")
		}
		backup, ok := a.BackupOf("k")
		if !ok || !a.PromoteBackup(backup) {
			t.Fatalf("the backup is %+v, %v", backup, ok)
		}
		if got := a.get("k"); got.Status != OK || string(got.Body) != "new" {
			t.Errorf("status %d, body %q", got.Status, got.Body)
		}
		k.rest()
		k.mustBeSafe(t)
	})
}

func TestOfTwoRecordsOfOneKeyTheNewerIsKept(t *testing.T) {
	inKeeping(t, 1, []string{"a"}, func(t *testing.T, k *keeping) {
		a := k.nodes[0]
		keep := func(from string, kind ParcelKind, stamp Stamp, epoch uint64) KeepKind {
			return a.Keep(Peer{from, 7}, kind, Record{Key: "k", Stamp: stamp, Epoch: epoch, Timeout: 20, Left: time.Minute, Cookie: 1, Body: []byte("x")})
		}
		for i, c := range []struct {
			from  string
			kind  ParcelKind
			stamp Stamp
			epoch uint64
			want  KeepKind
		}{
			{"b", ParcelRenew, 5, 1, KeepLacking},
			{"b", ParcelCopy, 5, 1, KeepDone},
			{"c", ParcelCopy, 4, 9, KeepNewer},
			{"c", ParcelCopy, 5, 0, KeepNewer},
			{"c", ParcelRenew, 5, 2, KeepDone},
			{"b", ParcelRenew, 5, 1, KeepNewer}, // late: it has given the session to c
			{"b", ParcelForget, 5, 2, KeepDone}, // of what is another's now
			{"c", ParcelForget, 4, 9, KeepDone}, // of an older one
			{"c", ParcelRenew, 5, 3, KeepDone},  // it is still there
			{"b", ParcelRenew, 4, 9, KeepNewer},
			{"c", ParcelBury, 4, 0, KeepNewer},
			{"c", ParcelBury, 6, 0, KeepDone},
			{"c", ParcelCopy, 5, 9, KeepNewer}, // it was deleted later
			{"c", ParcelCopy, 7, 0, KeepDone},
			{"c", ParcelForget, 7, 0, KeepDone},
			{"c", ParcelRenew, 7, 1, KeepLacking},
		} {
			if got := keep(c.from, c.kind, c.stamp, c.epoch); got != c.want {
				t.Errorf("%d: %d, want %d", i, got, c.want)
			}
		}
		a.Leave()
		if got := keep("c", ParcelCopy, 8, 0); got != KeepRefused {
			t.Errorf("a node that leaves says %d", got)
		}
	})
}

// What came to its end elsewhere may be told late, when the key has begun anew. An empty session stands behind all that was written before, and
// is newer all the same.
func TestWhatIsForgottenIsNoNewerThanWasSaid(t *testing.T) {
	inKeeping(t, 1, []string{"a"}, func(t *testing.T, k *keeping) {
		a, b := k.nodes[0], Peer{"b", 7}
		rec := Record{Key: "k", Stamp: 9, Timeout: 20, Left: time.Minute, Cookie: 1, Flags: FlagUninitialized}
		a.Keep(b, ParcelCopy, rec)
		for stamp, kept := range map[Stamp]bool{8: true, 9: false} {
			a.Keep(b, ParcelCopy, rec)
			a.Keep(b, ParcelForget, Record{Key: "k", Stamp: stamp})
			if _, ok := a.BackupOf("k"); ok != kept {
				t.Errorf("of stamp 9, when %d is to be forgotten, there is one: %v", stamp, ok)
			}
		}
	})
}

// A process that stood still serves nothing before it has been compared with the others.
func TestAfterAPauseNothingIsServedUntilAllIsCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{cut: map[[2]string]bool{}}
		n := &node{net: net, name: "a", instance: 1}
		n.Store = New(Options{Node: "a", Instance: 1, FetchTimeout: fetchTimeout, Backups: 1, Grace: 5 * time.Second})
		n.Join(n)
		net.nodes = append(net.nodes, n)
		defer n.Close()
		n.write("k", "cart")
		time.Sleep(time.Minute)
		if got := n.get("k"); got.Status != OK {
			t.Fatalf("a node that is only idle answers %d", got.Status)
		}
		n.beat.Add(-int64(9 * time.Second)) // as if the clock had gone on without the process
		if got := n.get("k"); got.Status != Unknown {
			t.Errorf("get: %d", got.Status)
		}
		if got := n.Asked(context.Background(), Peer{"b", 2}, Question{Key: "k", Want: Move}); got.Kind != ReplyNotKnown {
			t.Errorf("another node is told %d", got.Kind)
		}
		time.AfterFunc(time.Second, n.Compared)
		begun := time.Now()
		if got := n.write("k", "more"); got.Status != OK || time.Since(begun) < time.Second {
			t.Errorf("put: %d after %v", got.Status, time.Since(begun))
		}
		if got := n.get("k"); string(got.Body) != "more" {
			t.Errorf("get: %d %q", got.Status, got.Body)
		}
	})
}

// A write is not safe while the session is on its way: nobody else has it for certain.
func TestAWriteOnASessionThatIsJustMovingWaitsUntilItHasArrived(t *testing.T) {
	inKeeping(t, 1, []string{"a", "b", "c"}, func(t *testing.T, k *keeping) {
		a, b := k.nodes[0], k.nodes[1]
		a.sync = SyncStrict
		k.on(func(m message) bool {
			if m.kind == aRecord {
				time.Sleep(300 * time.Millisecond)
			}
			return true
		})
		begun, stored := time.Now(), make(chan Answer)
		go func() { stored <- a.write("k", "cart") }()
		time.Sleep(10 * time.Millisecond)
		go b.get("k")
		if got := <-stored; got.Status != OK || time.Since(begun) < 300*time.Millisecond {
			t.Errorf("answered %d after %v", got.Status, time.Since(begun))
		}
	})
}

// Where there is no memory for the copy that the giver keeps, the new holder has the only one for a moment.
func TestAWriteOnASessionThatHasMovedWithoutACopyIsNotSafe(t *testing.T) {
	for _, room := range []int64{1 << 20, 5 << 16} {
		inKeeping(t, 1, []string{"a", "b", "c"}, func(t *testing.T, k *keeping) {
			a, b := k.nodes[0], k.nodes[1]
			a.sync = SyncStrict
			a.room.most = room // half is for backups
			stored := make(chan Answer)
			go func() { stored <- a.write("k", strings.Repeat("cart", 1<<16)) }()
			time.Sleep(10 * time.Millisecond)
			mustBe(t, "get at another node", b.get("k"), OK, strings.Repeat("cart", 1<<16))
			want := OK
			if room < 1<<20 {
				want = Unknown
			}
			if got := <-stored; got.Status != want || a.Stats().Unsynced != uint64(min(want, 1)) {
				t.Errorf("with memory for %d bytes it is answered %d", room, got.Status)
			}
		})
	}
}

// An empty record loses to one of which a client was told, and the only backup may be that one.
func TestASessionWhoseBackupKnewOfAnAnswerThatWasTakenBackHasABackupAgain(t *testing.T) {
	inKeeping(t, 1, []string{"a", "b"}, func(t *testing.T, k *keeping) {
		a, b := k.nodes[0], k.nodes[1]
		a.insert("k", "empty")
		k.deliver(all)
		told := a.acquire("k")
		k.deliver(all)
		a.Undo([]byte("k"), told)
		k.rest()
		k.mustBeSafe(t)
		got := b.acquire("k")
		if !told.Init || got.Status != OK || !got.Init {
			t.Fatalf("the next one is told %d, initialise %v, and the one before %v", got.Status, got.Init, told.Init)
		}
		k.rest()
		k.mustBeSafe(t)
		if n := a.Stats().Conflicts + b.Stats().Conflicts; n > 0 {
			t.Errorf("%d sessions were dropped", n)
		}
	})
}
