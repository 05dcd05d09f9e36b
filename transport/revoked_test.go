package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
	"peerstate/store"
)

// shut fails if a node has a live connection with another, or reaches it in any way.
func (f *farm) shut(out *testNode, others ...*testNode) {
	f.t.Helper()
	for _, n := range others {
		n.mesh.mu.Lock()
		for conn, l := range n.mesh.conns {
			if l.peer.Node == out.name && conn.Context().Err() == nil && l.node != nil {
				f.t.Errorf("%s has a link with %s", n.name, out.name)
			}
		}
		n.mesh.mu.Unlock()
		if p := n.peer(out.name); p.State != Refused || p.Reason != revokedText || p.Hops != 0 {
			f.t.Errorf("%s sees %s %s, %d links away: %s", n.name, out.name, p.State, p.Hops, p.Reason)
		}
		if n.mesh.linkTo(out.name) != nil || out.mesh.linkTo(n.name) != nil {
			f.t.Errorf("%s and %s reach each other", n.name, out.name)
		}
	}
}

// without gives the nodes but for one.
func without(out *testNode, all []*testNode) []*testNode {
	return slices.DeleteFunc(slices.Clone(all), func(n *testNode) bool { return n.name == out.name })
}

// again starts all machines anew, one after the other or all together, the first one first.
func (d *drawn) again(first int) {
	d.t.Helper()
	for _, n := range d.all {
		n.stop()
	}
	time.Sleep(time.Second)
	order := []int{first}
	for i := range d.all {
		if i != first {
			order = append(order, i)
		}
	}
	for _, i := range order {
		d.all[i] = d.startOn(nodeName(i), d.peersOf(i)...)
		time.Sleep(5 * time.Millisecond)
	}
}

func revocations() map[string]struct {
	topology
	out int
} {
	return map[string]struct {
		topology
		out int
	}{
		"full mesh": {full(5), 2}, "ring": {ring(5), 2}, "end of a line": {line(5), 4}, "star": {star(5), 3},
	}
}

func TestARevocationCutsANodeOffEverywhereAndItStaysOut(t *testing.T) {
	for what, tc := range revocations() {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				d := f.draw(tc.topology)
				out := d.all[tc.out]
				rest := without(out, d.all)
				spare := f.t.TempDir() // another certificate, which it has had before
				if _, err := f.ca.Issue(filepath.Join(spare, out.name), out.name, time.Hour, time.Now()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				rest[0].publish(f.publisher().revoke(out))
				time.Sleep(time.Second)
				f.inForce(1, 0, rest...)
				f.shut(out, rest...)
				if out.mesh.Revoked().IsZero() || len(f.log.lines(out.host, "level=ERROR", "this node is revoked")) != 1 {
					t.Error("the revoked node does not say so")
				}
				for _, n := range rest {
					f.wantAnswer("a miss on "+n.name, n.get(keyOf(1)), store.NotFound, "")
				}
				stays := func(what string) {
					t.Helper()
					for range 100 {
						time.Sleep(time.Second)
						f.shut(out, rest...)
					}
					if t.Failed() {
						t.Fatalf("with %s", what)
					}
				}
				stays("the certificate that it had")

				d.again(tc.out)
				out = d.all[tc.out]
				rest = without(out, d.all)
				stays("that after all have started anew")

				out.recertify(f.authority())
				stays("a newer certificate for the same key")

				out.install(filepath.Join(spare, out.name))
				stays("another certificate from before")

				out.certify(f.ca)
				time.Sleep(3 * dialRefused / 2) // those who were refused try again within that
				d.reached()
				f.linkedAgain(d)
				out.put(keyOf(2), "cart", 0)
				f.wantAnswer("get", rest[0].get(keyOf(2)), store.OK, "cart")
				f.inForce(1, 0, d.all...)

				// What it is revoked by remains in the document: it holds for the older certificates only.
				d.again(0)
				d.reached()
			})
		})
	}
}

// linkedAgain fails if a node is seen as revoked by any other, or itself.
func (f *farm) linkedAgain(d *drawn) {
	f.t.Helper()
	for _, n := range d.all {
		if !n.mesh.Revoked().IsZero() {
			f.t.Errorf("%s takes itself to be revoked", n.name)
		}
		for _, p := range n.mesh.Peers() {
			if p.State != Up {
				f.t.Errorf("%s sees %s %s", n.name, p.Node, p.State)
			}
		}
	}
}

// recertify gives a node a newer certificate for the key that it has.
func (n *testNode) recertify(a *authority) {
	n.farm.t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(pemBlock(n.farm.t, filepath.Join(n.files(), certs.NodeKey)))
	if err != nil {
		n.farm.t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(time.Now().UnixNano()), 64), URIs: []*url.URL{certs.Identity{Farm: "farm", Node: n.name}.URI()},
		NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der := a.sign(cert, &key.(*ecdsa.PrivateKey).PublicKey)
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := certs.WriteFile(filepath.Join(n.files(), certs.NodeCert), data); err != nil {
		n.farm.t.Fatal(err)
	}
	n.reload()
}

