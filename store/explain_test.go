package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const someID = "mbkzjsnmvgpbxytfdrlwhq5e"

func explain(t *testing.T, st *Store, l Lookup) []Trace {
	t.Helper()
	traces, _, more := st.Explain(t.Context(), l)
	if more {
		t.Error("there is said to be more")
	}
	return traces
}

func stored(t *testing.T, st *Store, key, body string) {
	t.Helper()
	if a := st.Do(context.Background(), &Request{Op: Put, Key: []byte(key), Cookie: NoCookie, Timeout: 20, Body: []byte(body)}); a.Status != OK {
		t.Fatalf("storing %s: %d", key, a.Status)
	}
}

func TestExplainFindsASessionByItsKeyItsIDAndItsHash(t *testing.T) {
	st := New(Options{})
	defer st.Close()
	for i := range 1000 {
		stored(t, st, fmt.Sprintf("LM/W3SVC/1/ROOT(a=)/%024d", i), "other")
	}
	key, seven := "LM/W3SVC/1/ROOT(a/+=)/"+someID, "LM/W3SVC/7/ROOT(b=)/"+someID
	stored(t, st, key, "one")
	stored(t, st, seven, "seven")
	stored(t, st, "LM/W3SVC/7/ROOT(b=)/"+strings.ToUpper(someID), "upper")
	stored(t, st, "LM/W3SVC/7/ROOT(b=)/x"+someID, "longer")
	for what, c := range map[string]struct {
		l    Lookup
		want []string
	}{
		"key and id":      {Lookup{Key: key, ID: someID}, []string{"LM/W3SVC/1/ROOT(a/+=) asked 3", "LM/W3SVC/7/ROOT(b=) 5", "LM/W3SVC/7/ROOT(b=) other case 5"}},
		"id":              {Lookup{ID: someID}, []string{"LM/W3SVC/1/ROOT(a/+=) 3", "LM/W3SVC/7/ROOT(b=) 5", "LM/W3SVC/7/ROOT(b=) other case 5"}},
		"hash":            {Lookup{Hash: KeyHash(seven)}, []string{"LM/W3SVC/7/ROOT(b=) 5"}},
		"what is nowhere": {Lookup{Key: "LM/W3SVC/9/ROOT(b=)/none", ID: "none"}, nil},
		"half an id":      {Lookup{ID: someID[1:]}, nil},
	} {
		var got []string
		for _, trace := range explain(t, st, c.l) {
			line := trace.App
			if trace.Asked {
				line += " asked"
			}
			if trace.OtherCase {
				line += " other case"
			}
			if trace.State != TraceHeld || trace.Timeout != 20 || trace.Left < 19*time.Minute || trace.Stamp == 0 || trace.Since == 0 || trace.Hash == "" {
				t.Errorf("by %s: %+v", what, trace)
			}
			got = append(got, fmt.Sprintf("%s %d", line, trace.Size))
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("by %s: %q, want %q", what, got, c.want)
		}
	}
}

func TestWhatExplainTellsDoesNotHoldTheSessionID(t *testing.T) {
	st := New(Options{})
	defer st.Close()
	key := "LM/W3SVC/1/ROOT(a=)/" + someID
	stored(t, st, key, "x")
	if text := fmt.Sprintf("%+v", explain(t, st, Lookup{Hash: KeyHash(key)})); strings.Contains(text, someID) || !strings.Contains(text, "ROOT(a=)") {
		t.Error(text)
	}
}

func TestExplainRenewsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{})
		defer st.Close()
		stored(t, st, "a/"+someID, "x")
		time.Sleep(15 * time.Minute)
		if got := explain(t, st, Lookup{ID: someID}); len(got) != 1 || got[0].Left != 5*time.Minute || got[0].Since.Round(time.Second) != 15*time.Minute {
			t.Errorf("%+v", got)
		}
		time.Sleep(6 * time.Minute)
		got := explain(t, st, Lookup{ID: someID})
		if len(got) != 1 || got[0].State != TraceEnded || len(got[0].Events) != 2 || got[0].Events[1] != (TraceEvent{What: EventExpired, Ago: time.Minute}) {
			t.Errorf("after its time: %+v", got)
		}
	})
}

func TestExplainTellsWhoHasTheLockAndWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{FetchTimeout: fetchTimeout, LockWait: time.Second})
		defer st.Close()
		key := []byte("a/" + someID)
		stored(t, st, string(key), "x")
		if a := st.Do(t.Context(), &Request{Op: Acquire, Key: key, Cookie: NoCookie, Client: 50123}); a.Status != OK {
			t.Fatal(a.Status)
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { st.Do(t.Context(), &Request{Op: Get, Key: key, Cookie: NoCookie}) })
		}
		time.Sleep(500 * time.Millisecond)
		got := explain(t, st, Lookup{ID: someID})[0]
		if got.Lock != 2 || got.LockAge != 500*time.Millisecond || got.Client != 50123 || got.Waiting != 3 {
			t.Errorf("%+v", got)
		}
		st.Do(t.Context(), &Request{Op: Release, Key: key, Cookie: 2})
		all.Wait()
		if got := explain(t, st, Lookup{ID: someID})[0]; got.Lock != 0 || got.Client != 0 || got.LockAge != 0 {
			t.Errorf("released: %+v", got)
		}
	})
}

