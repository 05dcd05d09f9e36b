package store

import (
	"fmt"
	"testing"
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

// BenchmarkASweep sweeps sessions that have all expired at once. It says how long the sweeper keeps a
// shard's lock without letting a request in: for a chunk of entries, which is the rule, and for a
// whole shard of a million sessions, if it always got the lock back first.
func BenchmarkASweep(b *testing.B) {
	const n = 100_000
	st := New(Options{Node: "a"})
	st.Close() // only this benchmark sweeps
	for b.Loop() {
		b.StopTimer()
		put(st, 0, n)
		for i := range st.shards {
			for _, s := range st.shards[i].sessions {
				s.expires = 1
			}
		}
		b.StartTimer()
		for i := range st.shards {
			st.sweepShard(&st.shards[i])
		}
	}
	each := float64(b.Elapsed().Nanoseconds()) / 1e3 / float64(b.N) / n
	b.ReportMetric(each*sweepChunk, "µs/chunk")
	b.ReportMetric(each*1e6/float64(len(st.shards)), "µs/shard-of-a-million")
}
