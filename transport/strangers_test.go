package transport

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store"
)

// initial is the first packet of a handshake (RFC 9000, 17.2.2) that never goes on: what it holds cannot be read.
func initial(to, token []byte) []byte {
	b := append([]byte{0xc0, 0, 0, 0, 1, byte(len(to))}, to...)
	b = append(b, 0)                                          // no connection id of its own
	b = append(b, 0x40|byte(len(token)>>8), byte(len(token))) // two bytes of length
	b = append(b, token...)
	left := 1200 - len(b) - 2
	b = append(b, 0x40|byte(left>>8), byte(left))
	return append(b, make([]byte, left)...)
}

func randomID() []byte {
	id := make([]byte, 8)
	rand.Read(id) // never fails (crypto/rand)
	return id
}

// retry reads what a Retry packet (RFC 9000, 17.2.5) wants in the next one; ok: it is one.
func retry(b []byte) (to, token []byte, ok bool) {
	if len(b) < 7+16 || b[0]&0xf0 != 0xf0 {
		return nil, nil, false
	}
	b = b[6+int(b[5]):] // behind the receiver's id
	to, b = b[1:1+int(b[0])], b[1+int(b[0]):]
	return to, b[:len(b)-16], true
}

func (s *strangers) counts() (open, unproven, hosts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.unproven, len(s.hosts)
}

func TestAllNodesOfAFarmBehindOneAddressGetInAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStrangers()
		nat := netip.MustParseAddr("203.0.113.1")
		for range 2 { // each node, and once more a second later
			var all []func()
			for i := range maxStrangersAddress {
				leave, ok := s.enter(nat, true)
				if !ok {
					t.Fatalf("node %d is turned away", i)
				}
				all = append(all, leave)
			}
			for _, leave := range all {
				leave()
				leave() // the second time nothing is counted
			}
			time.Sleep(time.Second)
		}
		if open, unproven, hosts := s.counts(); open != 0 || unproven != 0 || hosts != 0 {
			t.Errorf("%d, %d, %d are counted on", open, unproven, hosts)
		}
	})
}

func TestOneAddressCannotTakeAllPlacesAndForgedOnesCannotTakeThoseOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStrangers()
		bad, good := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
		n := 0
		for range 10 * maxStrangers {
			if _, ok := s.enter(bad, true); ok {
				n++
			}
		}
		if n != maxStrangersAddress {
			t.Errorf("%d of one address", n)
		}
		n = 0
		for !s.mustProve(nil) {
			if _, ok := s.enter(good, false); ok { // in another's name
				n++
			}
		}
		if n != trustedBurst {
			t.Errorf("%d without proof", n)
		}
		if _, ok := s.enter(good, true); !ok {
			t.Error("another address is turned away")
		}
	})
}

func TestOfIPv6AWholeNetworkCountsAsOneAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"[2001:db8::1]:1", "[2001:db8::ffff]:2", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"10.0.0.1:1", "10.0.0.1:2", true},
		{"10.0.0.1:1", "10.0.0.2:1", false},
		{"[::ffff:10.0.0.1]:1", "10.0.0.1:1", true},
	} {
		a, b := addressOf(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.a))), addressOf(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.b)))
		if (a == b) != c.same {
			t.Errorf("%s counts as %s, and %s as %s", c.a, a, c.b, b)
		}
	}
}

// The attacker answers the proof of his address, so all he may have is half-open.
func TestThousandsOfHalfOpenHandshakesAreBoundedAndHarmNobody(t *testing.T) {
	inFarmAlone(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		conn, link := f.attach("x")
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, 2000)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				if to, token, ok := retry(buf[:n]); ok {
					_, _ = conn.WriteTo(initial(to, token), from) // it may be lost
				}
			}
		}()
		before, goroutines := heap(), runtime.NumGoroutine()
		flood := func() {
			for i := range 1500 {
				if _, err := conn.WriteTo(initial(randomID(), nil), u.a.addr); err != nil {
					t.Fatal(err)
				}
				if i%5 == 0 { // the proofs are made one after the other
					time.Sleep(5 * time.Millisecond)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		flood()
		open, _, _ := u.a.mesh.strangers.counts()
		if open < maxStrangersAddress || open > maxStrangersAddress+maxUnproven {
			t.Errorf("%d are half-open", open)
		}
		if grown := heap() - before; grown > int64(open)*100<<10 {
			t.Errorf("%d bytes for each", grown/int64(open))
		}
		if n := runtime.NumGoroutine() - goroutines; n > 4*open+50 {
			t.Errorf("%d goroutines for %d", n, open)
		}
		if u.a.refusals(refusedHandshake) == 0 {
			t.Error("nobody was turned away")
		}
		u.check()
		flood()
		d := f.start("d", "a", "c")
		f.linked(u.a, u.c, d)
		flood()
		d.put(keyOf(5), "on d", 0)
		f.wantAnswer("from the new node", u.a.get(keyOf(5)), store.OK, "on d")
		u.check()
		time.Sleep(strangerTime)
		if open, unproven, hosts := u.a.mesh.strangers.counts(); open != 0 || unproven != 0 || hosts != 0 {
			t.Errorf("%d, %d, %d are counted on", open, unproven, hosts)
		}
		f.wantLogged("a", "level=WARN", "very many connections")
		if err := errors.Join(conn.Close(), link.Close()); err != nil {
			t.Error(err)
		}
		<-done
	})
}

