package e2e

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkTheDrain measures how long a node takes to hand 100,000 sessions of 2 KB over to another one where nobody keeps backups:
// with a journal on both, where a receipt says that the session is on disk, against memory only in the same run.
func BenchmarkTheDrain(b *testing.B) {
	const sessions = 100_000
	for b.Loop() {
		f := newFarm(b)
		made := 0
		drain := func(make func(name string, env ...string) *node) float64 {
			made++
			from, to := make(fmt.Sprint("from", made), "PEERSTATE_BACKUPS=0"), make(fmt.Sprint("to", made), "PEERSTATE_BACKUPS=0")
			f.startBoth(from, to)
			defer to.stop()
			from.stock(b, sessions)
			begun := time.Now()
			if out, err := from.commandFor("drain").CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			took := time.Since(begun).Seconds()
			if n := to.metric("peerstate_sessions_active"); n != sessions {
				b.Fatalf("%v sessions have come", n)
			}
			return took
		}
		var memory, journal, ratio []float64
		for range 5 {
			x, y := drain(f.node), drain(f.journalled)
			b.Logf("memory only: %.2f s; with a journal: %.2f s", x, y)
			memory, journal, ratio = append(memory, x), append(journal, y), append(ratio, y/x)
		}
		b.ReportMetric(median(memory), "s-memory-only")
		b.ReportMetric(median(journal), "s-with-a-journal")
		b.ReportMetric(median(ratio), "times-as-long")
	}
}
