package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkTheJournal measures how many pages a second a node serves, each of which reads its session with the lock and
// writes it (2 KB, 32 connections), with a journal at its defaults and with one that is forced before each answer, and
// compares both with a node without one in the same run. "hot" are 32 sessions, "cold" 100,000 in turn; of those it also
// says how many times as much as the sessions take the journal has on disk at most.
func BenchmarkTheJournal(b *testing.B) {
	for b.Loop() {
		f := newFarm(b)
		memory := f.node("memory").alone()
		nodes := map[string]*node{"100ms": f.journalled("often").alone(), "always": f.journalled("always", "PEERSTATE_DATA_SYNC=always").alone()}
		memory.start()
		for _, n := range nodes {
			n.start()
		}
		for _, load := range []pageLoad{{"hot", 1, 4 * time.Second}, {"cold", 100_000 / 32, 12 * time.Second}} {
			what := load.name
			rates, tails, disk := map[string][]float64{}, map[string][]float64{}, 0.0
			for range 5 {
				for name, n := range nodes {
					if what == "cold" && name == "always" {
						continue
					}
					x, y := memory.pages(b, load), n.pages(b, load)
					b.Logf("%s %s: %.0f/s, p99 %.2f ms; memory only: %.0f/s, p99 %.2f ms", what, name, y.rate, y.p99, x.rate, x.p99)
					rates[name], tails[name] = append(rates[name], y.rate/x.rate), append(tails[name], y.p99/x.p99)
					disk = max(disk, y.disk)
				}
			}
			for name := range rates {
				b.ReportMetric(median(rates[name]), what+"-"+name+"-rate-ratio")
				b.ReportMetric(median(tails[name]), what+"-"+name+"-p99-ratio")
			}
			if what == "cold" {
				b.ReportMetric(disk, "disk-per-session-byte")
			}
		}
	}
}

// pageLoad is how many sessions each of 32 connections has, and for how long.
type pageLoad struct {
	name     string
	sessions int
	lasts    time.Duration
}

type pageRate struct {
	rate, p99 float64
	disk      float64 // bytes of the journal for each of the sessions'
}

// pages loads a node.
func (n *node) pages(b *testing.B, load pageLoad) pageRate {
	ended, out, disk := make(chan struct{}), "", 0.0
	go func() {
		defer close(ended)
		out = n.farm.command("bench", "--to", n.web, "--connections", "32", "--sessions", fmt.Sprint(load.sessions),
			"--duration", load.lasts.String(), "--size", "2048", "--json")
	}()
	for more := true; more; {
		select {
		case <-ended:
			more = false
		case <-time.After(500 * time.Millisecond):
			if !n.hasJournal() {
				continue
			}
			if live := n.metric("peerstate_sessions_bytes"); live > 100<<20 { // many are there
				disk = max(disk, n.metric("peerstate_journal_bytes")/live)
			}
		}
	}
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
	return pageRate{got.Rate, got.Put.P99, disk}
}

// BenchmarkTheRestart measures how long a node that is alone takes from the start of its process until it serves 100,000
// sessions of 2 KB from its journal, after a kill; and how long a node of a farm takes until it has compared as many with
// the two others, which run on the same machine here.
func BenchmarkTheRestart(b *testing.B) {
	const sessions = 100_000
	for b.Loop() {
		f := newFarm(b)
		alone := f.journalled("alone").alone()
		alone.start()
		alone.stock(b, sessions)
		london, tokyo, paris := f.journalled("london"), f.node("tokyo"), f.node("paris")
		london.start(tokyo, paris)
		tokyo.start(london, paris)
		paris.start(london, tokyo)
		f.linked(london, tokyo, paris)
		london.stock(b, sessions)
		f.safe(london, tokyo, paris)
		var served, compared []float64
		for range 5 {
			alone.kill()
			begin := time.Now()
			alone.restart()
			if n := alone.metric("peerstate_sessions_active"); n != sessions {
				b.Fatalf("%v sessions", n)
			}
			served = append(served, time.Since(begin).Seconds())

			london.kill()
			begin = time.Now()
			london.restart()
			f.until("compared", func() bool { return london.metric("peerstate_ready") == 1 })
			compared = append(compared, time.Since(begin).Seconds())
			f.linked(london, tokyo, paris)
			f.safe(london, tokyo, paris)
		}
		b.ReportMetric(median(served), "s-until-served-alone")
		b.ReportMetric(median(compared), "s-until-compared-in-a-farm")
	}
}

func (n *node) hasJournal() bool {
	return slices.ContainsFunc(n.env, func(e string) bool { return strings.HasPrefix(e, "PEERSTATE_DATA_DIR=") })
}

// stock stores sessions of 2 KB, and waits until they are on disk, if there is a journal.
func (n *node) stock(b *testing.B, sessions int) {
	const visitors = 8
	body := strings.Repeat("x", sessionSize)
	var all errgroup.Group
	for v := range visitors {
		w := n.connect()
		all.Go(func() error {
			for i := range sessions / visitors {
				if a, err := w.request("PUT", fmt.Sprint("visitor", v, "-", i), body); err != nil || a.status != 200 {
					return fmt.Errorf("put: %d, %w", a.status, err)
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	n.farm.until("on disk", func() bool { return !n.hasJournal() || n.metric("peerstate_journal_unsynced_bytes") == 0 })
}
