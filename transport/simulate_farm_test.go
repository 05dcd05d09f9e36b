package transport

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/certs"
	"peerstate/store"
)

// simulation is one run of a plan: clients on each node who add to counters in a few sessions, while
// the plan's troubles and deeds go on.
type simulation struct {
	*farm
	plan  *plan
	begun time.Time
	// padding stands behind the contents of each session, to make it a long one.
	padding []byte

	// one lets one goroutine at a time start and end nodes: the farm knows of no others. A mutex would
	// keep virtual time from passing.
	one chan struct{}

	mu      sync.Mutex
	down    int              // under mu; nodes that are stopping or have
	sites   map[string]*site // under mu; by node
	born    []bool           // under mu; by session: there are visitors who have its id
	history []*visitOp       // under mu; in the order of the calls
	losses  []loss           // under mu
	ended   []*store.Store   // under mu; of runs that are over
	did     []string         // under mu; deeds that were done
	doubts  int              // under mu; hand-overs of which the giver did not know whether they arrived
	failed  []string         // under mu; drains that did not hand over everything
	final   []string         // by session: its contents in the end; empty: it is nowhere
	holders [][]string       // by session: who holds it in the end
	took    time.Duration    // real time
	lasted  time.Duration    // virtual time
}

// site is a web server with its node.
type site struct {
	run     *run // nil: its node does not run
	leaving bool // the load balancer sends nobody there any more
}

// run is one run of a node as its clients see it.
type run struct {
	node    *testNode
	crashed bool // under simulation.mu
	busy    sync.WaitGroup
}

// loss is a copy of a session that ended with its node.
type loss struct {
	at      time.Duration
	session int
	node    string
	what    string
}

// identities makes the certificates of all nodes that a plan may have. Each run of a plan has a copy: making them
// anew would cost as much as the run.
func identities(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of virtual time
	ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "farm", 10*365*24*time.Hour, begin)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if _, err := ca.Issue(filepath.Join(dir, name), name, 365*24*time.Hour, begin); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// simulate runs a plan to its end, with the certificates in from, in virtual time.
func simulate(t *testing.T, from string, p *plan) *simulation {
	t.Helper()
	dir := t.TempDir()
	for _, name := range p.nodes {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(from, name))); err != nil {
			t.Fatal(err)
		}
	}
	s := &simulation{plan: p, padding: bytes.Repeat([]byte{'.'}, p.padding), sites: map[string]*site{}, final: make([]string, p.sessions), born: make([]bool, p.sessions), holders: make([][]string, p.sessions)}
	begun := time.Now()
	synctest.Test(t, func(t *testing.T) {
		s.one = make(chan struct{}, 1)
		s.farm = &farm{t: t, dir: dir, net: &network{}, delay: time.Millisecond, nodes: map[string]*testNode{},
			lockWait: p.lockWait, log: &logBuffer{}, backups: 1}
		runs := map[string]int{} // under one
		s.farm.config = func(c *Config) {
			name := c.Certs.Self().Node
			runs[name]++
			c.Instance = drawFrom(p.seed, fmt.Sprint("run ", runs[name], " of ", name)).Uint64() | 1
		}
		if p.journals {
			s.farm.journals = 100 * time.Millisecond
		}
		switch p.kind {
		case simCrashes:
			s.farm.sync = store.SyncStrict
		case simJournals:
			s.farm.backups, s.farm.journals = 0, -1
		}
		defer func() {
			for _, n := range s.nodes {
				n.stop()
				s.ended = append(s.ended, n.store)
				s.doubts += int(counter(t, n.mesh.metrics.handovers, outgoing, "doubt"))
			}
		}()
		s.live()
		s.lasted = s.now()
	})
	s.took = time.Since(begun)
	return s
}

func (s *simulation) now() time.Duration { return time.Since(s.begun) }

func (s *simulation) until(at time.Duration) { time.Sleep(at - s.now()) }

func (s *simulation) key(session int) string { return keyOf(session) }

// live is the whole run.
func (s *simulation) live() {
	var all []*testNode
	for _, name := range s.plan.nodes {
		s.sites[name] = &site{}
		all = append(all, s.open(name))
	}
	s.linked(all...)
	s.begun = time.Now()
	w := newWeather(s.plan)
	s.net.losing(w.lose)
	s.net.delaying(w.delay)

	first := s.client(0)
	var pages sync.WaitGroup
	for i, at := range s.plan.born {
		if s.born[i] = at < 0; !s.born[i] {
			pages.Go(func() { s.client(1000+i).come(i, at) })
		}
	}
	for i := range len(s.plan.nodes) * s.plan.clients {
		pages.Go(s.client(i + 1).visit)
	}
	for _, d := range s.plan.deeds {
		pages.Go(func() { s.do(d) })
	}
	for _, t := range s.plan.troubles {
		if t.what == "break" {
			pages.Go(func() { s.breakLinks(t) })
		}
	}
	pages.Wait()
	end := s.plan.load
	for _, t := range s.plan.troubles {
		end = max(end, t.to)
	}
	s.until(end)
	all = nil
	for _, n := range s.nodes {
		all = append(all, n)
	}
	s.linked(all...)
	for i := range s.final {
		s.holders[i] = s.settled(i)
		s.final[i] = first.inTheEnd(i)
	}
}

