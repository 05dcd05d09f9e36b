package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"peerstate/certs"
	"peerstate/store"
)

// realNode is a node on a real UDP socket of this machine.
type realNode struct {
	store *store.Store
	mesh  *Mesh
}

// realCA makes a farm's CA that lasts as long as a test.
func realCA(t testing.TB, dir string) *certs.CA {
	t.Helper()
	ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "farm", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// realStart runs a node on a socket, until the test ends.
func realStart(t testing.TB, ca *certs.CA, dir, name, listen string, peers ...string) *realNode {
	t.Helper()
	own := filepath.Join(dir, name)
	if _, err := ca.Issue(own, name, time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	return realRun(t, own, listen, nil, peers...)
}

// realRun runs a node of which the certificates are there, the issuer's if i is not nil, until the test ends.
func realRun(t testing.TB, dir, listen string, i *certs.Issuer, peers ...string) *realNode {
	t.Helper()
	snap, err := certs.Load(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	instance := NewInstance()
	st := store.New(store.Options{Node: snap.Self().Node, Instance: instance, FetchTimeout: 2500 * time.Millisecond})
	mesh, err := New(Config{Certs: snap, Issuer: i, Store: st, Instance: instance, Conn: conn, Peers: slices.Clone(peers), CertDir: dir,
		StateDir: filepath.Join(dir, certs.StateDir), Program: "2.0\n", FetchTimeout: 2500 * time.Millisecond, Grace: 5 * time.Second,
		LostAfter: time.Minute, MaxBody: 64 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	st.Join(mesh)
	t.Cleanup(func() {
		if err := mesh.Close(); err != nil {
			t.Error(err)
		}
		st.Close()
	})
	return &realNode{st, mesh}
}

// realFarm starts nodes on 127.0.0.1, each of which dials those before it, and waits until they are
// linked.
func realFarm(t testing.TB, names ...string) []*realNode {
	t.Helper()
	return realFarmOn(t, "127.0.0.1:0", names...)
}

func realFarmOn(t testing.TB, listen string, names ...string) []*realNode {
	t.Helper()
	dir := t.TempDir()
	ca := realCA(t, dir)
	var nodes []*realNode
	var addrs []string
	for _, name := range names {
		n := realStart(t, ca, dir, name, listen, addrs...)
		nodes, addrs = append(nodes, n), append(addrs, n.mesh.Addr().String())
	}
	realLinked(t, nodes...)
	return nodes
}

// realLinked waits until all the nodes are linked with all others.
func realLinked(t testing.TB, nodes ...*realNode) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		up := 0
		for _, n := range nodes {
			for _, p := range n.mesh.Peers() {
				if p.State == Up {
					up++
				}
			}
		}
		if up == len(nodes)*(len(nodes)-1) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("not linked after 20 s")
		}
	}
}

func (n *realNode) do(r *store.Request) store.Answer {
	if a, ok := n.store.Try(r); ok {
		return a
	}
	return n.store.Do(context.Background(), r)
}

// onEachFamily runs f with the address of this machine in IPv4 and IPv6.
func onEachFamily(t *testing.T, f func(t *testing.T, listen string)) {
	for family, listen := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0"} {
		t.Run(family, func(t *testing.T) {
			conn, err := net.ListenPacket("udp", listen)
			if err != nil {
				t.Skipf("this machine has no %s: %v", family, err)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			f(t, listen)
		})
	}
}

func TestHundredsOfSessionsGoBackAndForthBetweenRealSockets(t *testing.T) {
	onEachFamily(t, func(t *testing.T, listen string) {
		nodes := realFarmOn(t, listen, "a", "b")
		var all sync.WaitGroup
		for i := range 400 {
			all.Go(func() {
				key, body := []byte(keyOf(i)), slices.Repeat([]byte{byte(i)}, 1+i*37%9000)
				if a := nodes[i%2].do(&store.Request{Op: store.Put, Key: key, Timeout: 20, Body: body}); a.Status != store.OK {
					t.Errorf("put: status %d", a.Status)
				}
				for turn := range 6 {
					a := nodes[(i+turn+1)%2].do(&store.Request{Op: store.Get, Key: key, Cookie: store.NoCookie})
					if a.Status != store.OK || !slices.Equal(a.Body, body) {
						t.Errorf("get %d of session %d: status %d, %d bytes of %d", turn, i, a.Status, len(a.Body), len(body))
						return
					}
				}
			})
		}
		all.Wait()
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			a, b := nodes[0].store.Stats(), nodes[1].store.Stats()
			if a.Active+b.Active == 400 && a.Doubts+b.Doubts == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%d and %d sessions are held, of 400; %d and %d in doubt", a.Active, b.Active, a.Doubts, b.Doubts)
			}
		}
	})
}

