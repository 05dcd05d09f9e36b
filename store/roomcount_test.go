package store

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

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