// settled waits until one node holds a session, and says who does. One that nobody holds may be a backup that is
// promoted in some seconds, or when somebody asks.
func (s *simulation) settled(session int) (names []string) {
	for i := range 400 {
		time.Sleep(100 * time.Millisecond)
		names = s.farm.holders(s.key(session))
		if len(names) == 0 && i >= 100 || len(names) == 1 && s.nodes[names[0]].store.Stats().Doubts == 0 {
			return names
		}
	}
	return names
}

// open starts a node.
func (s *simulation) open(name string) *testNode {
	s.one <- struct{}{}
	defer func() { <-s.one }()
	var others []string
	for _, o := range s.plan.nodes {
		if o != name {
			others = append(others, o)
		}
	}
	n := s.start(name, others...)
	n.store.SetClockOffset(s.plan.skew[slices.Index(s.plan.nodes, name)])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sites[name].run, s.sites[name].leaving = &run{node: n}, false
	return n
}

// breakLinks ends the links between two nodes again and again, as a silent node's are ended, whatever is under
// way on them.
func (s *simulation) breakLinks(t trouble) {
	d := drawFrom(s.plan.seed, t.String())
	for s.until(t.from); s.now() < t.to; time.Sleep(d.time(10*time.Millisecond, 600*time.Millisecond)) {
		s.mu.Lock()
		r := s.sites[t.nodes[0]].run
		s.mu.Unlock()
		if r == nil {
			continue
		}
		if l := r.node.mesh.linkTo(t.nodes[1]); l != nil {
			l.close(closeSuspect, "broken by a fault")
		}
	}
}

// do ends a node and starts it again, unless it does not run, or two others do not, or it is to hand its sessions over and
// is linked with nobody who could take them.
func (s *simulation) do(d deed) {
	s.until(d.at)
	s.mu.Lock()
	at := s.sites[d.node]
	r := at.run
	if r == nil || at.leaving || s.down == 2 || d.what == "stop" && !s.hasHeir(r.node) {
		s.mu.Unlock()
		return
	}
	at.leaving = true
	s.down++
	s.mu.Unlock()
	n := r.node
	if d.what == "crash" {
		s.lose(n, "crash")
		s.mu.Lock()
		r.crashed, at.run = true, nil
		s.mu.Unlock()
		s.end(n.kill)
	} else {
		s.stopInOrder(n, at, r, d.lingers)
		s.end(n.stop)
	}
	s.mu.Lock()
	s.ended = append(s.ended, n.store)
	s.doubts += int(counter(s.t, n.mesh.metrics.handovers, outgoing, "doubt"))
	s.did = append(s.did, d.what)
	s.mu.Unlock()
	time.Sleep(d.back)
	s.open(d.node)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down--
}

// hasHeir tells whether a node is linked with another one that stays. s.mu is held.
func (s *simulation) hasHeir(n *testNode) bool {
	for name, at := range s.sites {
		if at.run != nil && !at.leaving && n.mesh.linkTo(name) != nil {
			return true
		}
	}
	return false
}

func (s *simulation) end(how func()) {
	s.one <- struct{}{}
	defer func() { <-s.one }()
	how()
}

// stopInOrder stops a node as its program does: it hands everything over, requests that are under way are
// answered, and it says good-bye. It answers for a while when the sessions have gone.
func (s *simulation) stopInOrder(n *testNode, at *site, r *run, lingers time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	derr := n.mesh.Drain(ctx, func(DrainProgress) {}) // what it left behind is tried once more below
	time.Sleep(lingers)
	s.mu.Lock()
	at.run = nil
	s.mu.Unlock()
	r.busy.Wait()
	if err := n.mesh.GoodBye(ctx); err != nil {
		s.mu.Lock()
		s.failed = append(s.failed, fmt.Sprintf("%s at %v: %v, %v", n.name, s.now(), derr, err))
		s.mu.Unlock()
		s.lose(n, "stop")
	}
}

// lose notes which sessions end with a node, as far as that node knows.
func (s *simulation) lose(n *testNode, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.plan.sessions {
		if n.holds(s.key(i)) {
			s.losses = append(s.losses, loss{s.now(), i, n.name, what})
		}
	}
}

// conflicts is how many stale copies were dropped, in the whole farm.
func (s *simulation) conflicts() (n int) {
	for _, st := range s.ended {
		n += int(st.Stats().Conflicts)
	}
	return n
}
