package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// fill stores sessions of 8 KB until one is refused, which must be by a closed connection, and gives how many there are.
func (n *node) fill(prefix string) (count int) {
	n.farm.t.Helper()
	w := n.connect()
	for count < 1<<20 {
		a, err := w.request("PUT", fmt.Sprint(prefix, count), strings.Repeat("cart", 2048))
		if err != nil || a.status != 200 && a.status != 0 {
			n.farm.t.Fatalf("put %d on %s: %d, %v", count, n.name, a.status, err)
		}
		if a.status == 0 {
			return count
		}
		count++
	}
	n.farm.t.Fatal("it never refuses")
	return 0
}

// readiness is the first line of /readyz.
func (n *node) readiness() string {
	n.farm.t.Helper()
	line, _, _ := strings.Cut(string(n.get("/readyz")), "\n")
	return line
}

func TestAFullNodeRefusesNewSessionsAndServesTheOthers(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	const limit = 4 << 20
	london := f.node("london", fmt.Sprint("PEERSTATE_MAX_MEMORY=", limit)).alone()
	london.start()
	if text := string(london.get("/readyz")); text != "ready\n" {
		t.Errorf("/readyz of an empty node: %s", text)
	}
	n := london.fill("visitor")
	if used := london.metric("peerstate_memory_bytes"); used > limit || used < 0.9*limit || london.metric("peerstate_memory_limit_bytes") != limit {
		t.Errorf("%.0f bytes are used of %d", used, limit)
	}
	if kept := n * 8192; kept < limit*4/5 {
		t.Errorf("there were %d bytes of sessions in %d bytes of memory", kept, limit)
	}
	if line := london.readiness(); !strings.HasPrefix(line, "no memory left for sessions") || london.metric("peerstate_ready") != 0 {
		t.Errorf("/readyz: %s", line)
	}
	if london.metric(`peerstate_memory_refused_total{what="write"}`) != 1 || london.metric(`peerstate_requests_total{op="put",status="no_memory"}`) != 1 {
		t.Error("the refusal is not counted")
	}
	f.until("logged", func() bool { return london.logged("PEERSTATE_MAX_MEMORY") })

	contents := strings.Repeat("cart", 2048)
	w := london.connect()
	for i := range n {
		id := fmt.Sprint("visitor", i)
		a, err := w.request("GET", id, "", acquire)
		if err != nil || a.status != 200 || a.body != contents {
			t.Fatalf("acquire: %d, %v", a.status, err)
		}
		if b, err := w.request("PUT", id, contents, cookie(a)); err != nil || b.status != 200 {
			t.Fatalf("a session is written again: %d, %v", b.status, err)
		}
	}
	if a := london.do("PUT", "one-more", contents); a.status != 0 {
		t.Errorf("another new session: %d", a.status)
	}
	lock := london.want(200, contents, "GET", "visitor0", "", acquire)
	if a := london.do("PUT", "visitor0", strings.Repeat("fuller cart", 30_000), cookie(lock)); a.status != 0 {
		t.Errorf("larger contents: %d", a.status)
	}
	lock = london.want(200, contents, "GET", "visitor0", "", acquire)
	london.want(200, "", "GET", "visitor0", "", "Exclusive: release", cookie(lock))
	for i := range n / 4 {
		london.want(200, "", "DELETE", fmt.Sprint("visitor", i), "")
	}
	f.until("ready again", func() bool { return strings.HasPrefix(london.readiness(), "ready") })
	london.want(200, "", "PUT", "one-more", contents)
	london.want(200, contents, "GET", "one-more", "")
}

func TestANodeWarnsBeforeItsMemoryIsFull(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london := f.node("london", "PEERSTATE_MAX_MEMORY=4MiB").alone()
	london.start()
	for i := range 11 {
		london.want(200, "", "PUT", fmt.Sprint("visitor", i), strings.Repeat("cart", 80_000))
	}
	f.until("warned", func() bool {
		text := string(london.get("/readyz"))
		return strings.HasPrefix(text, "ready\n") && strings.Contains(text, "warning: sessions and backups take 8") && london.logged("much of the memory for sessions is used")
	})
}