// A known node at the address from which the flood comes gets in whatever the flood does.
func TestANodeThatIsKnownIsLetInThroughAFloodFromItsAddress(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		s := u.a.mesh.strangers
		for {
			if _, ok := s.enter(addressOf(u.c.addr), true); !ok {
				break
			}
		}
		for !s.mustProve(nil) { // and with all its quota without proof
			time.Sleep(0)
		}
		u.c.stop()
		time.Sleep(time.Second)
		u.c = f.start("c", "a")
		f.linked(u.a, u.c)
		if n := u.a.refusals(refusedHandshake); n != 0 {
			t.Errorf("%v were turned away", n)
		}
	})
}

func TestManyHandshakesOfAnotherCAHoldUpNobody(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		other := f.strangers()["another CA"]
		socket := f.socket("x")
		var all sync.WaitGroup
		var looked atomic.Int64 // at whose certificate
		begun := time.Now()
		for range 50 { // at a time
			all.Go(func() {
				for range 40 {
					conn, err := socket.Dial(t.Context(), u.a.addr, anybody(other.cert), quicConfig())
					if err == nil {
						<-conn.Context().Done()
						looked.Add(1)
					}
				}
			})
		}
		u.check()
		d := f.start("d", "a", "c")
		f.linked(u.a, u.c, d)
		u.check()
		all.Wait()
		within := time.Since(begun)
		if n := looked.Load(); n < 100 || n > trustedBurst+strangerBurstAddress+int64(within.Seconds()*(strangerRateAddress+trustedHandshakes)) {
			t.Errorf("%d certificates were looked at in %v", n, within)
		}
		if u.a.refusals(refusedHandshake) == 0 {
			t.Error("nobody was turned away before")
		}
		u.check()
		if n := len(f.log.lines("a", "level=ERROR")); n != 1 {
			t.Errorf("%d lines about it", n)
		}
	})
}

func TestAHandshakeOfManyKilobytesIsEndedAndHarmsNobody(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		good := f.authority().issue(func(*x509.Certificate) {})
		long := tls.Certificate{PrivateKey: good.PrivateKey}
		for range 100 {
			long.Certificate = append(long.Certificate, good.Certificate[0])
		}
		talkative := anybody(good)
		for i := range 200 {
			talkative.NextProtos = append(talkative.NextProtos, strings.Repeat("x", 200)+fmt.Sprint(i))
		}
		for name, config := range map[string]*tls.Config{"a chain of certificates": anybody(long), "a list of protocols": talkative} {
			conn, err := f.socket("x").Dial(t.Context(), u.a.addr, config, quicConfig())
			if err == nil {
				select {
				case <-conn.Context().Done():
				case <-time.After(helloTimeout + time.Second):
					t.Errorf("%s: it was taken", name)
				}
			}
			u.check()
		}
		if _, ok := u.a.mesh.direct("c"), u.a.mesh.direct("x"); ok != nil {
			t.Error("linked")
		}
	})
}

// Packets with forged addresses: nobody answers to the proof of them, and nothing is kept.
func TestAFloodOfForgedHandshakesOnARealSocketCostsNoMemory(t *testing.T) {
	dir := t.TempDir()
	ca := realCA(t, dir)
	a := realStart(t, ca, dir, "a", "127.0.0.1:0")
	to := a.mesh.Addr()
	b := realStart(t, ca, dir, "b", "127.0.0.1:0", to.String())
	realLinked(t, a, b)
	stop, done := make(chan struct{}), make(chan int)
	flood, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	go func() {
		sent := 0
		defer func() { done <- sent }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := flood.WriteTo(initial(randomID(), nil), to); err == nil {
				sent++
			}
			if sent%50 == 0 {
				time.Sleep(time.Millisecond) // so that the machine has time for what is tested
			}
		}
	}()
	end := time.Now().Add(2 * time.Second)
	most, grown := 0, int64(0)
	for i := 0; i <= 120 || time.Now().Before(end); i++ {
		key := fmt.Appendf(nil, "app(hash)/%d", i)
		if got := a.do(&store.Request{Op: store.Put, Key: key, Timeout: 20, Body: []byte("x")}); got.Status != store.OK {
			t.Fatalf("a local request was answered with %d", got.Status)
		}
		for range 3 { // a packet may be lost when the socket's buffer is full
			if got := b.do(&store.Request{Op: store.Get, Key: key, Cookie: store.NoCookie}); got.Status == store.OK {
				break
			} else if got.Status != store.Unknown {
				t.Fatalf("a session was fetched with %d", got.Status)
			}
		}
		if i == 100 {
			c := realStart(t, ca, dir, "c", "127.0.0.1:0", to.String())
			realLinked(t, a, b, c)
		}
		if i%20 == 0 {
			open, _, _ := a.mesh.strangers.counts()
			most, grown = max(most, open), max(grown, heap()-before)
			if n := runtime.NumGoroutine() - goroutines; n > 4*maxUnproven+200 {
				t.Errorf("%d goroutines", n)
			}
		}
	}
	close(stop)
	sent := <-done
	if most > 2*maxUnproven {
		t.Errorf("%d connections were made for %d packets", most, sent)
	}
	if grown > 32<<20 {
		t.Errorf("%d MB for %d packets", grown>>20, sent)
	}
	t.Logf("%d packets, at most %d connections and %d KB", sent, most, grown>>10)
	if err := flood.Close(); err != nil {
		t.Error(err)
	}
	if got := b.do(&store.Request{Op: store.Get, Key: []byte("app(hash)/100"), Cookie: store.NoCookie}); got.Status != store.OK {
		t.Errorf("after the flood a session is fetched with %d; was a node linked during it?", got.Status)
	}
}
