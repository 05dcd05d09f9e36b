package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// journalled gives a node a data directory.
func (f *farm) journalled(name string, env ...string) *node {
	f.t.Helper()
	n := f.node(name, env...)
	n.env = append(n.env, "PEERSTATE_DATA_DIR="+filepath.Join(f.dir, name+"-data"))
	return n
}

// alone makes a node without peers.
func (n *node) alone() *node {
	n.env = append(n.env, "PEERSTATE_CERT_DIR=", "PEERSTATE_PEERS=")
	return n
}

// A node that is alone is killed again and again while visitors write; with "always" each answer holds.
func TestANodeThatIsKilledHasEachWriteThatItAnswered(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london := f.journalled("london", "PEERSTATE_DATA_SYNC=always").alone()
	london.start()
	const visitors = 8
	last := make([]int, visitors)
	for range 3 {
		var all sync.WaitGroup
		for v := range visitors {
			w := london.connect()
			all.Go(func() {
				for {
					a, err := w.request("PUT", fmt.Sprint("visitor", v), fmt.Sprint(last[v]+1))
					if err != nil || a.status != 200 {
						return // it was killed
					}
					last[v]++
				}
			})
		}
		time.Sleep(300 * time.Millisecond) // of load
		london.kill()
		all.Wait()
		london.restart()
		for v := range visitors {
			a := london.do("GET", fmt.Sprint("visitor", v), "")
			// One more may have been written whose answer did not come.
			if a.status != 200 || a.body != fmt.Sprint(last[v]) && a.body != fmt.Sprint(last[v]+1) {
				t.Fatalf("visitor %d: %d %q, want %d", v, a.status, a.body, last[v])
			}
			if a.body == fmt.Sprint(last[v]+1) {
				last[v]++
			}
		}
	}
	if last[0] < 3 {
		t.Errorf("only %d writes", last[0])
	}
}

func TestANodeThatIsKilledServesItsLocksAgain(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london := f.journalled("london").alone()
	london.start()
	london.want(200, "", "PUT", "visitor", "cart")
	london.want(200, "", "PUT", "gone", "cart")
	london.want(200, "", "DELETE", "gone", "")
	lock := london.want(200, "cart", "GET", "visitor", "", acquire)
	f.until("on disk", func() bool { return london.metric("peerstate_journal_unsynced_bytes") == 0 })
	if london.metric("peerstate_journal_bytes") == 0 {
		t.Error("the journal has no size")
	}
	london.kill()
	london.restart()
	london.want(404, "", "GET", "gone", "")
	again := london.want(423, "", "GET", "visitor", "", acquire)
	if cookie(again) != cookie(lock) {
		t.Errorf("the lock has %s, had %s", cookie(again), cookie(lock))
	}
	london.want(200, "", "PUT", "visitor", "fuller cart", cookie(lock))
	london.want(200, "fuller cart", "GET", "visitor", "")
	london.stop()
	london.restart()
	london.want(200, "fuller cart", "GET", "visitor", "")
}

func TestAFarmThatIsKilledAsAWholeHasItsSessionsAgain(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.journalled("london"), f.journalled("tokyo")
	f.startBoth(london, tokyo)
	for i := range 20 {
		[]*node{london, tokyo}[i%2].want(200, "", "PUT", fmt.Sprint("visitor", i), fmt.Sprint("cart ", i))
	}
	london.want(200, "cart 1", "GET", "visitor1", "")
	london.want(200, "", "DELETE", "visitor2", "")
	for _, n := range []*node{london, tokyo} {
		f.until("on disk", func() bool { return n.metric("peerstate_journal_unsynced_bytes") == 0 })
	}
	f.safe(london, tokyo)
	london.kill()
	tokyo.kill()
	london.restart()
	tokyo.restart()
	f.linked(london, tokyo)
	for i := range 20 {
		if i == 2 {
			tokyo.missing("visitor2")
			continue
		}
		tokyo.served(fmt.Sprint("visitor", i), fmt.Sprint("cart ", i))
		london.served(fmt.Sprint("visitor", i), fmt.Sprint("cart ", i))
	}
}

func TestANodeOfAFarmThatIsKilledGetsOnWithWhatTheOthersHaveMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	env := []string{"PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_DATA_SYNC=always"}
	london, tokyo := f.journalled("london", env...), f.journalled("tokyo", env...)
	f.startBoth(london, tokyo)
	for _, id := range []string{"kept", "written", "deleted"} {
		london.want(200, "", "PUT", id, "cart")
	}
	f.safe(london, tokyo)
	london.kill()
	tokyo.served("written", "cart") // from its backup
	tokyo.served("deleted", "cart")
	tokyo.want(200, "", "PUT", "written", "fuller cart")
	tokyo.want(200, "", "DELETE", "deleted", "")
	london.restart()
	f.linked(london, tokyo)
	for _, n := range []*node{london, tokyo} {
		n.served("kept", "cart")
		n.served("written", "fuller cart")
		n.missing("deleted")
	}
	f.until("ready", func() bool { return london.metric("peerstate_ready") == 1 })
}

