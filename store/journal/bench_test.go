package journal

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// keyOf is as long as the keys that ASP.NET sends.
func keyOf(i int) string {
	return fmt.Sprintf("/LM/W3SVC/1/ROOT(Ab3dE7gH9jK1mN3pQ5rS7tU9vW1xY3zA5bC7dE9fG1h=)/%024x", uint64(i)*0x9E3779B97F4A7C15)
}

func benchmark(b *testing.B, dir string, every time.Duration, load func(string, []byte) error) *Journal {
	b.Helper()
	j, err := Open(dir, Options{Farm: "farm", Node: "web1", Every: every}, load)
	if err != nil {
		b.Fatal(err)
	}
	return j
}

// BenchmarkGathered writes as much as gets to disk: the writers wait when more than 64 MiB are not there yet.
func BenchmarkGathered(b *testing.B) {
	const keys, size = 100_000, 2048
	j := benchmark(b, b.TempDir(), 100*time.Millisecond, nil)
	names := make([]string, keys)
	for i := range names {
		names[i] = keyOf(i)
	}
	r := rand.New(rand.NewPCG(1, 2))
	body := make([]byte, size)
	b.SetBytes(size)
	peak := 0.0
	for i := 0; b.Loop(); i++ {
		m := j.Set(names[r.IntN(keys)], nil, body)
		if i%1000 == 0 {
			s := j.Stats()
			peak = max(peak, float64(s.Bytes)/float64(s.Live+int64(usual.slack)))
			if s.Unsynced > 64<<20 {
				if err := j.Wait(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	stop(b, j)
	b.ReportMetric(peak, "disk/live")
}

// BenchmarkAlways is for each record the time until it is forced, with 32 who wait at a time.
func BenchmarkAlways(b *testing.B) {
	j := benchmark(b, b.TempDir(), 0, nil)
	body := make([]byte, 2048)
	var mu sync.Mutex
	var took []time.Duration
	b.SetBytes(int64(len(body)))
	b.SetParallelism(32 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for pb.Next() {
			begin := time.Now()
			if err := j.Wait(b.Context(), j.Set(keyOf(rand.IntN(10_000)), nil, body)); err != nil {
				b.Error(err)
				return
			}
			mine = append(mine, time.Since(begin))
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, mine...)
	})
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	stop(b, j)
}

// BenchmarkOpen loads what has been written twice, as after many pages.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []struct{ keys, size int }{{100_000, 2048}, {1_000_000, 1024}} {
		b.Run(fmt.Sprintf("%dx%d", n.keys, n.size), func(b *testing.B) {
			dir := b.TempDir()
			j := benchmark(b, dir, 100*time.Millisecond, nil)
			r := rand.New(rand.NewPCG(1, 2))
			for _, again := range []bool{false, true} {
				for i := range n.keys {
					if again {
						i = r.IntN(n.keys)
					}
					m := j.Set(keyOf(i), nil, make([]byte, n.size))
					if i%20_000 == 0 {
						if err := j.Wait(b.Context(), m); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			stop(b, j)
			for b.Loop() {
				all := make(map[string][]byte, n.keys)
				j := benchmark(b, dir, time.Hour, func(key string, value []byte) error { all[key] = value; return nil })
				b.StopTimer()
				if len(all) != n.keys {
					b.Fatalf("%d loaded", len(all))
				}
				stop(b, j)
				b.StartTimer()
			}
		})
	}
}
