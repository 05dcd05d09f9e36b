package store

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// reopened starts a store that may have so much memory with a journal that has 100 sessions of 20,000 bytes, in a farm as what
// it held, and 50 more that it has as backups.
func reopened(t *testing.T, farm string, most int64, log *lines) (st *Store) {
	t.Helper()
	dir := t.TempDir()
	st = journalled(t, dir, farm, 1, often)
	for i := range 100 {
		mustBe(t, "put", req(st, Put, fmt.Sprint("s", i), NoCookie, strings.Repeat("x", 20_000)), OK, "")
	}
	for i := range 50 * len(farm) {
		if k := st.Keep(Peer{"b", 5}, ParcelCopy, Record{Key: fmt.Sprint("b", i), Stamp: 5, Timeout: 20, Left: 20 * time.Minute, Cookie: 1, Body: make([]byte, 20_000)}); k != KeepDone {
			t.Fatal(k)
		}
	}
	shut(t, st)
	st = New(Options{Node: "a", Instance: 2, FetchTimeout: fetchTimeout, Backups: len(farm), MaxMemory: most, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err := st.OpenJournal(JournalOptions{Dir: dir, Farm: farm, Node: "a", Every: often}); err != nil {
		t.Fatal(err)
	}
	return st
}

// The setting has been made smaller, or the journal was another machine's. None is lost for it, and the node is full.
func TestAJournalWithMoreThanThereIsRoomForIsServed(t *testing.T) {
	for _, farm := range []string{"", "f"} {
		t.Run("farm "+farm, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const most = 1 << 20
				var log lines
				st := reopened(t, farm, most, &log)
				if got := strings.Count(log.String(), "PEERSTATE_MAX_MEMORY has room for"); got != 1 || !strings.Contains(log.String(), "PEERSTATE_MAX_MEMORY=") {
					t.Errorf("%d lines:\n%s", got, &log)
				}
				m := st.Memory()
				if !m.Refusing || m.Used <= most {
					t.Errorf("%+v", m)
				}
				keys := 100
				for i := range 100 {
					promoted(t, st, fmt.Sprint("s", i))
				}
				for i := range 50 * len(farm) {
					promoted(t, st, fmt.Sprint("b", i))
				}
				if s := st.Stats(); s.Active != 100+50*len(farm) || s.Backups != 0 {
					t.Errorf("%+v", s)
				}
				for i := range keys {
					key := fmt.Sprint("s", i)
					a := req(st, Acquire, key, NoCookie, "")
					mustBe(t, "acquire", a, OK, strings.Repeat("x", 20_000))
					if !st.Reserve(t.Context(), 20_000) {
						t.Fatal("what is no larger cannot be received")
					}
					r := Request{Op: Put, Key: []byte(key), Cookie: a.Cookie, Timeout: 20, Body: make([]byte, 20_000), Counted: 20_000}
					if a := answerOf(st, r); a.Status != OK {
						t.Errorf("it cannot be rewritten: %v", a.Status)
					}
				}
				put := func() Status {
					return answerOf(st, Request{Op: Put, Key: []byte("new"), Timeout: 20, Cookie: NoCookie, Body: []byte("x")}).Status
				}
				if got := put(); got != Full {
					t.Errorf("a new session: %v", got)
				}
				for i := range keys {
					mustBe(t, "delete", req(st, Delete, fmt.Sprint("s", i), NoCookie, ""), OK, "")
				}
				for i := range 10 * len(farm) { // so that there is room in the farm, too
					mustBe(t, "delete", req(st, Delete, fmt.Sprint("b", i), NoCookie, ""), OK, "")
				}
				time.Sleep(2 * sweepEvery)
				if m := st.Memory(); m.Refusing || m.Used > most {
					t.Errorf("in the end %+v", m)
				}
				if got := put(); got != OK {
					t.Errorf("in the end a new session: %v", got)
				}
				if over := st.room.over.Load(); over != 0 {
					t.Errorf("%d more than the limit may be reserved", over)
				}
				shut(t, st)
			})
		})
	}
}

func TestTheRuntimesLimitFitsWhatWasLoaded(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	st := reopened(t, "", 1<<20, new(lines))
	defer shut(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { st.TuneGC(ctx); close(done) }()
	until := func(what string, least, most int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; runtime.GC() {
			got := debug.SetMemoryLimit(-1)
			if got >= least && got <= most {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s it is %d, and should be between %d and %d", what, got, least, most)
			}
		}
	}
	used := st.Memory().Used
	until("at first", goLimit(used), goLimit(used))
	for i := range 100 {
		req(st, Delete, fmt.Sprint("s", i), NoCookie, "")
	}
	until("in the end", goLimit(1<<20), goLimit(1<<20))
	cancel()
	<-done
	until("after it", before, before)
}