// A node is stopped for the restart of its machine: nothing is handed over, and nothing lost.
func TestAStopThatKeepsLeavesTheSessionsInTheJournal(t *testing.T) {
	needsCtrlC(t)
	t.Parallel()
	f := newFarm(t)
	env := []string{"PEERSTATE_ON_STOP=keep", "PEERSTATE_BACKUPS=0"}
	london, tokyo := f.journalled("london", env...), f.journalled("tokyo", env...)
	f.startBoth(london, tokyo)
	for i := range 20 {
		london.want(200, "", "PUT", fmt.Sprint("visitor", i), "cart")
	}
	london.stop()
	if !strings.Contains(london.log.String(), "the sessions stay in the journal") || !strings.Contains(london.log.String(), "sessions=20 ") {
		t.Errorf("london's log does not say that its sessions stay:\n%s", london.log)
	}
	if s, err := tokyo.status(); err != nil || s.Sessions.Active != 0 {
		t.Errorf("tokyo has %d sessions, %v", s.Sessions.Active, err)
	}
	if a := tokyo.do("GET", "visitor0", ""); a.status != 423 {
		t.Errorf("tokyo says %d", a.status)
	}
	london.restart()
	f.linked(london, tokyo)
	for i := range 20 {
		tokyo.served(fmt.Sprint("visitor", i), "cart")
	}
	london.want(200, "", "PUT", "last", "cart")
	tokyo.stop()
	london.stop()
	london.restart()
	london.served("last", "cart") // when tokyo is lost, or as it never had a copy
}

func TestTwoProcessesCannotUseOneDataDirectory(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.journalled("london").alone(), f.node("tokyo").alone()
	london.start()
	london.want(200, "", "PUT", "visitor", "cart")
	tokyo.env = append(tokyo.env, "PEERSTATE_DATA_DIR="+filepath.Join(f.dir, "london-data"))
	if out := tokyo.refused(); !strings.Contains(out, "another process uses it") {
		t.Errorf("it says %s", out)
	}
	london.want(200, "cart", "GET", "visitor", "")
	london.kill()
	paris := f.node("paris")
	paris.env = append(paris.env, "PEERSTATE_DATA_DIR="+filepath.Join(f.dir, "london-data"))
	if out := paris.refused(); !strings.Contains(out, "journal of another node") {
		t.Errorf("it says %s", out)
	}
}

// refused starts a node that must not start, and gives what it says.
func (n *node) refused() string {
	n.farm.t.Helper()
	cmd := exec.Command(program, "serve")
	cmd.Env = n.settings()
	out, err := cmd.CombinedOutput()
	if err == nil {
		n.farm.t.Fatalf("%s has started:\n%s", n.name, out)
	}
	return string(out)
}

// Three nodes that keep their sessions when they stop: a quick restart as for an upgrade, one that lasts longer than the
// grace time while others write, and a node that never comes back.
func TestAFarmWhoseNodesKeepTheirSessionsIsRestartedOneByOne(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	env := []string{"PEERSTATE_ON_STOP=keep", "PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_LOST_AFTER=4s"}
	london, tokyo, paris := f.journalled("london", env...), f.journalled("tokyo", env...), f.journalled("paris", env...)
	all := []*node{london, tokyo, paris}
	london.start(tokyo, paris)
	tokyo.start(london, paris)
	paris.start(london, tokyo)
	f.linked(all...)
	want := map[string]string{}
	for i := range 60 {
		id := fmt.Sprint("visitor", i)
		all[i%3].want(200, "", "PUT", id, "cart")
		want[id] = "cart"
	}
	f.safe(all...)
	served := func(nodes ...*node) {
		t.Helper()
		i := 0
		for id, contents := range want {
			nodes[i%len(nodes)].served(id, contents)
			i++
		}
	}
	for _, n := range all {
		n.stop()
		n.restart()
		f.until(n.name+" is ready", func() bool { return n.metric("peerstate_ready") == 1 })
		f.linked(all...)
		served(all...)
	}
	f.safe(all...)

	paris.stop()
	for i := range 60 {
		id := fmt.Sprint("visitor", i)
		n := all[i%2]
		switch i % 3 {
		case 0:
			n.served(id, want[id])
			want[id] = "fuller cart"
			n.want(200, "", "PUT", id, want[id])
		case 1:
			n.served(id, want[id])
			n.want(200, "", "DELETE", id, "")
			delete(want, id)
		}
	}
	paris.restart()
	f.until("paris is ready", func() bool { return paris.metric("peerstate_ready") == 1 })
	f.linked(all...)
	served(paris, tokyo, london)
	for i := range 20 {
		all[i%3].missing(fmt.Sprint("visitor", 1+3*i))
	}
	f.safe(all...)

	paris.kill()
	tokyo.stop()
	tokyo.restart()
	f.linked(london, tokyo)
	served(tokyo, london)
	for _, n := range []*node{london, tokyo} {
		if v := n.metric("peerstate_conflicts_total"); v != 0 {
			t.Errorf("%s has dropped %v sessions", n.name, v)
		}
	}
}