// What a session's lock leaves behind is not taken for whom a note is remembered.
func TestTheClientOfALockIsForgottenWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b") // whose stores are checked in the end
		a, b := net.named("a"), net.named("b")
		for i := range 4 {
			key := []byte(fmt.Sprint("app/", i))
			stored(t, a.Store, string(key), "x")
			for range 2 { // to b, and back to a
				for _, n := range []*node{b, a} {
					got := n.Do(t.Context(), &Request{Op: Acquire, Key: key, Cookie: NoCookie, Client: 65535})
					if got.Status != OK {
						t.Fatal(got.Status)
					}
					if i != 3 || n == b {
						n.Do(t.Context(), &Request{Op: Release, Key: key, Cookie: got.Cookie})
					} else {
						n.Do(t.Context(), &Request{Op: Delete, Key: key, Cookie: got.Cookie})
						stored(t, a.Store, string(key), "again")
					}
				}
			}
		}
		time.Sleep(25 * time.Minute)
		stored(t, a.Store, "app/0", "new")
	})
}

func TestExplainTellsOfMovesAndDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.named("a"), net.named("b")
		key := "app/" + someID
		stored(t, a.Store, key, "x")
		time.Sleep(time.Second)
		if x := b.Do(t.Context(), &Request{Op: Get, Key: []byte(key), Cookie: NoCookie}); x.Status != OK {
			t.Fatal(x.Status)
		}
		time.Sleep(time.Second)
		at, bt := explain(t, a.Store, Lookup{ID: someID}), explain(t, b.Store, Lookup{ID: someID})
		if len(at) != 1 || at[0].State != TraceMoved || at[0].Peer != "b" || len(at[0].Events) != 2 ||
			at[0].Events[0] != (TraceEvent{EventCreated, "", 2 * time.Second}) || at[0].Events[1] != (TraceEvent{EventGiven, "b", time.Second}) {
			t.Errorf("on a: %+v", at)
		}
		if len(bt) != 1 || bt[0].State != TraceHeld || bt[0].Epoch != 1 || bt[0].Since.Round(time.Second) != time.Second || bt[0].Events[0] != (TraceEvent{EventCame, "a", time.Second}) {
			t.Errorf("on b: %+v", bt)
		}
		b.Do(t.Context(), &Request{Op: Delete, Key: []byte(key), Cookie: NoCookie})
		time.Sleep(time.Minute)
		bt = explain(t, b.Store, Lookup{ID: someID})
		if len(bt) != 1 || bt[0].State != TraceDeleted || bt[0].Events[1] != (TraceEvent{EventDeleted, "", time.Minute}) {
			t.Errorf("deleted: %+v", bt)
		}
	})
}

func TestTheMemoryOfEndedSessionsIsBoundedAndSaysHowFarItReaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{})
		defer st.Close()
		time.Sleep(time.Minute)
		if _, memory, _ := st.Explain(t.Context(), Lookup{ID: "x"}); memory != time.Minute {
			t.Errorf("it remembers for %v, and was started a minute ago", memory)
		}
		sh := &st.shards[0]
		for i := range 3 * eventsKept {
			sh.mu.Lock()
			sh.note(fmt.Sprint("app/", i), EventExpired, "", st.clock.now().mono)
			sh.mu.Unlock()
			time.Sleep(time.Second)
		}
		if _, memory, _ := st.Explain(t.Context(), Lookup{ID: "x"}); memory != eventsKept*time.Second {
			t.Errorf("it remembers for %v, want %v", memory, eventsKept*time.Second)
		}
		if len(sh.history.ring) != eventsKept {
			t.Errorf("%d events are kept", len(sh.history.ring))
		}
		var first, last string
		sh.history.each(func(h *happened) {
			if first == "" {
				first = h.key
			}
			last = h.key
		})
		if first != fmt.Sprint("app/", 2*eventsKept) || last != fmt.Sprint("app/", 3*eventsKept-1) {
			t.Errorf("from %s to %s", first, last)
		}
	})
}

func TestExplainGivesNoMoreThanItMay(t *testing.T) {
	st := New(Options{})
	defer st.Close()
	for i := range 200 {
		stored(t, st, fmt.Sprintf("app%03d/%s", i, someID), "x")
	}
	traces, _, more := st.Explain(t.Context(), Lookup{Key: "app150/" + someID, ID: someID})
	if len(traces) != MostTraces || !more || !traces[0].Asked {
		t.Errorf("%d traces, more %v, the first %+v", len(traces), more, traces[0])
	}
}

// Explain and requests go on side by side.
func TestExplainGoesThroughMapsThatChange(t *testing.T) {
	st := New(Options{})
	defer st.Close()
	stop := make(chan struct{})
	var all sync.WaitGroup
	for w := range 2 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := []byte(fmt.Sprintf("app/%d-%d", w, i%5000))
				st.Try(&Request{Op: Put, Key: key, Cookie: NoCookie, Timeout: 20, Body: []byte("x")})
				if i%3 == 0 {
					st.Try(&Request{Op: Delete, Key: key, Cookie: NoCookie})
				}
			}
		})
	}
	stored(t, st, "app/"+someID, "x")
	for range 50 {
		if got := explain(t, st, Lookup{ID: someID}); len(got) != 1 {
			t.Errorf("%d traces", len(got))
		}
	}
	close(stop)
	all.Wait()
}

// BenchmarkExplain is one look through a million sessions.
func BenchmarkExplain(b *testing.B) {
	st := New(Options{})
	defer st.Close()
	for i := range 1_000_000 {
		st.Try(&Request{Op: Put, Key: fmt.Appendf(nil, "LM/W3SVC/1/ROOT(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE=)/%024d", i), Cookie: NoCookie, Timeout: 20})
	}
	for what, l := range map[string]Lookup{"id": {ID: someID}, "hash": {ID: "abcdef01", Hash: "abcdef01"}} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if traces, _, _ := st.Explain(b.Context(), l); len(traces) > 1 {
					b.Fatal(traces)
				}
			}
		})
	}
}
