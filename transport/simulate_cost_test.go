package transport

import (
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"peerstate/certs"
	"peerstate/store"
)

var simCost = flag.String("simulate.cost", "", "measure what a farm of so many nodes costs in packets and bytes: 3,10,30")

// meter counts what goes over the network.
type meter struct {
	simnet.PerfectRouter
	packets, bytes atomic.Int64
}

func (m *meter) SendPacket(p simnet.Packet) error {
	m.packets.Add(1)
	m.bytes.Add(int64(len(p.Data)))
	return m.PerfectRouter.SendPacket(p)
}

// costFarm is a farm of any size, all of whose nodes are linked with each other; 10 ms one way.
type costFarm struct {
	t     *testing.T
	net   *meter
	nodes []*testNode
}

func (f *costFarm) start(dir string, ca *certs.CA, peers []string) {
	name := fmt.Sprintf("node%03d", len(f.nodes))
	dir = filepath.Join(dir, name)
	if _, err := ca.Issue(dir, name, 365*24*time.Hour, time.Now()); err != nil {
		f.t.Fatal(err)
	}
	snap, err := certs.Load(dir, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	addr := &net.UDPAddr{IP: net.IPv4(10, 0, 1, byte(len(f.nodes)+1)).To4(), Port: 42425}
	link := &simnet.SimulatedLink{UploadPacket: f.net, Latency: 10 * time.Millisecond}
	conn := simnet.NewBlockingSimConn(addr, link)
	link.Start()
	f.net.AddNode(addr, link)
	c := Config{Certs: snap, Instance: NewInstance(), Conn: conn, CertDir: dir, StateDir: filepath.Join(dir, "state"), Peers: peers,
		FetchTimeout: 2500 * time.Millisecond, Grace: 5 * time.Second, LostAfter: time.Minute, MaxBody: 64 << 20}
	c.Backups = 1
	n := &testNode{name: name, addr: addr, link: link}
	n.store = store.New(store.Options{Node: name, Instance: c.Instance, FetchTimeout: c.FetchTimeout, LockWait: 400 * time.Millisecond, Backups: c.Backups})
	c.Store = n.store
	if n.mesh, err = New(c); err != nil {
		f.t.Fatal(err)
	}
	n.store.Join(n.mesh)
	f.nodes = append(f.nodes, n)
}

func (f *costFarm) linked() bool {
	for _, n := range f.nodes {
		up := 0
		for _, p := range n.mesh.Peers() {
			if p.State == Up {
				up++
			}
		}
		if up != len(f.nodes)-1 {
			return false
		}
	}
	return true
}

func (f *costFarm) stop() {
	for _, n := range f.nodes {
		if err := n.mesh.Close(); err != nil {
			f.t.Error(err)
		}
		n.store.Close()
	}
	synctest.Wait()
	for _, n := range f.nodes {
		if err := n.link.Close(); err != nil {
			f.t.Error(err)
		}
	}
}

// cost is packets and bytes (of UDP's contents), acknowledgements among them.
type cost struct{ packets, bytes float64 }

func (c cost) String() string { return fmt.Sprintf("%.1f / %.0f", c.packets, c.bytes) }

// idle measures what a node sends each second when nothing happens.
func (f *costFarm) idle() cost {
	const seconds = 20
	p, b := f.net.packets.Load(), f.net.bytes.Load()
	time.Sleep(seconds * time.Second)
	per := seconds * float64(len(f.nodes))
	return cost{float64(f.net.packets.Load()-p) / per, float64(f.net.bytes.Load()-b) / per}
}

// each measures what one call of do costs, which gets its number. What an idle farm sends is taken off.
func (f *costFarm) each(idle cost, do func(i int)) cost {
	const times = 50
	p, b, begun := f.net.packets.Load(), f.net.bytes.Load(), time.Now()
	for i := range times {
		do(i)
	}
	time.Sleep(time.Second) // late acknowledgements
	others := time.Since(begun).Seconds() * float64(len(f.nodes))
	return cost{max(0, float64(f.net.packets.Load()-p)-others*idle.packets) / times,
		max(0, float64(f.net.bytes.Load()-b)-others*idle.bytes) / times}
}

// TestCostByFarmSize prints a table of what these cost in a farm whose nodes are all linked with each other: a miss;
// a new visitor's first write; a session that is made again under its expired id (a miss and a write); a page that
// writes, on the node that holds the session and on another one; a second of a node when nothing happens. Sessions
// have 2 KB.
func TestCostByFarmSize(t *testing.T) {
	if *simCost == "" {
		t.Skip("measures nothing unless -simulate.cost names sizes")
	}
	fmt.Println("packets / bytes, by the number of nodes")
	fmt.Printf(costRow, "nodes", "a miss", "a new visitor", "an expired id", "a page here", "a page elsewhere", "a node's second")
	for size := range strings.SplitSeq(*simCost, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 2 || n > 250 {
			t.Fatalf("-simulate.cost: %q is not a number of nodes from 2 to 250", size)
		}
		dir := t.TempDir()
		begun := time.Now()
		synctest.Test(t, func(t *testing.T) {
			costOf(t, dir, n)
		})
		t.Logf("%d nodes took %v of real time", n, time.Since(begun).Round(100*time.Millisecond))
	}
}

// costRow lays the table out.
const costRow = "%6v  %16v  %16v  %16v  %16v  %16v  %16v\n"

func costOf(t *testing.T, dir string, size int) {
	ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "farm", 10*365*24*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := &costFarm{t: t, net: &meter{}}
	defer f.stop()
	var peers []string
	for range size {
		f.start(dir, ca, peers)
		peers = append(peers, f.nodes[len(f.nodes)-1].addr.String())
		time.Sleep(100 * time.Millisecond)
	}
	for begun := time.Now(); !f.linked(); time.Sleep(time.Second) {
		if time.Since(begun) > 5*time.Minute {
			t.Fatal("not all are linked after five minutes")
		}
	}
	time.Sleep(10 * time.Second)
	idle := f.idle()
	body := strings.Repeat("x", 2048)
	want := func(what string, got store.Answer, status store.Status) {
		if got.Status != status {
			t.Errorf("%s: status %d", what, got.Status)
		}
	}
	at := func(i int) *testNode { return f.nodes[i%len(f.nodes)] }
	miss := f.each(idle, func(i int) { want("miss", at(i).get(fmt.Sprint("nowhere/", i)), store.NotFound) })
	grown := f.each(idle, func(i int) { want("put", at(i).put(keyOf(i), body, 0), store.OK) })
	expired := f.each(idle, func(i int) {
		n, key := at(i), fmt.Sprint("expired/", i)
		want("acquire", n.acquire(key), store.NotFound)
		want("put", n.do(store.Request{Op: store.Put, Key: []byte(key), Cookie: store.NoCookie, Timeout: 20,
			Flags: store.FlagUninitialized, Body: []byte("new")}), store.OK)
	})
	page := func(n *testNode, i int) {
		a := n.acquire(keyOf(i))
		want("acquire", a, store.OK)
		want("put", n.put(keyOf(i), body, a.Cookie), store.OK)
	}
	same := f.each(idle, func(i int) { page(at(i), i) })
	other := f.each(idle, func(i int) { page(at(i+1), i) })
	fmt.Printf(costRow, size, miss, grown, expired, same, other, idle)
}
