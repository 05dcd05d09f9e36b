package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"peerstate/proxy/upstream/aspnetstate"
	"peerstate/store"
)

// aspnetState starts a stand-in for Microsoft's service. At the end nothing may have come that the real client does not send.
func (f *farm) aspnetState() *aspnetstate.Server {
	f.t.Helper()
	s, err := aspnetstate.Start()
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.t.Error(err)
		}
		for _, w := range s.Wrong() {
			f.t.Errorf("the old server was sent %s", w)
		}
	})
	return s
}

// keyOf is the key under which the old server has a session.
func keyOf(id string) []byte { return []byte("LM/W3SVC/1/ROOT(aGFzaA==)/" + id) }

// counters are sessions with a number each, to which visitors add one with each page.
type counters struct {
	t    *testing.T
	n    int
	made []atomic.Int64 // additions that were answered
	// perhaps are those that were sent and not answered.
	perhaps []atomic.Int64
	// gone tells whether a page of this node may come too late, when others have the sessions; nil: it may not.
	gone func(*node) bool
}

func newCounters(t *testing.T, n int) *counters {
	return &counters{t: t, n: n, made: make([]atomic.Int64, n), perhaps: make([]atomic.Int64, n)}
}

func (c *counters) id(i int) string { return fmt.Sprint("counter", i) }

// visit has a visitor's pages run on whichever server where gives, until stop is closed. The visitor begins with counter v.
func (c *counters) visit(v int, stop <-chan struct{}, where func() *node) {
	for turn := v; ; turn++ {
		select {
		case <-stop:
			return
		default:
		}
		i := turn % c.n
		n := where()
		ok, unsure := n.addOneUnless(func() bool { return c.gone != nil && c.gone(n) }, c.t, c.id(i))
		if ok {
			c.made[i].Add(1)
		}
		if unsure {
			c.perhaps[i].Add(1)
		}
	}
}

// check looks at the counters in the end.
func (c *counters) check(f *farm, n *node) {
	c.t.Helper()
	total := int64(0)
	for i := range c.n {
		var a answer
		f.until("there", func() bool {
			a = n.do("GET", c.id(i), "")
			if a.status == 423 && a.header["LockCookie"] != "0" { // of a page whose node was killed
				n.do("GET", c.id(i), "", "Exclusive: release", cookie(a))
			}
			if a.status == 404 {
				c.t.Fatalf("%s has no %s", n.name, c.id(i))
			}
			return a.status == 200
		})
		got, err := strconv.ParseInt(a.body, 10, 64)
		if made := c.made[i].Load(); err != nil || got < made || got > made+c.perhaps[i].Load() {
			c.t.Errorf("counter %d is %q after %d additions and %d without an answer", i, a.body, made, c.perhaps[i].Load())
		}
		total += got
	}
	c.t.Logf("%d additions", total)
}

// All web servers change from the old server to the farm at one moment, while their visitors' pages run, and there is other load
// on the farm. Pages that have begun end on the old server.
func TestVisitorsCountOnThroughAMigration(t *testing.T) {
	f := newFarm(t)
	old := f.node("old").alone()
	old.start()
	nodes := f.mesh("PEERSTATE_UPSTREAM=" + old.web)
	c := newCounters(t, 30)
	for i := range c.n {
		old.want(200, "", "PUT", c.id(i), "0")
	}
	load := exec.Command(program, "bench", "--to", nodes[0].web+","+nodes[1].web, "--connections", "2", "--duration", "4s", "--json")
	out := &output{}
	load.Stdout, load.Stderr = out, out
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	var switched atomic.Bool
	c.gone = func(n *node) bool { return n == old && switched.Load() } // it had chosen the old server just before
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	for v := range 8 {
		turn := v
		visitors.Go(func() {
			c.visit(5*v, stop, func() *node {
				turn++
				if switched.Load() {
					return nodes[turn%3]
				}
				return old
			})
		})
	}
	time.Sleep(time.Second)
	switched.Store(true)
	time.Sleep(2 * time.Second)
	close(stop)
	visitors.Wait()
	if err := load.Wait(); err != nil {
		t.Errorf("bench: %v: %s", err, out)
	}
	c.check(f, nodes[0])
	for i := range c.n {
		if c.perhaps[i].Load() > 0 {
			t.Errorf("a write to counter %d was not answered", i)
		}
	}
	f.until("gone from the old server", func() bool { return old.metric("peerstate_sessions_active") == 0 })
	taken := 0.0
	for _, n := range nodes {
		taken += n.metric("peerstate_upstream_sessions_total")
	}
	if taken != float64(c.n) {
		t.Errorf("%v sessions were taken over, of %d", taken, c.n)
	}
	nodes[0].want(404, "", "GET", "nobody", "")
}

