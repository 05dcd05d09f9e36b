//go:build unix

package store

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// BenchmarkThePriceOfTheJournal measures the processor time, of the whole process and of the system for it, that a page
// costs (a lock, and a body of 2 KB that is written) at 25,000 a second on 100,000 sessions in turn: without a journal,
// and with one. That is steadier than a rate where others use the machine, too.
func BenchmarkThePriceOfTheJournal(b *testing.B) {
	const sessions, rate, lasts = 100_000, 25_000, 8 * time.Second
	for b.Loop() {
		for _, journal := range []bool{false, true} {
			st := New(Options{Node: "a"})
			name := "memory"
			if journal {
				name = "journal"
				if err := st.OpenJournal(JournalOptions{Dir: b.TempDir(), Farm: "shop", Node: "a", Every: 100 * time.Millisecond}); err != nil {
					b.Fatal(err)
				}
			}
			key := []byte(nil)
			page := func(i int) {
				key = fmt.Appendf(key[:0], "/lm/w3svc/2/root(7pXqAjV1Yk2Rr0Jt6Zb3Tg==)/%024d", i%sessions)
				a, _ := st.Try(&Request{Op: Acquire, Key: key})
				st.Try(&Request{Op: Put, Key: key, Cookie: a.Cookie, Timeout: 20, Body: make([]byte, 2048)})
			}
			pages := func(n int) {
				begun := time.Now()
				for i := range n {
					if page(i); i%100 == 99 {
						time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / rate)))
					}
				}
			}
			pages(2 * sessions)
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			used := processorTime(b)
			n := int(rate * lasts / time.Second)
			pages(n)
			used = processorTime(b) - used
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(n), name+"-cpu-µs/page")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(n), name+"-B/page")
			b.ReportMetric(float64(after.NumGC-before.NumGC), name+"-gcs")
			st.Close()
			if err := st.CloseJournal(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