// Clients that announce large sessions and send most of them, all at once, and then nothing.
func TestManyLargeSessionsAtOnceStayBelowTheLimit(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	const limit, size = 16 << 20, 2 << 20
	london := f.node("london", fmt.Sprint("PEERSTATE_MAX_MEMORY=", limit)).alone()
	london.start()
	london.want(200, "", "PUT", "visitor", "cart")
	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	part := strings.Repeat("cart", size/5)
	for i := range 100 {
		c, err := net.Dial("tcp", london.web)
		if err != nil {
			t.Fatal(err)
		}
		flood = append(flood, c)
		go func() {
			// An error says that the node has closed it, which it does for most of them.
			_, _ = fmt.Fprintf(c, "PUT %%2fapp%%2flarge%d HTTP/1.1\r\nTimeout:20\r\nContent-Length:%d\r\n\r\n%s", i, size, part)
		}()
	}
	closed := 0
	for end := time.Now().Add(20 * time.Second); closed < 90 && time.Now().Before(end); {
		if used := london.metric("peerstate_memory_bytes"); used > limit {
			t.Fatalf("%.0f bytes are used", used)
		}
		london.want(200, "cart", "GET", "visitor", "")
		london.want(200, "", "PUT", "visitor", "cart")
		closed = int(london.metric(`peerstate_requests_total{op="put",status="no_memory"}`))
	}
	if closed < 90 {
		t.Errorf("%d of 100 were turned down, there is room for 8", closed)
	}
	// By the runtime's own account, as the race detector, where the program is built with it, keeps some times as much beside.
	if has := london.metric("go_memstats_sys_bytes") - london.metric("go_memstats_heap_released_bytes"); has > limit*5/4+128<<20 {
		t.Errorf("the program has %.0f bytes of memory", has)
	}
	if resident := london.metric("process_resident_memory_bytes"); len(buildFlags) == 0 && resident > limit*5/4+128<<20 {
		t.Errorf("the process has %.0f bytes", resident)
	}
	for _, c := range flood {
		c.Close()
	}
	f.until("let go", func() bool { return london.metric("peerstate_memory_bytes") < 1<<20 })
	london.want(200, "", "PUT", "large", strings.Repeat("cart", size/4))
}

// Of three nodes one has no memory left: the others make their backups with each other, and serve what it has.
func TestTheBackupsThatAFullNodeRefusesGoToTheNext(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	env := []string{"PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_BACKUP_SYNC=on"}
	london, tokyo, paris := f.node("london", env...), f.node("tokyo", append(env, "PEERSTATE_MAX_MEMORY=4MiB")...), f.node("paris", env...)
	london.start(tokyo, paris)
	tokyo.start(london, paris)
	paris.start(london, tokyo)
	f.linked(london, tokyo, paris)
	of := tokyo.fill("of-tokyo")
	const many = 300
	w := london.connect()
	for i := range many {
		if a, err := w.request("PUT", fmt.Sprint("of-london", i), strings.Repeat("cart", 2048)); err != nil || a.status != 200 {
			t.Fatalf("put: %d, %v", a.status, err)
		}
	}
	f.safe(london, tokyo)
	if kept := paris.metric("peerstate_backups_kept"); int(kept) < many {
		t.Errorf("paris keeps %.0f backups, want all %d of london's at least", kept, many)
	}
	if used := tokyo.metric("peerstate_memory_bytes"); used > 4<<20 {
		t.Errorf("tokyo uses %.0f bytes", used)
	}
	tokyo.served("of-tokyo0", strings.Repeat("cart", 2048))
	for i := range of {
		paris.served(fmt.Sprint("of-tokyo", i), strings.Repeat("cart", 2048)) // makes room on tokyo
	}
	tokyo.want(200, "", "PUT", "new-on-tokyo", "cart")
	london.kill()
	for i := range many {
		paris.served(fmt.Sprint("of-london", i), strings.Repeat("cart", 2048))
	}
}