func TestAnUnrevokedNodeIsInAgainAtOnce(t *testing.T) {
	for what, manual := range map[string]bool{"all link to all": false, "the links are drawn": true} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				f.config = func(c *Config) { c.Manual = manual }
				a, b := f.start("a"), f.start("b", "a")
				c := f.start("c", "a", "b")
				nodes := []*testNode{a, b, c}
				f.linked(nodes...)
				p := f.publisher()
				a.publish(p.revoke(b))
				time.Sleep(3 * time.Minute)
				f.shut(b, a, c)
				a.publish(p.unrevoke("b"))
				time.Sleep(time.Second)
				if c.mesh.direct("b") == nil {
					t.Errorf("c, which dials b, is not linked with it a second after:\n%s", f.log)
				}
				f.linked(nodes...)
				f.inForce(2, time.Second, nodes...)
				f.wantAnswer("a miss", b.get(keyOf(1)), store.NotFound, "")
			})
		})
	}
}

func TestSessionsOfARevokedNodeAreServedFromTheirBackupsAtOnce(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c", "d", "e")
		out := nodes[1]
		for i := range 50 {
			out.put(keyOf(i), "cart", 0)
		}
		f.safe()
		nodes[3].publish(f.publisher().revoke(out))
		begun := time.Now()
		rest := without(out, nodes)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				for {
					if a := rest[i%4].get(keyOf(i)); a.Status == store.OK {
						return
					} else if a.Status != store.Unknown || time.Since(begun) > 2*time.Second {
						t.Errorf("session %d: status %d after %v", i, a.Status, time.Since(begun))
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		all.Wait()
		t.Logf("all are served after %v", time.Since(begun))
		wantTime(t, "a miss", took(func() { f.wantAnswer("it", nodes[0].get(keyOf(99)), store.NotFound, "") }), 2*f.delay)
		f.safe()
	})
}

// A revoked node is the first to call one that was off, which is near to it and far from all others.
func TestANodeThatWasOffHearsOfARevocationBeforeItServesTheRevokedNode(t *testing.T) {
	for what, tp := range map[string]topology{"full mesh": full(4), "ring": ring(4)} {
		for _, far := range []time.Duration{10 * time.Millisecond, 200 * time.Millisecond} {
			t.Run(fmt.Sprint(what, " ", far), func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					d := f.draw(tp)
					off, out := d.all[0], d.all[1]
					off.put(keyOf(1), "cart", 0)
					off.stop()
					time.Sleep(10 * time.Second)
					d.all[2].publish(f.publisher().revoke(out))
					time.Sleep(time.Second)
					f.net.delaying(func(from, to string) time.Duration {
						if from != out.addr.String() && to != out.addr.String() {
							return far
						}
						return time.Millisecond
					})
					stop := make(chan struct{})
					var callers sync.WaitGroup
					for range 3 {
						callers.Go(func() { out.callAgainAndAgain(addrOf("a"), stop) })
					}
					off = f.startOn("a", d.peersOf(0)...)
					d.all[0] = off
					for range 3000 {
						time.Sleep(time.Millisecond)
						if off.mesh.direct("b") != nil {
							t.Error("the revoked node is linked")
							break
						}
					}
					close(stop)
					callers.Wait()
					f.inForce(1, 0, off)
					if n := value(t, off.mesh.metrics.handled) + value(t, off.mesh.metrics.followed); n != 0 {
						t.Errorf("%v questions were answered", n)
					}
					f.shut(out, without(out, d.all)...)
				})
			})
		}
	}
}