func TestNoWriteIsLostBetweenRealSockets(t *testing.T) {
	nodes := realFarm(t, "a", "b", "c")
	const visitors, pages = 24, 15
	key := func(i int) []byte { return []byte(keyOf(i % 3)) }
	for i := range 3 {
		nodes[i].do(&store.Request{Op: store.Put, Key: key(i), Timeout: 20, Body: []byte("0")})
	}
	var all sync.WaitGroup
	for i := range visitors {
		all.Go(func() {
			for page := 0; page < pages; {
				n := nodes[(i+page)%3]
				a := n.do(&store.Request{Op: store.Acquire, Key: key(i), Cookie: store.NoCookie})
				if a.Status == store.Locked || a.Status == store.Unknown {
					time.Sleep(time.Millisecond) // as a client polls, only faster
					continue
				}
				count, err := strconv.Atoi(string(a.Body))
				if a.Status != store.OK || err != nil {
					t.Errorf("acquire: status %d, %q", a.Status, a.Body)
					return
				}
				p := n.do(&store.Request{Op: store.Put, Key: key(i), Cookie: a.Cookie, Timeout: 20, Body: strconv.AppendInt(nil, int64(count+1), 10)})
				if p.Status != store.OK {
					t.Errorf("put: status %d", p.Status)
				}
				page++
			}
		})
	}
	all.Wait()
	for i := range 3 {
		a := nodes[0].do(&store.Request{Op: store.Get, Key: key(i), Cookie: store.NoCookie})
		if want := strconv.Itoa(visitors / 3 * pages); string(a.Body) != want {
			t.Errorf("a counter is %q, want %s", a.Body, want)
		}
	}
}

// nameServer answers for peer.test with the addresses that it has at the moment.
type nameServer struct {
	mu    sync.Mutex
	addrs []netip.Addr
	asked int
}

func (s *nameServer) set(addrs ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = addrs
}

// start makes the name server that of this process, until the test ends.
func (s *nameServer) start(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			answer, err := s.answer(b[:n])
			if err == nil {
				_, err = conn.WriteTo(answer, from)
			}
			if err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	}()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
}

func (s *nameServer) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	m.Response, m.Additionals = true, nil
	for _, q := range m.Questions {
		head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
		for _, a := range s.addrs {
			switch {
			case q.Type == dnsmessage.TypeA && a.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
			case q.Type == dnsmessage.TypeAAAA && a.Is6():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	return m.Pack()
}

func portOf(n *realNode) string {
	return strconv.Itoa(n.mesh.Addr().(*net.UDPAddr).Port)
}

// peer.test is unknown at first, then somewhere where nobody is, then where the node is.
func TestAPeersNameIsResolvedAnewAtEachTry(t *testing.T) {
	var names nameServer
	names.start(t)
	dir := t.TempDir()
	ca := realCA(t, dir)
	a := realStart(t, ca, dir, "a", "127.0.0.1:0")
	b := realStart(t, ca, dir, "b", "127.0.0.1:0", "peer.test:"+portOf(a))
	unlinked := func() PeerStatus {
		t.Helper()
		p := b.mesh.Peers()
		if len(p) != 1 || p[0].State == Up {
			t.Fatalf("peers: %+v", p)
		}
		return p[0]
	}
	wait := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, b.mesh.Peers())
			}
		}
	}
	wait("a name that is not known", func() bool { return unlinked().Reason != "" })
	names.set(netip.MustParseAddr("127.0.0.2"))
	wait("an address where nobody is", func() bool { return unlinked().Reason == "no answer on UDP" })
	names.set(netip.MustParseAddr("127.0.0.1"))
	wait("the right address", func() bool { return b.mesh.direct("a") != nil })
	realLinked(t, a, b)
}

