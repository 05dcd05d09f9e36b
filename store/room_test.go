package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// limited gives a store without a farm whose memory has a limit.
func limited(t *testing.T, most int64) *Store {
	t.Helper()
	st := New(Options{Node: "a", Instance: 1, FetchTimeout: time.Second, MaxMemory: most})
	t.Cleanup(func() {
		st.Close()
		if err := checkIdle(st); err != nil {
			t.Error(err)
		}
	})
	return st
}

// answerOf is Try, and Do where that is called for.
func answerOf(st *Store, r Request) Answer {
	if a, ok := st.Try(&r); ok {
		return a
	}
	return st.Do(context.Background(), &r)
}

// lines gathers what a store logs.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// fillUp stores sessions of so many bytes until one is refused, and gives how many there are.
func fillUp(t *testing.T, st *Store, size int) (n int) {
	t.Helper()
	for {
		switch a := answerOf(st, Request{Op: Put, Key: fmt.Appendf(nil, "session %d", n), Cookie: NoCookie, Timeout: 20, Body: make([]byte, size)}); a.Status {
		case OK:
			n++
		case Full:
			return n
		default:
			t.Fatalf("put %d: %+v", n, a)
		}
		if n > 1<<20 {
			t.Fatal("it never refuses")
		}
	}
}

func TestAFullStoreRefusesNewSessionsAndServesTheOthers(t *testing.T) {
	const most, size = 1 << 20, 2000
	st := limited(t, most)
	n := fillUp(t, st, size)
	m := st.Memory()
	if m.Used > most || m.Used < most*9/10 || !m.Refusing || m.Refused[RefusedWrite] != 1 {
		t.Errorf("full: %+v", m)
	}
	if got := st.Stats().Active; got != n {
		t.Errorf("%d of %d sessions are left", got, n)
	}
	for i := range n {
		key := fmt.Appendf(nil, "session %d", i)
		a := answerOf(st, Request{Op: Acquire, Key: key})
		if a.Status != OK || len(a.Body) != size {
			t.Fatalf("acquire: %+v", a)
		}
		if b := answerOf(st, Request{Op: Put, Key: key, Cookie: a.Cookie, Timeout: 20, Body: make([]byte, size)}); b.Status != OK {
			t.Fatalf("a session is rewritten with as much: %+v", b)
		}
	}
	// Larger contents are refused, what was there stays, and the page's lock is gone with it.
	key := []byte("session 0")
	a := answerOf(st, Request{Op: Acquire, Key: key})
	if b := answerOf(st, Request{Op: Put, Key: key, Cookie: a.Cookie, Timeout: 20, Body: make([]byte, most/10)}); b.Status != Full {
		t.Errorf("larger contents: %+v", b)
	}
	if b := answerOf(st, Request{Op: Acquire, Key: key}); b.Status != OK || len(b.Body) != size || b.Cookie <= a.Cookie {
		t.Errorf("after the refusal: %+v", b)
	} else if c := answerOf(st, Request{Op: Put, Key: key, Cookie: a.Cookie, Timeout: 20, Body: make([]byte, most/10)}); c.Status != Locked {
		t.Errorf("a page that has lost its lock: %+v", c)
	} else if c := answerOf(st, Request{Op: Release, Key: key, Cookie: b.Cookie}); c.Status != OK {
		t.Errorf("release: %+v", c)
	}
	for i := range n / 2 {
		if a := answerOf(st, Request{Op: Delete, Key: fmt.Appendf(nil, "session %d", i), Cookie: NoCookie}); a.Status != OK {
			t.Fatalf("delete: %+v", a)
		}
	}
	if a := answerOf(st, Request{Op: Put, Key: []byte("another"), Cookie: NoCookie, Timeout: 20, Body: make([]byte, size)}); a.Status != OK {
		t.Errorf("after deletions: %+v", a)
	}
}

func TestWhatHasExpiredGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := limited(t, 1<<20)
		n := fillUp(t, st, 2000)
		time.Sleep(20 * time.Minute) // to the moment: the sweeper has not come by
		if got := fillUp(t, st, 2000); got != n {
			t.Errorf("%d new sessions in the place of %d that have expired", got, n)
		}
		if s := st.Stats(); int(s.TimedOut) < n {
			t.Errorf("%d of %d have gone", s.TimedOut, n)
		}
	})
}

