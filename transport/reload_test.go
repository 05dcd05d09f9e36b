package transport

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/certs"
	"peerstate/store"
)

// newCA makes another CA for the farm.
func (f *farm) newCA(name string) *certs.CA {
	f.t.Helper()
	ca, err := certs.CreateCA(filepath.Join(f.dir, name), "farm", 10*365*24*time.Hour, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	return ca
}

// files is where a node's certificates are.
func (n *testNode) files() string { return filepath.Join(n.farm.dir, n.host) }

// trust lets a node trust the CAs in these directories, from now on and without being started anew.
func (n *testNode) trust(cas ...string) {
	n.farm.t.Helper()
	n.farm.bundle(n.host, cas...)
	n.reload()
}

// bundle writes whom a machine trusts.
func (f *farm) bundle(host string, cas ...string) {
	f.t.Helper()
	var all []byte
	for _, ca := range cas {
		pem, err := os.ReadFile(filepath.Join(f.dir, ca, certs.CACert))
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, pem...)
	}
	if err := certs.WriteFile(filepath.Join(f.dir, host, certs.CACert), all); err != nil {
		f.t.Fatal(err)
	}
}

// certify gives a node another certificate, while it runs.
func (n *testNode) certify(ca *certs.CA) {
	n.farm.t.Helper()
	n.newFiles(ca)
	n.reload()
}

func (n *testNode) newFiles(ca *certs.CA) {
	n.farm.t.Helper()
	dir := filepath.Join(n.farm.t.TempDir(), n.name)
	if _, err := ca.Issue(dir, n.name, 365*24*time.Hour, time.Now()); err != nil {
		n.farm.t.Fatal(err)
	}
	n.copyFiles(dir)
}

// install gives a node the certificate in a directory, while it runs.
func (n *testNode) install(dir string) {
	n.farm.t.Helper()
	n.copyFiles(dir)
	n.reload()
}

func (n *testNode) copyFiles(dir string) {
	n.farm.t.Helper()
	for _, name := range []string{certs.NodeCert, certs.NodeKey} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = certs.WriteFile(filepath.Join(n.files(), name), data)
		}
		if err != nil {
			n.farm.t.Fatal(err)
		}
	}
}

func (n *testNode) reload() {
	n.farm.t.Helper()
	s, err := certs.Load(n.files(), time.Now())
	if err == nil {
		err = n.mesh.SetCerts(s)
	}
	if err != nil {
		n.farm.t.Fatal(err)
	}
}

// renewed fails the test unless, within so long, there is exactly one link between each two of the nodes, the same at both
// ends, and each knows the other by the certificate that is in force there.
func (f *farm) renewed(within time.Duration, nodes ...*testNode) {
	f.t.Helper()
	var err error
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		if err = renewedNow(nodes); err == nil {
			return
		}
		if time.Now().After(end) {
			f.t.Errorf("after %v: %v", within, err)
			return
		}
	}
}

func renewedNow(nodes []*testNode) error {
	for _, a := range nodes {
		for _, b := range nodes {
			if a == b {
				continue
			}
			x, y := a.mesh.direct(b.name), b.mesh.direct(a.name)
			if x == nil && y == nil {
				continue // not all are linked with all
			}
			if x == nil || y == nil || x.dialled == y.dialled || x.generation != y.generation {
				return fmt.Errorf("%s and %s do not use the same link", a.name, b.name)
			}
			a.mesh.mu.Lock()
			all := len(a.mesh.linksTo(x.node))
			a.mesh.mu.Unlock()
			if all != 1 {
				return fmt.Errorf("%s has %d links to %s", a.name, all, b.name)
			}
			if want := b.mesh.Certs().Self().Serial; x.peer.Serial != want || y.mine != want || a.peer(b.name).Cert.Serial != want {
				return fmt.Errorf("%s knows %s by the certificate %s, and that of it is %s", a.name, b.name, x.peer.Serial, want)
			}
		}
	}
	return nil
}

// load moves sessions about between nodes until stopped, and fails for each request that does not get the right
// answer, or takes longer than some round trips.
type load struct {
	farm  *farm
	late  time.Duration
	stop  chan struct{}
	all   sync.WaitGroup
	mu    sync.Mutex
	done  int
	worst time.Duration
	bad   []string
}

