package e2e

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay is the way from one node to another for UDP packets: the node that dials has the relay's front
// in its PEERSTATE_PEERS, and the one that is dialled sees packets come from its back. As behind a
// firewall, nothing gets in but what answers the dialler.
type relay struct {
	front *net.UDPConn // towards the dialler
	back  *net.UDPConn // connected with the dialled node
	// dialler is where packets came from last.
	dialler atomic.Pointer[netip.AddrPort]
	passed  atomic.Int64 // bytes, both ways

	mu    sync.Mutex
	rules rules
}

// rules is what becomes of a packet. The zero value lets all pass at once.
type rules struct {
	pulled bool          // nothing passes
	delay  time.Duration // of each packet, one way
	loss   float64       // the share of packets that never arrive
}

// packet is on its way until it is due.
type packet struct {
	data []byte
	due  time.Time
}

// relayTo makes a relay to a node.
func relayTo(t testing.TB, n *node) *relay {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", n.peer)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{}
	if r.front, err = net.ListenUDP("udp", &net.UDPAddr{IP: to.IP}); err != nil {
		t.Fatal(err)
	}
	if r.back, err = net.DialUDP("udp", nil, to); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.UDPConn{r.front, r.back} {
		// A small buffer loses packets in bursts, which QUIC mends: it only takes longer.
		_ = c.SetReadBuffer(4 << 20)
	}
	forth, back := make(chan packet, 4096), make(chan packet, 4096)
	var running sync.WaitGroup
	running.Go(func() {
		defer close(forth)
		r.take(forth, func(buf []byte) (int, error) {
			n, from, err := r.front.ReadFromUDPAddrPort(buf)
			if err == nil {
				r.dialler.Store(&from)
			}
			return n, err
		})
	})
	running.Go(func() {
		defer close(back)
		r.take(back, r.back.Read)
	})
	running.Go(func() { r.give(forth, r.back.Write) })
	running.Go(func() {
		r.give(back, func(data []byte) (int, error) { return r.front.WriteToUDPAddrPort(data, *r.dialler.Load()) })
	})
	t.Cleanup(func() {
		for _, c := range []*net.UDPConn{r.front, r.back} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		running.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.front.LocalAddr().String() }

// set changes what becomes of packets from now on.
func (r *relay) set(now rules) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules = now
}

func (r *relay) inForce() rules {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rules
}

// take reads packets until the socket is closed, and drops those that are not to pass.
func (r *relay) take(out chan<- packet, read func([]byte) (int, error)) {
	for buf := make([]byte, 64<<10); ; {
		n, err := read(buf)
		if err != nil {
			if strings.Contains(err.Error(), "closed") {
				return
			}
			continue // nobody listens there just now, says ICMP
		}
		now := r.inForce()
		if now.pulled || now.loss > 0 && rand.Float64() < now.loss {
			continue
		}
		select {
		case out <- packet{slices.Clone(buf[:n]), time.Now().Add(now.delay)}:
		default: // full, as a router's queue can be
		}
	}
}

// give sends packets when they are due.
func (r *relay) give(in <-chan packet, write func([]byte) (int, error)) {
	for p := range in {
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait)
		}
		if r.inForce().pulled {
			continue
		}
		if n, err := write(p.data); err == nil { // an error is a lost packet
			r.passed.Add(int64(n))
		}
	}
}

// drawn is a farm whose links an operator has drawn, each of them through a relay.
type drawn struct {
	*farm
	nodes  []*node
	relays map[[2]*node]*relay // by dialler and dialled
}

// draw starts nodes with these links, and waits until all are up for all. Of each link, the node that
// comes later dials.
func (f *farm) draw(names string, links [][2]int, env ...string) *drawn {
	f.t.Helper()
	d := &drawn{farm: f, relays: map[[2]*node]*relay{}}
	for name := range strings.FieldsSeq(names) {
		d.nodes = append(d.nodes, f.node(name, append([]string{"PEERSTATE_MESH=manual"}, env...)...))
	}
	for i, n := range d.nodes {
		var peers []string
		for _, l := range links {
			if max(l[0], l[1]) == i {
				to := d.nodes[min(l[0], l[1])]
				r := relayTo(f.t, to)
				d.relays[[2]*node{n, to}] = r
				peers = append(peers, r.addr())
			}
		}
		n.env = append(n.env, "PEERSTATE_PEERS="+strings.Join(peers, ","))
		n.start()
	}
	f.linked(d.nodes...)
	return d
}

// link gives the relay between two nodes.
func (d *drawn) link(a, b *node) *relay {
	d.t.Helper()
	for _, ends := range [][2]*node{{a, b}, {b, a}} {
		if r := d.relays[ends]; r != nil {
			return r
		}
	}
	d.t.Fatalf("there is no link between %s and %s", a.name, b.name)
	return nil
}

// between sets the rules of all links between two sides.
func (d *drawn) between(left, right []*node, now rules) {
	d.t.Helper()
	for _, a := range left {
		for _, b := range right {
			d.link(a, b).set(now)
		}
	}
}

func ring(n int) (links [][2]int) {
	for i := range n {
		links = append(links, [2]int{i, (i + 1) % n})
	}
	return links
}

func fullMesh(n int) (links [][2]int) {
	for i := range n {
		for j := range i {
			links = append(links, [2]int{j, i})
		}
	}
	return links
}

// Sessions cross a link that is slow and loses one packet in twenty, and nothing is lost with them.
func TestASlowLinkThatLosesPacketsLosesNoSession(t *testing.T) {
	t.Parallel()
	d := newFarm(t).draw("london tokyo", ring(2)[:1])
	london, tokyo := d.nodes[0], d.nodes[1]
	d.link(london, tokyo).set(rules{delay: 30 * time.Millisecond, loss: 0.05})
	cart := strings.Repeat("cart ", 20_000)
	london.want(200, "", "PUT", "visitor", cart)
	for _, n := range []*node{tokyo, london, tokyo} {
		n.served("visitor", cart)
	}
	d.heldOnce("visitor")
}

// heldOnce waits until the nodes hold these sessions, each once, and no others.
func (d *drawn) heldOnce(ids ...string) {
	d.t.Helper()
	d.until("each session held by one node", func() bool {
		for _, n := range d.nodes {
			if n.metric("peerstate_handovers_in_doubt") != 0 {
				return false
			}
		}
		return d.held() == len(ids)
	})
}
