package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/quic-go/quic-go/testutils/simnet"
	"go.uber.org/goleak"

	"peerstate/certs"
	"peerstate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// farm is a number of nodes on a simulated network, in virtual time. All of a node is real but its
// network: store, mesh, QUIC, TLS, certificates, files.
type farm struct {
	t        *testing.T
	dir      string
	ca       *certs.CA
	net      *network
	delay    time.Duration // one way
	nodes    map[string]*testNode
	config   func(*Config) // changes that a test wants
	lockWait time.Duration // of all nodes' stores
	backups  int           // of each session
	sync     store.Sync
	journals time.Duration    // how often each node's journal is forced to disk; 0: there are none, negative: always
	memory   map[string]int64 // how many bytes nodes may keep, by their machines; 0: no limit
	clock    time.Duration    // how far a machine's clock is ahead when its node starts
	log      *logBuffer
}

// testNode is one run of a node.
type testNode struct {
	name  string
	host  string // the machine: the name again, unless two nodes share one
	farm  *farm
	addr  *net.UDPAddr
	link  *simnet.SimulatedLink
	store *store.Store
	mesh  *Mesh
	calm  bool // its store is closed: for tests that go on for days
}

// network carries packets between nodes, unless told otherwise.
type network struct {
	simnet.PerfectRouter
	mu    sync.Mutex
	lose  func(from, to string) bool // under mu
	sent  int
	lost  int
	delay func(from, to string) time.Duration // under mu; one way, 0: the receiver's own
	rate  int                                 // under mu; bytes a second in each direction, 0: no limit
	free  map[string]time.Time                // under mu; when a direction has sent what is queued
}

func (n *network) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	n.sent++
	lost := n.lose != nil && n.lose(p.From.String(), p.To.String())
	lost = lost || time.Until(n.free[p.From.String()+p.To.String()]) > queueLimit
	if lost {
		n.lost++
	}
	n.mu.Unlock()
	if lost {
		return nil
	}
	if err := n.PerfectRouter.SendPacket(p); err != nil {
		return nil // nobody is there: lost, as on a real network
	}
	return nil
}