// Of a name's addresses, the one that answers is used, whichever family it is of; the socket takes both.
func TestANameWithAddressesOfBothFamiliesIsLinkedByTheOneThatAnswers(t *testing.T) {
	onEachFamily(t, func(t *testing.T, listen string) {
		var names nameServer
		names.set(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"))
		names.start(t)
		dir := t.TempDir()
		ca := realCA(t, dir)
		a := realStart(t, ca, dir, "a", listen)
		b := realStart(t, ca, dir, "b", ":0", "peer.test:"+portOf(a))
		realLinked(t, a, b)
		if p := b.mesh.Peers(); p[0].Node != "a" || p[0].Addr != a.mesh.Addr().String() {
			t.Errorf("linked to %+v, want %s", p, a.mesh.Addr())
		}
	})
}

// The node at a configured address dials first, from a socket for both families.
func TestAConfiguredAddressIsRecognisedWhenItsNodeDialsFirst(t *testing.T) {
	dir := t.TempDir()
	ca := realCA(t, dir)
	a := realStart(t, ca, dir, "a", ":0")
	b := realStart(t, ca, dir, "b", ":0", fmt.Sprintf("127.0.0.1:%s", portOf(a)), fmt.Sprintf("localhost:%s", portOf(a)))
	realLinked(t, a, b)
	// The link that a dials may be there before the second name has been looked up.
	p := b.mesh.Peers()
	for end := time.Now().Add(20 * time.Second); len(p) != 1 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		p = b.mesh.Peers()
	}
	if len(p) != 1 || p[0].State != Up {
		t.Errorf("peers: %+v", p)
	}
}

func TestLinksFollowARenewedCertificateOnARealSocket(t *testing.T) {
	dir := t.TempDir()
	ca := realCA(t, dir)
	var nodes []*realNode
	var addrs []string
	for _, name := range []string{"a", "b", "c"} {
		n := realStart(t, ca, dir, name, "127.0.0.1:0", addrs...)
		nodes, addrs = append(nodes, n), append(addrs, n.mesh.Addr().String())
	}
	realLinked(t, nodes...)
	nodes[0].do(&store.Request{Op: store.Put, Key: []byte(keyOf(1)), Cookie: 0, Timeout: 20, Body: []byte("cart")})
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if a := nodes[i%3].do(&store.Request{Op: store.Get, Key: []byte(keyOf(1)), Cookie: store.NoCookie}); a.Status != store.OK {
				t.Errorf("request %d: status %d", i, a.Status)
				return
			}
		}
	})
	for round := range 3 {
		for i, n := range nodes {
			own := filepath.Join(dir, fmt.Sprint(round), fmt.Sprint(i))
			if _, err := ca.Issue(own, n.mesh.Certs().Self().Node, time.Duration(30+round)*time.Minute, time.Now()); err != nil {
				t.Fatal(err)
			}
			s, err := certs.Load(own, time.Now())
			if err == nil {
				err = n.mesh.SetCerts(s)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range nodes {
		for _, o := range nodes {
			realKnows(t, n, o)
		}
	}
	close(stop)
	all.Wait()
}

// realKnows waits until a node knows another by the certificate that is in force there.
func realKnows(t *testing.T, n, o *realNode) {
	t.Helper()
	want := o.mesh.Certs().Self()
	for end := time.Now().Add(20 * time.Second); n != o; time.Sleep(10 * time.Millisecond) {
		for _, p := range n.mesh.Peers() {
			if p.Node == want.Node && p.Cert.Serial == want.Serial && p.Cert.Expires.Equal(want.Expires) && p.State == Up {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not know the new certificate of %s", n.mesh.me, want.Node)
		}
	}
}