// Nodes are killed in the middle of a migration, and started again.
func TestNothingIsLostOrDoubledWhenNodesAreKilledInTheMiddleOfAMigration(t *testing.T) {
	for name, c := range map[string]struct {
		nodes func(f *farm, upstream string) []*node
		kill  int // how many of them
	}{
		"with backups": {func(f *farm, upstream string) []*node {
			return f.mesh("PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_BACKUP_SYNC=strict", upstream)
		}, 2},
		"with a journal": {func(f *farm, upstream string) []*node {
			n := f.journalled("london", "PEERSTATE_DATA_SYNC=always", upstream).alone()
			n.start()
			return []*node{n}
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFarm(t)
			old := f.aspnetState()
			counters := newCounters(t, 200)
			for i := range counters.n {
				old.Do(store.Request{Op: store.Put, Key: keyOf(counters.id(i)), Cookie: store.NoCookie, Timeout: 20, Body: []byte("0")})
			}
			// It is slow, so that much is under way when a node is killed.
			old.On(func(store.Op) aspnetstate.Fate { return aspnetstate.Fate{Takes: 5 * time.Millisecond} })
			nodes := c.nodes(f, "PEERSTATE_UPSTREAM="+old.Addr())
			stop := make(chan struct{})
			var visitors sync.WaitGroup
			for v := range 6 {
				turn := v
				visitors.Go(func() {
					counters.visit(33*v, stop, func() *node {
						turn++
						return nodes[turn%len(nodes)]
					})
				})
			}
			for i := range c.kill {
				time.Sleep(150 * time.Millisecond)
				n := nodes[i%len(nodes)]
				n.kill()
				n.restart()
				if len(nodes) > 1 {
					// The next one is killed when each session has two copies again.
					f.linked(nodes...)
					for id := range counters.n {
						f.until("served again", func() bool { return n.do("HEAD", counters.id(id), "").status == 200 })
					}
					f.safe(nodes...)
				}
			}
			time.Sleep(time.Second)
			close(stop)
			visitors.Wait()
			counters.check(f, nodes[0])
			// What is left at the old server, because its node was killed and the session has moved on, is locked: nobody takes it again.
			for i := range counters.n {
				if a := old.Do(store.Request{Op: store.Acquire, Key: keyOf(counters.id(i)), Cookie: store.NoCookie}); a.Status == store.OK {
					t.Errorf("%s could be taken over once more", counters.id(i))
				}
			}
		})
	}
}

func TestAnOldServerThatIsOffIsWaitedForAndSpokenOf(t *testing.T) {
	f := newFarm(t)
	old := f.node("old").alone()
	old.env = append(old.env, "PEERSTATE_DATA_DIR="+f.dir+"/old-data", "PEERSTATE_ON_STOP=keep")
	old.start()
	old.want(200, "", "PUT", "visitor", "cart")
	old.env = append(old.env, "PEERSTATE_LISTEN="+old.web)
	london := f.node("london", "PEERSTATE_UPSTREAM="+old.web).alone()
	london.env = append(london.env, "PEERSTATE_DATA_DIR="+f.dir+"/london-data")
	london.start()
	old.stop()
	for _, id := range []string{"visitor", "nobody"} {
		if a := london.do("GET", id, ""); a.status != 423 {
			t.Errorf("%s: %d %q", id, a.status, a.body)
		}
		if a := london.do("PUT", id, "x", "LockCookie: 5"); a.status != 0 {
			t.Errorf("a write to %s: %d", id, a.status)
		}
	}
	london.want(200, "", "PUT", "new", "new")
	f.until("spoken of", func() bool {
		return strings.Contains(string(london.get("/readyz")), "the old state server (PEERSTATE_UPSTREAM) does not answer") &&
			london.logged("the old state server does not answer")
	})
	if up := london.metric("peerstate_upstream_up"); up != 0 {
		t.Errorf("peerstate_upstream_up is %v", up)
	}
	out, err := london.commandFor("check").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "PEERSTATE_UPSTREAM: connect to the old state server") {
		t.Errorf("check says: %v\n%s", err, out)
	}
	old.restart()
	london.served("visitor", "cart")
	london.missing("nobody")
	f.until("well again", func() bool {
		return strings.TrimSpace(string(london.get("/readyz"))) == "ready" && london.logged("the old state server answers again")
	})
	if out, err := london.commandFor("check").CombinedOutput(); err != nil || !strings.Contains(string(out), "the old state server "+old.web+" answers") {
		t.Errorf("check says: %v\n%s", err, out)
	}
	london.stop()
	old.stop()
}