func TestItWarnsBeforeMemoryIsFullOncePerMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := New(Options{Node: "a", Instance: 1, MaxMemory: 1 << 20, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer st.Close()
		put := func(size int) {
			answerOf(st, Request{Op: Put, Key: []byte("k"), Cookie: NoCookie, Timeout: 0, Body: make([]byte, size<<20/100)})
			time.Sleep(2 * sweepEvery)
			synctest.Wait()
		}
		for _, step := range []struct {
			percent, warn, lines int
		}{{79, 0, 0}, {82, 80, 1}, {78, 80, 1}, {82, 80, 1}, {91, 90, 2}, {86, 90, 2}, {91, 90, 2}, {84, 80, 2}, {91, 90, 3}, {40, 0, 3}, {92, 90, 4}} {
			put(step.percent)
			if got := st.Memory().Warn; got != step.warn {
				t.Errorf("at %d percent it warns of %d, want %d", step.percent, got, step.warn)
			}
			if got := strings.Count(log.String(), "level=WARN"); got != step.lines {
				t.Errorf("at %d percent there are %d lines in the log, want %d:\n%s", step.percent, got, step.lines, &log)
			}
		}
	})
}

func TestAFullStoreSaysSoOnceAMinuteAndWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := New(Options{Node: "a", Instance: 1, FetchTimeout: time.Second, MaxMemory: 1 << 20, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer st.Close()
		n := fillUp(t, st, 2000)
		for range 100 {
			fillUp(t, st, 2000)
		}
		if got := strings.Count(log.String(), "level=ERROR"); got != 1 {
			t.Errorf("it says %d times that it is full:\n%s", got, &log)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !st.Memory().Refusing {
			t.Error("it is as full as before, and says that it is not")
		}
		for i := range n / 10 {
			answerOf(st, Request{Op: Delete, Key: fmt.Appendf(nil, "session %d", i), Cookie: NoCookie})
		}
		time.Sleep(2 * sweepEvery)
		synctest.Wait()
		if st.Memory().Refusing || !strings.Contains(log.String(), "there is memory for sessions again") {
			t.Errorf("a tenth is free:\n%s", &log)
		}
	})
}

// A session larger than any node can be expected to have room for is an error for its page, and no reason to take
// the node from the others.
func TestAnOutsizedSessionIsRefusedAndTheNodeStaysReady(t *testing.T) {
	st := limited(t, 1<<20)
	if a := answerOf(st, Request{Op: Put, Key: []byte("k"), Cookie: NoCookie, Timeout: 20, Body: make([]byte, 1<<20)}); a.Status != Full {
		t.Errorf("it is stored: %+v", a)
	}
	if m := st.Memory(); m.Refusing || m.Refused[RefusedWrite] != 1 {
		t.Errorf("%+v", m)
	}
}

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

// TestWhatIsRefusedIsWhatThereIsNoRoomFor compares a store with a plain account of what is in it.
func TestWhatIsRefusedIsWhatThereIsNoRoomFor(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const most = 64 << 10
		st := New(Options{Node: "a", Instance: 1, FetchTimeout: time.Second, MaxMemory: most})
		defer st.Close()
		bodies := map[string]int{} // lengths
		entries := map[string]bool{}
		used := func() (n int64) {
			for key := range entries {
				n += st.room.entryOf(key) + int64(bodies[key])
			}
			return n
		}
		key := func(rt *rapid.T) string { return fmt.Sprint("session ", rapid.IntRange(0, 40).Draw(rt, "key")) }
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				k, size := key(rt), rapid.IntRange(0, 6000).Draw(rt, "size")
				had, known := bodies[k]
				more := int64(size - had)
				if !entries[k] {
					more += st.room.entryOf(k)
				}
				want := OK
				if more > 0 && used()+more > most-most/aside {
					want = Full
				}
				a := answerOf(st, Request{Op: Put, Key: []byte(k), Cookie: NoCookie, Timeout: 20, Body: bytes.Repeat([]byte{byte(size)}, size)})
				if a.Status != want {
					rt.Fatalf("%d bytes in the place of %d, with %d used: status %d, want %d", size, had, used(), a.Status, want)
				}
				if want == OK {
					bodies[k], entries[k] = size, true
				} else if known && had != len(answerOf(st, Request{Op: Get, Key: []byte(k)}).Body) {
					rt.Fatal("the refused write has changed the session")
				}
			},
			"delete": func(rt *rapid.T) {
				k := key(rt)
				_, known := bodies[k]
				if a := answerOf(st, Request{Op: Delete, Key: []byte(k), Cookie: NoCookie}); (a.Status == OK) != known {
					rt.Fatalf("delete: %+v", a)
				}
				delete(bodies, k) // its note stays
			},
			"get": func(rt *rapid.T) {
				k := key(rt)
				size, known := bodies[k]
				a := answerOf(st, Request{Op: Get, Key: []byte(k)})
				if (a.Status == OK) != known || !bytes.Equal(a.Body, bytes.Repeat([]byte{byte(size)}, size)) {
					rt.Fatalf("get: %+v, want %d bytes", a, size)
				}
			},
			"": func(rt *rapid.T) {
				if m := st.Memory(); m.Used != used() || m.Used > most {
					rt.Fatalf("counted are %d bytes, there are %d", m.Used, used())
				}
				if err := checkIdle(st); err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
}

