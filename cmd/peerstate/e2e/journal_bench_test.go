package e2e

import (
	"encoding/json"
	"testing"
	"time"
)

// BenchmarkTheJournal measures how many pages a second a node serves, each of which reads its session with the lock and
// writes it (2 KB, 32 connections), with a journal at its defaults and with one that is forced before each answer, and
// compares both with a node without one in the same run.
func BenchmarkTheJournal(b *testing.B) {
	for b.Loop() {
		f := newFarm(b)
		memory := f.node("memory").alone()
		nodes := map[string]*node{"100ms": f.journalled("often").alone(), "always": f.journalled("always", "PEERSTATE_DATA_SYNC=always").alone()}
		memory.start()
		rates, tails := map[string][]float64{}, map[string][]float64{}
		for _, n := range nodes {
			n.start()
		}
		for range 5 {
			for name, n := range nodes {
				x, y := memory.pages(b), n.pages(b)
				b.Logf("%s: %.0f/s, p99 %.2f ms; memory only: %.0f/s, p99 %.2f ms", name, y.rate, y.p99, x.rate, x.p99)
				rates[name], tails[name] = append(rates[name], y.rate/x.rate), append(tails[name], y.p99/x.p99)
			}
		}
		for name := range nodes {
			b.ReportMetric(median(rates[name]), name+"-rate-ratio")
			b.ReportMetric(median(tails[name]), name+"-p99-ratio")
		}
	}
}

type pageRate struct{ rate, p99 float64 }

// pages loads a node for some seconds.
func (n *node) pages(b *testing.B) pageRate {
	out := n.farm.command("bench", "--to", n.web, "--connections", "32", "--duration", (4 * time.Second).String(), "--size", "2048", "--json")
	var got struct {
		Rate float64 `json:"cycles_per_second"`
		Put  struct {
			P99 float64 `json:"p99_ms"`
		} `json:"put"`
		Errors int64 `json:"errors"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Errors != 0 {
		b.Fatalf("%v\n%s", err, out)
	}
	return pageRate{got.Rate, got.Put.P99}
}