func (f *farm) loaded(late time.Duration, nodes ...*testNode) *load {
	f.t.Helper()
	l := &load{farm: f, late: late, stop: make(chan struct{})}
	for w := range 6 {
		key := keyOf(1000 + w)
		if a := nodes[0].put(key, "0", 0); a.Status != store.OK {
			f.t.Fatalf("put: %d", a.Status)
		}
		l.all.Go(func() { l.work(key, w, nodes) })
	}
	// Nobody is ever seen as not up.
	l.all.Go(func() {
		for l.pause(2 * time.Millisecond) {
			for _, n := range nodes {
				for _, p := range n.mesh.Peers() {
					if p.State != Up || p.Hops == 0 {
						l.fail("%s sees %s %s: %s", n.name, p.Node, p.State, p.Reason)
					}
				}
			}
		}
	})
	return l
}

func (l *load) work(key string, seed int, nodes []*testNode) {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := 0; l.pause(time.Duration(r.IntN(7)) * time.Millisecond); i++ {
		n := nodes[r.IntN(len(nodes))]
		var got store.Answer
		d := took(func() { got = n.acquire(key) })
		l.check(n, "acquire", d, got, fmt.Sprint(i))
		d = took(func() { got = n.put(key, fmt.Sprint(i+1), got.Cookie) })
		l.check(n, "put", d, got, "")
		if got := nodes[r.IntN(len(nodes))].get(key + "x"); got.Status != store.NotFound {
			l.fail("a miss: status %d", got.Status)
		}
	}
}

func (l *load) pause(d time.Duration) bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (l *load) check(n *testNode, what string, d time.Duration, got store.Answer, body string) {
	if got.Status != store.OK || string(got.Body) != body || d > l.late {
		l.fail("%s on %s: status %d, %q instead of %q, after %v", what, n.name, got.Status, got.Body, body, d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	l.worst = max(l.worst, d)
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bad) < 20 {
		l.bad = append(l.bad, fmt.Sprintf(format, args...))
	}
}

// end stops the load and says what has gone wrong.
func (l *load) end() {
	l.farm.t.Helper()
	close(l.stop)
	l.all.Wait()
	if len(l.bad) > 0 {
		l.farm.t.Errorf("of %d requests: %s", l.done, strings.Join(l.bad, "\n"))
	}
	if l.done < 40 {
		l.farm.t.Errorf("only %d requests", l.done)
	}
}

// quiet fails if a node has logged a warning or an error since the log had that length.
func (f *farm) quiet(since int) {
	f.t.Helper()
	synctest.Wait()
	for line := range strings.Lines(f.log.String()[since:]) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			f.t.Errorf("logged: %s", line)
		}
	}
}

// parted counts how often nodes were not up for each other.
func parted(nodes []*testNode) (n int) {
	for _, a := range nodes {
		a.mesh.mu.Lock()
		for _, o := range a.mesh.nodes {
			n += o.parted
			if !o.met {
				n += 1000
			}
		}
		a.mesh.mu.Unlock()
	}
	return n
}

func TestLinksFollowARenewedCertificateWithoutOneRequestFailedOrLate(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		time.Sleep(2 * time.Second)
		before, since := parted(nodes), len(f.log.String())
		l := f.loaded(62*time.Millisecond, nodes...)
		time.Sleep(time.Second)
		for round := range 3 {
			for _, n := range nodes {
				n.certify(f.ca)
				f.renewed(2*time.Second, nodes...)
			}
			if g := nodes[0].mesh.direct("b").generation; g != uint64(2*round+2) {
				t.Errorf("generation %d after %d renewals of both ends", g, 2*round+2)
			}
		}
		l.end()
		f.safe()
		f.quiet(since)
		if n := parted(nodes); n != before {
			t.Errorf("nodes have parted, or have not met: %d, %d before", n, before)
		}
		lines := 0
		for _, n := range nodes {
			for _, line := range f.log.lines(n.host, "level=INFO") {
				if strings.Contains(f.log.String()[since:], line) {
					lines++
				}
			}
		}
		if lines != 9 {
			t.Errorf("%d lines are logged for 9 renewals", lines)
		}
	})
}

func TestBothEndsMayRenewTheirCertificatesAtTheSameMoment(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				r := rand.New(rand.NewPCG(seed, 7))
				slowest := 60
				if seed%4 == 3 {
					slowest = 600 // longer than a replaced link has to be quiet
				}
				ms := func(n int) time.Duration { return time.Duration(1+r.IntN(n)) * time.Millisecond }
				delays := map[string]time.Duration{}
				for _, from := range "abc" {
					for _, to := range "abc" {
						delays[addrOf(string(from)).String()+addrOf(string(to)).String()] = ms(slowest)
					}
				}
				f.net.delaying(func(from, to string) time.Duration { return delays[from+to] })
				nodes := f.backedUp(1, "a", "b", "c")
				time.Sleep(2 * time.Second)
				before, since := parted(nodes), len(f.log.String())
				l := f.loaded(time.Duration(7*slowest)*time.Millisecond, nodes...)
				var all sync.WaitGroup
				for _, n := range nodes {
					pauses := []time.Duration{ms(200), ms(100), ms(60), ms(30)}
					pauses = pauses[:1+r.IntN(4)]
					all.Go(func() {
						for _, d := range pauses {
							time.Sleep(d)
							n.certify(f.ca)
						}
					})
				}
				all.Wait()
				f.renewed(20*time.Second, nodes...)
				l.end()
				f.quiet(since)
				if n := parted(nodes); n != before {
					t.Errorf("nodes have parted, or have not met: %d, %d before", n, before)
				}
			})
		})
	}
}

