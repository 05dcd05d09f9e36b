package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	floodRequests = 10_000
	floodClients  = 100 // connections to each node that the flood comes on
	maxWaiting    = 64  // for one session on one node
)

// One user's pages come in on all three nodes at once, far more than can ever be served, and each that is
// told "locked" asks again at once. All others go from node to node meanwhile.
func TestAFloodOnOneSessionHurtsNobodyElse(t *testing.T) {
	f := newFarm(t)
	nodes := f.mesh()
	const others = 12
	nodes[0].want(200, "", "PUT", "flooded", "0")
	for i := range others {
		nodes[i%3].want(200, "", "PUT", fmt.Sprint("visitor", i), "0")
	}
	var flood, rest sync.WaitGroup
	var left, made, unsure, refused atomic.Int64
	left.Store(floodRequests)
	for i := range 3 * floodClients {
		w := nodes[i%3].connect()
		flood.Go(func() {
			for left.Add(-1) >= 0 {
				switch p := w.addOne("flooded"); {
				case p.err != nil:
					t.Errorf("the flood: %v", p.err)
					return
				case p.locked:
					refused.Add(1)
				case p.unsure:
					unsure.Add(1)
					return
				default:
					made.Add(1)
					left.Add(-1) // it was two requests
				}
			}
		})
	}
	over := make(chan struct{})
	var pages [others]int
	for i := range others {
		conns := []*web{nodes[0].connect(), nodes[1].connect(), nodes[2].connect()}
		rest.Go(func() {
			id := fmt.Sprint("visitor", i)
			for turn := i; ; turn++ {
				select {
				case <-over:
					return
				default:
				}
				p := conns[turn%3].addOne(id)
				for p.locked { // it asks again, as web servers do
					time.Sleep(100 * time.Millisecond)
					p = conns[turn%3].addOne(id)
				}
				if p.err != nil || p.unsure {
					t.Errorf("%s: %v, a write without an answer: %v", id, p.err, p.unsure)
					return
				}
				if pages[i]++; p.now != pages[i] {
					t.Errorf("%s is %d after %d pages", id, p.now, pages[i])
					return
				}
			}
		})
	}
	flooded := make(chan struct{})
	go func() {
		flood.Wait()
		close(flooded)
	}()
	for running := true; running; {
		select {
		case <-flooded:
			running = false
		case <-time.After(50 * time.Millisecond):
		}
		for _, n := range nodes {
			// Each of the others waits for its own session, when it moves; and so may two nodes.
			if v := n.metric("peerstate_lock_waiters"); v > maxWaiting+3*others {
				t.Errorf("%v wait on %s", v, n.name)
			}
			// A connection has one, and one more that looks whether its client is still there.
			if v := n.metric("go_goroutines"); v > 2*(floodClients+others)+300 {
				t.Errorf("%s has %v goroutines", n.name, v)
			}
			if v := n.metric("go_memstats_heap_inuse_bytes"); v > 100<<20 {
				t.Errorf("%s uses %v bytes", n.name, v)
			}
		}
	}
	close(over)
	rest.Wait()
	if refused.Load() == 0 {
		t.Error("none of the flood was refused")
	}
	total := 0
	for i, n := range pages {
		total += n
		if n == 0 {
			t.Errorf("visitor %d had no page", i)
		}
	}
	t.Logf("the flood had %d pages and %d refusals, the others %d pages", made.Load(), refused.Load(), total)
	for _, n := range nodes {
		f.until("nobody waits", func() bool { return n.metric("peerstate_lock_waiters") == 0 })
	}
	var a answer
	f.until("the flooded session is there", func() bool { a = nodes[1].do("GET", "flooded", ""); return a.status == 200 })
	if v, err := strconv.Atoi(a.body); err != nil || int64(v) < made.Load() || int64(v) > made.Load()+unsure.Load() {
		t.Errorf("the flooded session is %q after %d pages, and %d without an answer", a.body, made.Load(), unsure.Load())
	}
}

// page is what became of one.
type page struct {
	locked bool // it did not get the lock
	unsure bool // no answer came
	now    int  // the counter, by its own word
	err    error
}

// addOne is a page that adds one to a counter: it takes the lock, works and writes.
func (w *web) addOne(id string) (p page) { return w.addOneIn(id, 0, nil) }

// addOneIn is addOne with a page that works for a while, on a session that has a padding behind its counter.
func (w *web) addOneIn(id string, work time.Duration, padding []byte) (p page) {
	a, err := w.request("GET", id, "", acquire)
	switch {
	case err != nil:
		return page{err: err}
	case a.status == 0:
		return page{unsure: true}
	case a.status == 423:
		return page{locked: true}
	case a.status != 200:
		return page{err: fmt.Errorf("acquire: %d", a.status)}
	}
	if len(a.body) < len(padding) {
		return page{err: fmt.Errorf("a session of %d bytes", len(a.body))}
	}
	n, err := strconv.Atoi(a.body[:len(a.body)-len(padding)])
	if err != nil {
		return page{err: err}
	}
	time.Sleep(work)
	a, err = w.request("PUT", id, strconv.Itoa(n+1)+string(padding), cookie(a))
	switch {
	case err != nil:
		return page{err: err}
	case a.status == 0:
		return page{unsure: true}
	case a.status != 200:
		return page{err: fmt.Errorf("put: %d", a.status)}
	}
	return page{now: n + 1}
}
