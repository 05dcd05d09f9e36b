package store

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackupsTakeHalfAtMostAndWhatIsKeptStays(t *testing.T) {
	const most = 1 << 20
	st := New(Options{Node: "a", Instance: 1, Backups: 1, MaxMemory: most})
	defer st.Close()
	b := Peer{"b", 2}
	rec := func(i, size int, stamp Stamp) Record {
		return Record{Key: fmt.Sprint("session ", i), Stamp: stamp, Cookie: 1, Timeout: 20, Left: 20 * time.Minute, Body: make([]byte, size)}
	}
	n := 0
	for st.Keep(b, ParcelCopy, rec(n, 2000, 1)) == KeepDone {
		n++
	}
	m := st.Memory()
	if m.Kept > most/2 || m.Kept < most/2-3000 || m.Refusing || m.Refused[RefusedBackup] != 1 {
		t.Errorf("backups have their half: %+v", m)
	}
	if got := st.Stats().Backups; got != n {
		t.Errorf("%d of %d backups are left", got, n)
	}
	if k := st.Keep(b, ParcelCopy, rec(0, 2000, 2)); k != KeepDone {
		t.Errorf("a newer record of the same size: %d", k)
	}
	if k := st.Keep(b, ParcelCopy, rec(0, 9000, 3)); k != KeepRefused {
		t.Errorf("a larger one: %d", k)
	}
	if got, ok := st.BackupOf("session 0"); !ok || got.Version.Stamp != 2 {
		t.Errorf("the one that was acknowledged is gone: %+v", got)
	}
	if k := st.Keep(b, ParcelBury, Record{Key: "session 1", Stamp: 2, Timeout: 20}); k != KeepDone {
		t.Errorf("a deletion: %d", k)
	}
	// Its own sessions have the other half; then it can be promoted what it keeps, which takes no more.
	own := fillUp(t, st, 2000)
	if own < n*7/10 {
		t.Errorf("%d own sessions beside %d backups", own, n)
	}
	before := st.Memory().Used
	kept, _ := st.BackupOf("session 2")
	answerOf(st, Request{Op: Delete, Key: []byte("session 2"), Cookie: NoCookie})
	if kept, ok := st.BackupOf("session 2"); ok && !st.PromoteBackup(kept) {
		t.Error("it is not promoted")
	}
	if after := st.Memory().Used; after > before {
		t.Errorf("a promotion took %d bytes (%+v)", after-before, kept)
	}
	if err := checkIdle(st); err != nil {
		t.Error(err)
	}
}

func TestASessionThatHasNoRoomHereStaysWithItsHolder(t *testing.T) {
	const most = 1 << 20
	st := New(Options{Node: "a", Instance: 1, Backups: 1, FetchTimeout: time.Second, MaxMemory: most})
	defer st.Close()
	b := Peer{"b", 2}
	rec := func(key string) Record {
		return Record{Key: key, Stamp: 7, Cookie: 1, Timeout: 20, Left: 20 * time.Minute, Body: make([]byte, 2000)}
	}
	if k := st.Keep(b, ParcelCopy, rec("kept here")); k != KeepDone {
		t.Fatalf("a backup: %d", k)
	}
	fillUp(t, st, 2000)
	// What a page waits for comes in a little longer, and what a node that stops would leave behind still longer.
	comesIn := func(take func(Peer, HandoverID, Record) Receipt, from uint64) (n int64) {
		for {
			id := HandoverID{2, from + uint64(n)}
			got := take(b, id, rec(fmt.Sprint("session of ", from+uint64(n))))
			if !got.Accepted {
				if !got.Full || got.Version != (Version{}) {
					t.Errorf("refused: %+v", got)
				}
				if f := st.FateOf(id, "session"); f.Kind != NotReceived {
					t.Errorf("the fate of what was refused: %+v", f)
				}
				return n
			}
			n++
		}
	}
	const each = 2000 + 300
	for _, way := range []struct {
		take func(Peer, HandoverID, Record) Receipt
		part int64
	}{{st.Receive, most / 32}, {st.Adopt, most / 64}} {
		if n := comesIn(way.take, uint64(way.part)); n < way.part/each-2 || n > way.part/each+2 {
			t.Errorf("%d sessions came in, where there were %d bytes", n, way.part)
		}
	}
	if got := st.Adopt(b, HandoverID{2, 2}, rec("kept here")); !got.Accepted {
		t.Errorf("of which the backup is here: %+v", got)
	}
	if f := st.FateOf(HandoverID{2, 1}, "given"); f.Kind != NotReceived {
		t.Errorf("the fate of what was refused: %+v", f)
	}
	if m := st.Memory(); m.Used > most || m.Refused[RefusedHandover] != 2 {
		t.Errorf("%+v", m)
	}
	if err := checkIdle(st); err != nil {
		t.Error(err)
	}
}

// What is being received counts: many large bodies at once get no more than there is, and one at a time finds its place
// also when nothing else does.
func TestWhatIsBeingReceivedStaysBelowTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		st := limited(t, most)
		n := fillUp(t, st, 2000)
		if !st.Reserve(t.Context(), most/32) {
			t.Fatal("no room for one")
		}
		r := Request{Op: Put, Key: []byte("session 0"), Cookie: NoCookie, Timeout: 20, Body: make([]byte, most/32), Counted: most / 32}
		if a := answerOf(st, r); a.Status != Full {
			t.Errorf("what was received is stored beyond the mark: %+v", a)
		}
		st.GiveBack(most / 32)
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := 0
		for range 100 {
			wg.Go(func() {
				if st.Reserve(t.Context(), 10_000) {
					mu.Lock()
					got++
					mu.Unlock()
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		if used := st.Memory().Used; got < 6 || used > most {
			t.Errorf("%d came in, %d bytes are used", got, used)
		}
		if took := time.Since(begun); took != reserveWait {
			t.Errorf("the others waited %v", took)
		}
		freed := make(chan bool)
		go func() { freed <- st.Reserve(t.Context(), 60_000) }()
		time.Sleep(time.Second)
		for range got {
			st.GiveBack(10_000)
		}
		if !<-freed {
			t.Error("one that waited for room did not get it")
		}
		st.GiveBack(60_000)
		if s := st.Stats(); s.Active != n {
			t.Errorf("%d of %d sessions are left", s.Active, n)
		}
	})
}

func TestARewrittenSessionOnItsWayToAKeeperCountsTwice(t *testing.T) {
	st := New(Options{Node: "a", Instance: 1, Backups: 1})
	defer st.Close()
	b := Peer{"b", 2}
	st.SetKeepers([]Keeper{{Peer: b, Linked: true}})
	key := []byte("k")
	put := func(size int) {
		answerOf(st, Request{Op: Put, Key: key, Cookie: NoCookie, Timeout: 20, Body: make([]byte, size)})
	}
	put(1000)
	base := st.Memory().Used - 1000
	parcels, err := st.Outbox(b).Take(t.Context(), 10)
	if err != nil || len(parcels) != 1 {
		t.Fatal(len(parcels), err)
	}
	put(10)
	put(20)
	if got := st.Memory().Used - base; got != 1020 {
		t.Errorf("%d bytes while the first contents are on their way, want 1020", got)
	}
	if err := checkIdle(st); err != nil {
		t.Error(err)
	}
	parcels[0].Kept()
	if got := st.Memory().Used - base; got != 20 {
		t.Errorf("%d bytes afterwards, want 20", got)
	}
}