// losing sets which packets are lost; nil: none.
func (n *network) losing(f func(from, to string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = f
}

// delaying sets how long packets take where that is not the receiver's own delay (0).
func (n *network) delaying(f func(from, to string) time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = f
}

// takes is how long a packet is on its way.
func (n *network) takes(p simnet.Packet, usual time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.delay != nil {
		if d := n.delay(p.From.String(), p.To.String()); d != 0 {
			usual = d
		}
	}
	if n.rate == 0 {
		return usual
	}
	direction, now := p.From.String()+p.To.String(), time.Now()
	sent := n.free[direction]
	if sent.Before(now) {
		sent = now
	}
	sent = sent.Add(time.Duration(len(p.Data)) * time.Second / time.Duration(n.rate))
	n.free[direction] = sent
	return sent.Sub(now) + usual
}

// queueLimit is how long a packet may have to wait on a narrow network before it is lost.
const queueLimit = 200 * time.Millisecond

// narrow lets so many bytes a second through, between each two nodes and in each direction.
func (n *network) narrow(rate int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rate, n.free = rate, map[string]time.Time{}
}

func (n *network) packets() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

// logBuffer keeps what all nodes log, for tests that look at it, and shows it when a test fails.
type logBuffer struct {
	mu  sync.Mutex
	all strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// lines are the lines that a machine has logged and that contain all the texts.
func (b *logBuffer) lines(host string, texts ...string) (found []string) {
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSpace(line) + " "
		ok := strings.Contains(line, " node="+host+" ")
		for _, text := range texts {
			ok = ok && strings.Contains(line, text)
		}
		if ok {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// wantLogged fails unless the machine has logged exactly one line with the texts.
func (f *farm) wantLogged(host string, texts ...string) {
	f.t.Helper()
	synctest.Wait() // a state may be seen a moment before it is logged
	if got := f.log.lines(host, texts...); len(got) != 1 {
		f.t.Errorf("%s has logged %d lines with %q, want one:\n%s", host, len(got), texts, strings.Join(got, "\n"))
	}
}

// inFarm runs f in a bubble of virtual time with an empty farm. One-way delay between nodes is 10 ms. In virtual time
// nothing takes longer because others run at the same time.
func inFarm(t *testing.T, f func(t *testing.T, farm *farm)) {
	t.Helper()
	t.Parallel()
	inFarmAlone(t, f)
}

// inFarmAlone is inFarm for tests that measure what this process has: nothing else runs meanwhile.
func inFarmAlone(t *testing.T, f func(t *testing.T, farm *farm)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "farm", 10*365*24*time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		fm := &farm{t: t, dir: dir, ca: ca, net: &network{}, delay: 10 * time.Millisecond,
			nodes: map[string]*testNode{}, log: &logBuffer{}}
		defer func() {
			for _, n := range fm.nodes {
				n.stop()
			}
			if t.Failed() || testing.Verbose() {
				t.Log(fm.log.String())
			}
		}()
		f(t, fm)
	})
}

func addrOf(name string) *net.UDPAddr {
	return &net.UDPAddr{IP: net.IPv4(10, 0, 0, name[len(name)-1]).To4(), Port: 42425}
}

// start runs a node on a machine of the same name. It dials the named machines.
func (f *farm) start(name string, peers ...string) *testNode {
	f.t.Helper()
	f.issue(name, 365*24*time.Hour)
	return f.startOn(name, peers...)
}

// issue gives a machine a certificate of its name, if it has none.
func (f *farm) issue(name string, life time.Duration) *certs.Snapshot {
	f.t.Helper()
	dir := filepath.Join(f.dir, name)
	snap, err := certs.Load(dir, time.Now())
	if err != nil {
		if _, err = f.ca.Issue(dir, name, life, time.Now()); err != nil {
			f.t.Fatal(err)
		}
		if snap, err = certs.Load(dir, time.Now()); err != nil {
			f.t.Fatal(err)
		}
	}
	return snap
}

// attach gives a machine a place on the network.
func (f *farm) attach(host string) (net.PacketConn, *simnet.SimulatedLink) {
	usual := f.delay
	link := &simnet.SimulatedLink{UploadPacket: f.net,
		LatencyFunc: func(p simnet.Packet) time.Duration { return f.net.takes(p, usual) }}
	conn := simnet.NewBlockingSimConn(addrOf(host), link)
	link.Start()
	f.net.AddNode(addrOf(host), link)
	return conn, link
}

// startOn runs a node on a machine that has a certificate.
func (f *farm) startOn(host string, peers ...string) *testNode {
	f.t.Helper()
	dir := filepath.Join(f.dir, host)
	snap, err := certs.Load(dir, time.Now().Add(f.clock))
	if err != nil {
		f.t.Fatal(err)
	}
	n := &testNode{name: snap.Self().Node, host: host, farm: f, addr: addrOf(host)}
	conn, link := f.attach(host)
	n.link = link
	log := slog.New(slog.NewTextHandler(io.MultiWriter(f.log), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", host)
	c := Config{Certs: snap, Instance: NewInstance(), Conn: conn, CertDir: dir, StateDir: filepath.Join(dir, "state"), Site: "site-" + n.name,
		FetchTimeout: 2500 * time.Millisecond, Grace: 5 * time.Second, LostAfter: time.Minute, MaxBody: 64 << 20, Backups: f.backups, Log: log}
	for _, p := range peers {
		c.Peers = append(c.Peers, addrOf(p).String())
	}
	if f.config != nil {
		f.config(&c)
	}
	grace := c.Grace
	if c.calm > 0 {
		grace = 0 // whether the process has stood still is not looked at
	}
	n.store = store.New(store.Options{Node: n.name, Instance: c.Instance, FetchTimeout: c.FetchTimeout, LockWait: f.lockWait,
		Backups: f.backups, Sync: f.sync, MaxMemory: f.memory[host], Grace: grace, Joining: true, Log: log})
	if f.journals != 0 {
		if err := n.store.OpenJournal(store.JournalOptions{Dir: n.data(), Farm: "farm", Node: n.name, Every: max(f.journals, 0)}); err != nil {
			f.t.Fatal(err)
		}
	}
	c.Store = n.store
	if n.mesh, err = New(c); err != nil {
		f.t.Fatal(err)
	}
	n.store.Join(n.mesh)
	if c.calm >= time.Minute {
		n.calm = true
		n.store.Close() // it does something each second
	}
	f.nodes[host] = n
	return n
}

// stop ends a node in good order.
func (n *testNode) stop() {
	if err := n.mesh.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		n.farm.t.Errorf("closing %s: %v", n.name, err)
	}
	if !n.calm {
		n.store.Close()
	}
	if err := n.store.CloseJournal(); err != nil {
		n.farm.t.Errorf("closing the journal of %s: %v", n.name, err)
	}
	synctest.Wait() // its last packets have left the machine
	if err := n.link.Close(); err != nil {
		n.farm.t.Errorf("closing the network of %s: %v", n.name, err)
	}
	delete(n.farm.nodes, n.host)
}

// data is where a node's journal is.
func (n *testNode) data() string { return filepath.Join(n.farm.dir, n.host, "data") }

// saveDisk copies a node's journal as it is on disk now, and gives what puts it back.
func (n *testNode) saveDisk() (restore func()) {
	if n.farm.journals == 0 {
		return func() {}
	}
	saved := filepath.Join(n.farm.t.TempDir(), "data")
	must := func(err error) {
		if err != nil {
			n.farm.t.Error(err)
		}
	}
	must(os.CopyFS(saved, os.DirFS(n.data())))
	return func() {
		must(os.RemoveAll(n.data()))
		must(os.CopyFS(n.data(), os.DirFS(saved)))
	}
}

// kill ends a node so that nobody hears a last word from it, its disk neither.
func (n *testNode) kill() {
	addr := n.addr.String()
	n.farm.net.mu.Lock()
	before := n.farm.net.lose
	n.farm.net.lose = func(from, to string) bool {
		return from == addr || to == addr || before != nil && before(from, to)
	}
	n.farm.net.mu.Unlock()
	restore := n.saveDisk() // what is written from now on, nobody hears of
	n.stop()
	restore()
	synctest.Wait()
	n.farm.net.losing(before)
}

// linked waits until the nodes are all linked with each other.
func (f *farm) linked(nodes ...*testNode) {
	f.t.Helper()
	for range 600 {
		ok := true
		for _, a := range nodes {
			for _, b := range nodes {
				ok = ok && (a == b || a.mesh.direct(b.name) != nil)
			}
		}
		if ok {
			time.Sleep(100 * time.Millisecond) // and what follows a new link is over
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.t.Fatalf("not linked after a minute:\n%s", f.log)
}

// cut loses all packets between two nodes.
func (f *farm) cut(a, b *testNode) {
	x, y := a.addr.String(), b.addr.String()
	f.net.losing(func(from, to string) bool { return from == x && to == y || from == y && to == x })
}

// split loses all packets between some nodes and all others.
func (f *farm) split(some ...*testNode) {
	in := map[string]bool{}
	for _, n := range some {
		in[n.addr.String()] = true
	}
	f.net.losing(func(from, to string) bool { return in[from] != in[to] })
}

func (f *farm) mend() { f.net.losing(nil) }

// do makes a request as the proxy does.
func (n *testNode) do(r store.Request) store.Answer {
	if a, ok := n.store.Try(&r); ok {
		return a
	}
	return n.store.Do(context.Background(), &r)
}

func (n *testNode) get(key string) store.Answer {
	return n.do(store.Request{Op: store.Get, Key: []byte(key), Cookie: store.NoCookie})
}

func (n *testNode) acquire(key string) store.Answer {
	return n.do(store.Request{Op: store.Acquire, Key: []byte(key), Cookie: store.NoCookie})
}

func (n *testNode) put(key, body string, cookie int32) store.Answer {
	return n.do(store.Request{Op: store.Put, Key: []byte(key), Cookie: cookie, Timeout: 20, Body: []byte(body)})
}

func (n *testNode) release(key string, cookie int32) store.Answer {
	return n.do(store.Request{Op: store.Release, Key: []byte(key), Cookie: cookie})
}

func (n *testNode) delete(key string, cookie int32) store.Answer {
	return n.do(store.Request{Op: store.Delete, Key: []byte(key), Cookie: cookie})
}

func (n *testNode) head(key string) store.Answer {
	return n.do(store.Request{Op: store.Head, Key: []byte(key), Cookie: store.NoCookie})
}

// holds tells whether the node holds the session.
func (n *testNode) holds(key string) bool {
	s := n.store.Settle(key, store.Version{}, "")
	return s.Kind == store.SettleMine && !s.Version.Tombstone || s.Kind == store.SettleBusy
}

// holders names the nodes that hold the session.
func (f *farm) holders(key string) (names []string) {
	for _, n := range f.nodes {
		if n.holds(key) {
			names = append(names, n.name)
		}
	}
	return names
}

func (f *farm) wantAnswer(what string, got store.Answer, status store.Status, body string) {
	f.t.Helper()
	if got.Status != status || string(got.Body) != body {
		f.t.Fatalf("%s: status %d, body %q; want status %d, body %q", what, got.Status, got.Body, status, body)
	}
}

// took measures virtual time.
func took(f func()) time.Duration {
	begun := time.Now()
	f()
	return time.Since(begun)
}

func wantTime(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want || got > want+time.Millisecond {
		t.Errorf("%s took %v, want %v and at most a millisecond more", what, got, want)
	}
}

func keyOf(i int) string {
	return fmt.Sprintf("LM/W3SVC/1/ROOT(hash=)/%024d", i)
}

// counter reads one counter of a vector.
func counter(t *testing.T, v *prometheus.CounterVec, labels ...string) float64 {
	t.Helper()
	var m dto.Metric
	if err := v.WithLabelValues(labels...).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
