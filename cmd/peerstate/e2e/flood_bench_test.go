package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	floodRounds = 5    // pairs of measurements
	floodRate   = 2000 // pages a second
	floodWork   = 5 * time.Millisecond
	spreadOver  = 1000 // sessions
	bystanders  = 24
)

// BenchmarkAFloodOnOneSession measures what other users' pages wait for the state server at most but for one
// in a hundred (two requests each, mostly to one node) while 10,000 pages come in on three nodes in 5 s,
// all for one session, and compares it with the same pages spread over many sessions, in the same run.
func BenchmarkAFloodOnOneSession(b *testing.B) {
	for b.Loop() {
		f := newFarm(b)
		nodes := f.mesh()
		padding := bytes.Repeat([]byte{'x'}, sessionSize)
		w := nodes[0].connect()
		for _, id := range append(ids("spread", spreadOver), append(ids("bystander", bystanders), "flooded")...) {
			if a, err := w.request("PUT", id, "0"+string(padding)); err != nil || a.status != 200 {
				b.Fatalf("put: %d, %v", a.status, err)
			}
		}
		load := &load{nodes: nodes, padding: padding}
		defer load.close()
		var flooded, spread, ratios []float64
		for range floodRounds {
			x := load.run(b, func(int) string { return "flooded" })
			y := load.run(b, func(i int) string { return fmt.Sprint("spread", i%spreadOver) })
			b.Logf("flood: %v; spread: %v", x, y)
			flooded, spread, ratios = append(flooded, x.p99), append(spread, y.p99), append(ratios, x.p99/y.p99)
		}
		b.ReportMetric(median(flooded), "flooded-p99-µs")
		b.ReportMetric(median(spread), "spread-p99-µs")
		b.ReportMetric(median(ratios), "ratio")
	}
}

func ids(name string, n int) (all []string) {
	for i := range n {
		all = append(all, name+strconv.Itoa(i))
	}
	return all
}

// load is what comes in on some nodes, on connections that are kept.
type load struct {
	nodes   []*node
	padding []byte
	mu      sync.Mutex
	idle    map[*node][]*web
}

func (l *load) close() {
	for _, ws := range l.idle {
		for _, w := range ws {
			w.Close()
		}
	}
}

// page has a web server's page add one to the counter in a session.
func (l *load) page(n *node, id string, work time.Duration) (p page) {
	l.mu.Lock()
	var w *web
	if ws := l.idle[n]; len(ws) > 0 {
		w, l.idle[n] = ws[len(ws)-1], ws[:len(ws)-1]
	}
	l.mu.Unlock()
	if w == nil {
		var err error
		if w, err = n.dial(); err != nil {
			return page{err: err}
		}
	}
	p = w.addOneIn(id, work, l.padding)
	if p.err != nil || p.unsure {
		w.Close()
		return p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle == nil {
		l.idle = map[*node][]*web{}
	}
	l.idle[n] = append(l.idle[n], w)
	return p
}

// waited is what the bystanders saw, in microseconds, and what became of the load.
type waited struct {
	p50, p99      float64
	served, other int
}

// run lets floodRequests pages come in evenly, on all nodes, and measures the bystanders' pages.
func (l *load) run(b *testing.B, session func(i int) string) (r waited) {
	var pages, others sync.WaitGroup
	var mu sync.Mutex
	var times []float64
	over := make(chan struct{})
	begun := time.Now()
	for i := range floodRequests {
		pages.Go(func() {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / floodRate)))
			p := l.page(l.nodes[i%len(l.nodes)], session(i), floodWork)
			if p.err != nil {
				b.Error(p.err)
			}
			mu.Lock()
			defer mu.Unlock()
			if p.locked || p.unsure {
				r.other++
			} else {
				r.served++
			}
		})
	}
	for i := range bystanders {
		others.Go(func() {
			id := fmt.Sprint("bystander", i)
			for turn := 0; ; turn++ {
				select {
				case <-over:
					return
				case <-time.After(10 * time.Millisecond):
				}
				n := l.nodes[(i+turn/10)%len(l.nodes)] // every tenth page on another node
				begun := time.Now()
				p := l.page(n, id, 0)
				took := float64(time.Since(begun).Nanoseconds()) / 1000
				if p.err != nil || p.locked || p.unsure {
					b.Errorf("a bystander's page: %+v", p)
				}
				mu.Lock()
				times = append(times, took)
				mu.Unlock()
			}
		})
	}
	pages.Wait()
	close(over)
	others.Wait()
	slices.Sort(times)
	r.p50, r.p99 = times[len(times)/2], times[len(times)*99/100]
	return r
}