func TestAFarmChangesItsCAByHandWithoutOneRequestFailed(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		time.Sleep(2 * time.Second)
		since := len(f.log.String())
		next := f.newCA("ca2")
		l := f.loaded(62*time.Millisecond, nodes...)
		for _, n := range nodes {
			n.trust("ca", "ca2")
			time.Sleep(100 * time.Millisecond)
		}
		for _, n := range nodes {
			n.certify(next)
			f.renewed(2*time.Second, nodes...)
		}
		for _, n := range nodes {
			n.trust("ca2")
			time.Sleep(300 * time.Millisecond)
		}
		f.renewed(2*time.Second, nodes...)
		l.end()
		f.quiet(since)
		// And one that starts now gets in with the new CA only.
		if _, err := next.Issue(filepath.Join(f.dir, "d"), "d", time.Hour, time.Now()); err != nil {
			t.Fatal(err)
		}
		f.linked(append(nodes, f.startOn("d", "a"))...)
	})
}

func TestWhoIsNoLongerTrustedIsCutAtOnceAndStaysOut(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a", "b")
		f.linked(a, b, c)
		next := f.newCA("ca2")
		for _, n := range []*testNode{a, b, c} {
			n.trust("ca", "ca2")
		}
		a.certify(next)
		b.certify(next)
		f.renewed(2*time.Second, a, b, c)
		begun := time.Now()
		a.trust("ca2")
		b.trust("ca2")
		for _, n := range []*testNode{a, b} {
			n.mesh.mu.Lock()
			for conn, l := range n.mesh.conns {
				if l.peer.Node == "c" && conn.Context().Err() == nil {
					t.Errorf("%s has a live connection with c", n.name)
				}
			}
			n.mesh.mu.Unlock()
		}
		time.Sleep(f.delay + time.Millisecond)
		synctest.Wait()
		for _, n := range []*testNode{a, b} {
			if n.mesh.direct("c") != nil || c.mesh.direct(n.name) != nil {
				t.Errorf("%s and c are linked %v after c ceased to be trusted", n.name, time.Since(begun))
			}
			f.wantLogged(n.host, "level=ERROR", "a peer's certificate is no longer accepted", "peer=c")
			f.wantLogged("c", "level=WARN", "a link has ended", "peer="+n.name, "certificate no longer accepted: "+certs.AnotherCA.String())
		}
		for range 120 {
			time.Sleep(time.Second)
			if a.mesh.direct("c") != nil || b.mesh.direct("c") != nil || c.mesh.linkTo("a") != nil {
				t.Fatal("c has come back")
			}
		}
		// It comes back at once with a certificate that is trusted.
		c.certify(next)
		f.renewed(2*time.Second, a, b)
		time.Sleep(2*dialSoon + 10*f.delay)
		if a.mesh.direct("c") == nil || b.mesh.direct("c") == nil {
			t.Errorf("c is not linked soon after it has got a new certificate:\n%s", f.log)
		}
	})
}

func TestCertificatesOfAnotherNodeAreRefusedAndTheOldStayInForce(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		before, link := a.mesh.Certs(), a.mesh.direct("b")
		other, err := certs.CreateCA(filepath.Join(f.dir, "other"), "shop", time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Issue(filepath.Join(f.dir, "x"), "a", time.Hour, time.Now()); err != nil {
			t.Fatal(err)
		}
		for host, says := range map[string]string{"b": `the node "b"`, "x": `the farm "shop"`} {
			s, err := certs.Load(filepath.Join(f.dir, host), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := a.mesh.SetCerts(s); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("SetCerts said %v", err)
			}
		}
		since := len(f.log.String())
		a.reload() // the same files
		time.Sleep(time.Second)
		if a.mesh.direct("b") != link || a.mesh.Certs().Self() != before.Self() {
			t.Error("the link was replaced")
		}
		if strings.Contains(f.log.String()[since:], "level=INFO") {
			t.Errorf("logged: %s", f.log.String()[since:])
		}
	})
}