// A session that a full node has no room for stays with its holder, through which it is changed; it is never missing.
func TestASessionThatAFullNodeHasNoRoomForIsNeverMissing(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.node("london", "PEERSTATE_BACKUPS=0"), f.node("tokyo", "PEERSTATE_BACKUPS=0", "PEERSTATE_MAX_MEMORY=4MiB")
	f.startBoth(london, tokyo)
	large := strings.Repeat("cart", 50_000)
	london.want(200, "", "PUT", "visitor", large)
	n := tokyo.fill("of-tokyo")
	if a := tokyo.do("GET", "visitor", "", acquire); a.status != 423 {
		t.Errorf("acquire: %d", a.status)
	}
	tokyo.want(200, "", "HEAD", "visitor", "")
	lock := london.want(200, large, "GET", "visitor", "", acquire)
	tokyo.want(200, "", "PUT", "visitor", large+"!", cookie(lock))
	london.want(200, large+"!", "GET", "visitor", "")
	for i := range n / 2 {
		tokyo.want(200, "", "DELETE", fmt.Sprint("of-tokyo", i), "")
	}
	tokyo.served("visitor", large+"!")
	tokyo.want(200, "", "DELETE", "visitor", "")
	london.missing("visitor")
}

// london stops. tokyo has hardly any room and keeps the backups of a part of london's sessions, paris has room.
func TestADrainToANearlyFullNodeLosesNothing(t *testing.T) {
	t.Parallel()
	for _, nodes := range []string{"london tokyo paris", "london tokyo"} {
		t.Run(nodes, func(t *testing.T) {
			t.Parallel()
			f := newFarm(t)
			names := strings.Fields(nodes)
			london, tokyo := f.node("london"), f.node("tokyo", "PEERSTATE_MAX_MEMORY=8MiB")
			all := []*node{london, tokyo}
			if len(names) == 3 {
				all = append(all, f.node("paris"))
			}
			for _, n := range all {
				n.start(all...)
			}
			f.linked(all...)
			const many = 300
			contents := strings.Repeat("cart", 2048)
			w := london.connect()
			for i := range many {
				if a, err := w.request("PUT", fmt.Sprint("of-london", i), contents); err != nil || a.status != 200 {
					t.Fatalf("put: %d, %v", a.status, err)
				}
			}
			f.safe(london)
			tokyo.fill("of-tokyo")
			lock := london.want(200, contents, "GET", "of-london7", "", acquire)
			london.stop()
			tokyo.want(200, "", "PUT", "of-london7", contents, cookie(lock))
			for i := range many {
				all[len(all)-1].served(fmt.Sprint("of-london", i), contents)
			}
			if s := tokyo.state("london"); s != "drained" {
				t.Errorf("london is %s", s)
			}
			if used := tokyo.metric("peerstate_memory_bytes"); used > 8<<20 {
				t.Errorf("tokyo uses %.0f bytes", used)
			}
		})
	}
}

// What no other node has room for is said with its number, and the node does not call itself drained.
func TestADrainSaysWhatTheOthersHaveNoMemoryFor(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	env := []string{"PEERSTATE_BACKUPS=0", "PEERSTATE_DRAIN_TIMEOUT=2s"}
	london, tokyo := f.node("london", env...), f.node("tokyo", append(env, "PEERSTATE_MAX_MEMORY=2MiB")...)
	f.startBoth(london, tokyo)
	for i := range 20 {
		london.want(200, "", "PUT", fmt.Sprint("visitor", i), strings.Repeat("cart", 80_000))
	}
	if err := london.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Skipf("no signals here: %v", err)
	}
	<-london.ended
	london.ended <- nil
	if !london.logged("no memory is left for them on tokyo") {
		t.Error("it does not say why sessions are left")
	}
	if n, s := tokyo.metric("peerstate_sessions_active"), tokyo.state("london"); n < 3 || n > 6 || s == "drained" {
		t.Errorf("tokyo has %.0f sessions, and london is %s", n, s)
	}
}
