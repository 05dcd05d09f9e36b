package store

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestNoRequestAllocates but one that makes a new session. That is what keeps the collector from
// running because of requests alone.
func TestNoRequestAllocates(t *testing.T) {
	st := alone(t)
	key, nowhere, body := []byte("k"), []byte("nowhere"), make([]byte, 1024)
	st.Try(&Request{Op: Put, Key: key, Timeout: 20, Body: body})
	var r Request
	do := func(op Op, cookie int32, want Status) Answer {
		r = Request{Op: op, Key: key, Cookie: cookie, Timeout: 20, Body: body}
		a, ok := st.Try(&r)
		if !ok || a.Status != want {
			t.Fatalf("%v: %+v", op, a)
		}
		return a
	}
	for name, f := range map[string]func(){
		"get":                 func() { do(Get, NoCookie, OK) },
		"head":                func() { do(Head, NoCookie, OK) },
		"put":                 func() { do(Put, NoCookie, OK) },
		"release":             func() { do(Release, 1, OK) },
		"acquire and release": func() { do(Release, do(Acquire, NoCookie, OK).Cookie, OK) },
		"acquire and put":     func() { do(Put, do(Acquire, NoCookie, OK).Cookie, OK) },
		"acquire and undo":    func() { st.Undo(key, do(Acquire, NoCookie, OK)) },
		"a lock in the way": func() {
			a := do(Acquire, NoCookie, OK)
			do(Get, NoCookie, Locked)
			do(Put, NoCookie, Locked)
			do(Release, a.Cookie, OK)
		},
		"a miss": func() {
			r = Request{Op: Get, Key: nowhere}
			st.Try(&r)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkAPage(b *testing.B) {
	for _, sessions := range []int{1, 100_000} {
		b.Run(fmt.Sprintf("of %d sessions", sessions), func(b *testing.B) {
			st := New(Options{Node: "a"})
			defer st.Close()
			put(st, 0, sessions)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var key []byte
				body := body()
				for i := 0; pb.Next(); i++ {
					key = sessionKey(key, i%sessions)
					if a, _ := st.Try(&Request{Op: Acquire, Key: key}); a.Status == OK {
						st.Try(&Request{Op: Put, Key: key, Cookie: a.Cookie, Timeout: 20, Body: body})
					}
				}
			})
		})
	}
}

// BenchmarkASweep sweeps records that have all expired at once. It says how long the sweeper keeps a shard's lock without
// letting a request in, which is for a chunk of entries, and how long it takes for a whole shard of a million records: of
// sessions; of sessions whose keepers are to be told; of backups; and of sessions that are in a journal.
func BenchmarkASweep(b *testing.B) {
	const n = 100_000
	keeper := Peer{"b", 2}
	for _, kind := range []string{"sessions", "sessions with backups elsewhere", "backups", "sessions with a journal"} {
		b.Run(kind, func(b *testing.B) {
			o := Options{Node: "a", Instance: 1}
			l := &loader{other: keeper}
			if kind == "backups" || kind == "sessions with backups elsewhere" {
				o.Backups = 1
			}
			st := New(o)
			st.Close() // only this benchmark sweeps
			l.store = st
			if kind == "sessions with a journal" {
				if err := st.OpenJournal(JournalOptions{Dir: b.TempDir(), Farm: "shop", Node: "a", Every: 100 * time.Millisecond}); err != nil {
					b.Fatal(err)
				}
				defer func() { _ = st.CloseJournal() }()
			}
			if o.Backups > 0 {
				st.SetKeepers([]Keeper{{Peer: keeper, Linked: true}})
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan struct{})
				go func() { acknowledge(ctx, st, keeper); close(done) }()
				defer func() { cancel(); <-done }()
			}
			for b.Loop() {
				b.StopTimer()
				if kind == "backups" {
					for i := range n {
						l.keep(nil, i)
					}
				} else {
					put(st, 0, n)
				}
				for !st.Flushed() {
					time.Sleep(time.Millisecond)
				}
				l.expireNow()
				b.StartTimer()
				for i := range st.shards {
					st.room.sweeping.Lock()
					st.sweepShard(&st.shards[i])
					st.room.sweeping.Unlock()
				}
			}
			if s := st.Stats(); s.Active+s.Backups > 0 {
				b.Fatalf("%d sessions and %d backups are left", s.Active, s.Backups)
			}
			each := float64(b.Elapsed().Nanoseconds()) / 1e3 / float64(b.N) / n
			b.ReportMetric(each*sweepChunk, "µs/chunk")
			b.ReportMetric(each*1e6/float64(len(st.shards)), "µs/shard-of-a-million")
		})
	}
}