// callAgainAndAgain says hello to an address every few milliseconds, and asks for a session when it is welcome.
func (n *testNode) callAgainAndAgain(to net.Addr, stop chan struct{}) {
	for {
		ctx, cancel := context.WithTimeout(n.mesh.ctx, 200*time.Millisecond)
		l, err := n.mesh.call(ctx, to, 0)
		cancel()
		if err == nil {
			n.farm.t.Error("the revoked node is welcome")
			l.node = &node{name: l.peer.Node}
			n.mesh.askOne(l, store.Question{Key: keyOf(1), Want: store.Move}, flood{}, time.Now().Add(time.Second), func(said) {})
			l.close(closeBye, "enough")
			n.mesh.dismiss(l)
		}
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestTheFirstMomentsAreShortWhereNobodyElseCanKnowMore(t *testing.T) {
	t.Run("a first start", func(t *testing.T) {
		inFarm(t, func(t *testing.T, f *farm) {
			f.start("a")
			b := f.start("b", "a")
			wantTime(t, "a link", took(func() { until(t, func() bool { return b.mesh.direct("a") != nil }) }), 4*f.delay)
			wantTime(t, "consulting", took(func() { consult(t, b) }), 0)
		})
	})
	t.Run("a farm of two", func(t *testing.T) {
		inFarm(t, func(t *testing.T, f *farm) {
			a, b := f.start("a"), f.start("b", "a")
			f.linked(a, b)
			b.stop()
			time.Sleep(time.Second)
			b = f.start("b", "a")
			wantTime(t, "a link", took(func() { until(t, func() bool { return b.mesh.direct("a") != nil }) }), 4*f.delay)
		})
	})
	t.Run("all are there", func(t *testing.T) {
		inFarm(t, func(t *testing.T, f *farm) {
			a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a", "b")
			f.linked(a, b, c)
			c.stop()
			time.Sleep(time.Second)
			c = f.start("c", "a", "b")
			wantTime(t, "links", took(func() { until(t, func() bool { return c.mesh.direct("a") != nil && c.mesh.direct("b") != nil }) }), 4*f.delay)
			consult(t, c)
		})
	})
	t.Run("the others are off", func(t *testing.T) {
		inFarm(t, func(t *testing.T, f *farm) {
			a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a", "b")
			f.linked(a, b, c)
			b.stop()
			c.stop()
			time.Sleep(time.Second)
			c = f.start("c", "a", "b")
			d := took(func() { until(t, func() bool { return c.mesh.direct("a") != nil }) })
			if d > firstMoments+10*time.Millisecond {
				t.Errorf("a link took %v", d)
			}
			consult(t, c)
		})
	})
}

func consult(t *testing.T, n *testNode) {
	t.Helper()
	if err := n.mesh.Consulted(t.Context()); err != nil {
		t.Error(err)
	}
}

// until waits, in virtual time, and gives up after a minute.
func until(t *testing.T, f func() bool) {
	t.Helper()
	for range 600000 {
		synctest.Wait()
		if f() {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
	t.Fatal("it has not come true")
}

// z is linked with the revoked node x, and has not heard of that, or does not care.
func TestWhatARevokedNodeSaysThroughOthersIsNotHeard(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		p := f.publisher()
		now := time.Now()
		p.revoked["x"] = map[int]any{1: "x", 2: now.UnixNano(), 4: now.UnixNano()}
		u.a.publish(p.next())
		r := f.join("z", u.a)
		r.serve(func(*quic.Stream, kind, []byte) {})
		tells := func(version int, cert *certRef) {
			t.Helper()
			at := uint64(time.Now().UnixNano()) + uint64(version)
			r.links(linkList{Node: "z", Instance: r.instance, Version: at, Links: []string{"a", "x"}},
				linkList{Node: "x", Instance: 7, Version: at, Links: []string{"z"}, Cert: cert})
			synctest.Wait()
		}
		says := func(want bool) {
			t.Helper()
			s := r.open()
			r.write(s, kindVia, via{To: "a", ToRun: u.a.mesh.config.Instance, From: "x", Instance: 7, Hops: 5})
			r.write(s, kindSettle, settle{Entries: []settleEntry{{Key: keyOf(100)}}})
			var back settlement
			if err := expect(s, kindSettlement, &back); (err == nil) != want || err != nil && !noPath(err) {
				t.Errorf("a stream of x is answered with %v", err)
			}
			s.CancelRead(streamGivenUp)
			_ = s.Close() // it has been turned back
		}
		asks := func(number uint64, want bool) {
			t.Helper()
			s := r.open()
			r.write(s, kindQuestion, question{Want: store.Locate, Key: keyOf(100), Within: time.Second, Number: number, Hops: 3, Origin: "x", Instance: 7})
			var back reply
			if err := expect(s, kindReply, &back); err != nil || (back.Kind == store.ReplyHeld) != want || back.Unknown == want {
				t.Errorf("a question of x is answered with %+v, %v", back, err)
			}
			_ = s.Close() // the link may have ended
		}
		for version, cert := range []*certRef{nil, {Serial: "1", Issued: now.Add(-time.Hour).UnixNano()}, {Serial: "2", Issued: now.UnixNano()}} {
			tells(version, cert)
			if u.a.mesh.linkTo("x") != nil {
				t.Errorf("x is reached with the certificate %+v", cert)
			}
			says(false)
			asks(uint64(version)+1, false)
		}
		r.write(r.control, kindNodes, nodeList{Nodes: []nodeInfo{{Name: "x", Addr: addrOf("x").String(), Up: true, Instance: 7}}})
		time.Sleep(time.Second)
		u.f.wantAnswer("a miss while it is named as up", u.a.get(keyOf(7)), store.Unknown, "") // z answers nothing
		if got := u.a.peer("x"); got.State != "" && got.State != Refused {
			t.Errorf("x is %s", got.State)
		}
		// Its certificate is a newer one now.
		time.Sleep(time.Second)
		tells(9, &certRef{Serial: "3", Issued: time.Now().UnixNano()})
		u.a.wantPeer("x", Up, 2)
		says(true)
		asks(9, true)
	})
}
