package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