// TestWhatIsCountedIsWhatTheHeapHas says for each kind of record what it takes, within a tenth. Contents are of 1 KB,
// which the runtime has memory of exactly that size for; others take up to an eighth more.
func TestWhatIsCountedIsWhatTheHeapHas(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const n = 60_000
	b := Peer{"b", 2}
	var key []byte
	keepMany := func(st *Store) {
		for i := range n {
			key = sessionKey(key, i)
			st.Keep(b, ParcelCopy, Record{Key: string(key), Stamp: 1, Cookie: 1, Timeout: 20, Left: 20 * time.Minute, Body: body()})
		}
	}
	for name, c := range map[string]struct {
		backups int
		journal bool
		fill    func(*Store)
	}{
		"sessions":                {0, false, func(st *Store) { put(st, 0, n) }},
		"sessions with a journal": {0, true, func(st *Store) { put(st, 0, n) }},
		"sessions with backups elsewhere": {1, false, func(st *Store) {
			st.SetKeepers([]Keeper{{Peer: b, Linked: true}})
			put(st, 0, n)
			for !st.Flushed() {
				parcels, err := st.Outbox(b).Take(t.Context(), 64)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range parcels {
					p.Kept()
				}
			}
		}},
		"backups":                {1, false, keepMany},
		"backups with a journal": {1, true, keepMany},
		"deletions": {0, false, func(st *Store) {
			put(st, 0, n)
			for i := range n {
				key = sessionKey(key, i)
				st.Try(&Request{Op: Delete, Key: key, Cookie: NoCookie})
			}
		}},
	} {
		st := New(Options{Node: "a", Instance: 1, Backups: c.backups})
		if c.journal {
			if err := st.OpenJournal(JournalOptions{Dir: t.TempDir(), Farm: "shop", Node: "a", Every: 50 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range st.shards { // what it remembers takes the same, however many sessions there are
			for range eventsKept {
				st.shards[i].note("key", EventCreated, "", 0)
			}
		}
		before := heap()
		c.fill(st)
		for j, _ := st.Journal(); j.Unsynced > 0; j, _ = st.Journal() {
			time.Sleep(10 * time.Millisecond)
		}
		has, counted := float64(heap()-before), float64(st.Memory().Used)
		t.Logf("%s: %.0f bytes of heap each, counted %.0f", name, has/n, counted/n)
		if r := counted / has; r < 0.9 || r > 1.1 {
			t.Errorf("%s: %.2f times of what the heap has is counted", name, r)
		}
		runtime.KeepAlive(st)
		st.Close()
		if err := st.CloseJournal(); err != nil {
			t.Error(err)
		}
	}
}

// heap is how many bytes are alive.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestTheRuntimesLimitFitsTheSetting(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	st := limited(t, 1<<30)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	run := func() { st.TuneGC(ctx); close(done) }
	go run()
	for debug.SetMemoryLimit(-1) == before {
		runtime.Gosched()
	}
	if got := debug.SetMemoryLimit(-1); got < 1<<30*5/4 || got > 1<<30*3/2 {
		t.Errorf("it is %d", got)
	}
	cancel()
	<-done
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("afterwards it is %d, was %d", got, before)
	}
	if err := os.Setenv("GOMEMLIMIT", "1TiB"); err != nil { // undone by Setenv above
		t.Fatal(err)
	}
	st.TuneGC(t.Context())
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("the operator's setting was changed to %d", got)
	}
}
