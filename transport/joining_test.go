package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
	"peerstate/store"
)

// newcomer joins from a machine that has nothing yet. Its node is started with startOn.
func (f *farm) newcomer(host string, token *certs.Token) (certs.Peer, error) {
	return f.newcomerIn(f.t.Context(), filepath.Join(f.dir, host), host, token)
}

func (f *farm) newcomerIn(ctx context.Context, dir, host string, token *certs.Token) (certs.Peer, error) {
	conn, link := f.attach(host)
	t := &quic.Transport{Conn: conn}
	peer, err := joinOver(ctx, t, token, dir, nil)
	if err := errors.Join(t.Close(), conn.Close()); err != nil {
		f.t.Error(err)
	}
	time.Sleep(time.Millisecond) // its last packets have left the machine; others may join at the same time
	if err := link.Close(); err != nil {
		f.t.Error(err)
	}
	return peer, err
}

func (f *farm) mustJoin(host string, token *certs.Token) {
	f.t.Helper()
	peer, err := f.newcomer(host, token)
	if err != nil {
		f.t.Fatal(err)
	}
	if peer.Node != token.Node || peer.Farm != "farm" {
		f.t.Fatalf("joined as %v", peer)
	}
}

func TestANodeThatJoinsIsLinkedWithAllWithoutAnySettingAndFindsTheirSessions(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a")
		f.linked(a, b, c)
		b.put(keyOf(1), "on b", 0)
		f.mustJoin("d", f.invite(i, "d", "a", "a"))
		d := f.startOn("d")
		f.linked(a, b, c, d)
		f.wantAnswer("get on d", d.get(keyOf(1)), store.OK, "on b")
		f.wantAnswer("a miss", d.get(keyOf(2)), store.NotFound, "")
		d.put(keyOf(3), "on d", 0)
		f.wantAnswer("get on c", c.get(keyOf(3)), store.OK, "on d")
		f.wantLogged("a", "a new node has been admitted", "peer=d")
		// And again after a restart.
		d.stop()
		d = f.startOn("d")
		f.linked(a, b, c, d)
	})
}

func TestTheSameTokenMayCarryAddressesWhereNobodyIs(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		token := f.invite(i, "d", "a", "x", "y", "a")
		if d := took(func() { f.mustJoin("d", token) }); d > time.Second {
			t.Errorf("it took %v", d)
		}
		d := f.startOn("d")
		f.linked(a, d)
		if k, err := d.mesh.known.read(); err != nil || len(k) != 1 || k[0].Joined != addrOf("a").String() {
			t.Errorf("known: %+v, %v", k, err)
		}
	})
}

// impostor answers at a's address and counts what is sent to it.
func (f *farm) impostor(cert tls.Certificate) (streams func() int) {
	f.t.Helper()
	l, err := f.socket("a").ListenEarly(&tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{certs.JoinALPN}, Certificates: []tls.Certificate{cert}}, quicConfig())
	if err != nil {
		f.t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	go func() {
		for {
			conn, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				if _, err := conn.AcceptStream(context.Background()); err == nil {
					mu.Lock()
					n++
					mu.Unlock()
				}
			}()
		}
	}()
	f.t.Cleanup(func() {
		if err := l.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// chainOf is a machine's certificate together with its CA's, as the issuer shows it.
func (f *farm) chainOf(dir string) tls.Certificate {
	f.t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(f.dir, dir, certs.NodeCert), filepath.Join(f.dir, dir, certs.NodeKey))
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(f.dir, dir, certs.CACert))
	if err != nil {
		f.t.Fatal(err)
	}
	ca, _ := pem.Decode(data)
	cert.Certificate = append(cert.Certificate, ca.Bytes)
	return cert
}

func TestNothingIsSentToAnybodyButTheIssuer(t *testing.T) {
	for what, c := range map[string]struct {
		cert   func(f *farm) tls.Certificate
		reason certs.Reason
	}{
		"the right name of another CA": {func(f *farm) tls.Certificate {
			if _, err := f.newCA("other").Issue(filepath.Join(f.dir, "fake"), "a", time.Hour, time.Now()); err != nil {
				f.t.Fatal(err)
			}
			return f.chainOf("fake")
		}, certs.AnotherCA},
		"a node of the farm with another name": {func(f *farm) tls.Certificate {
			f.issue("b", time.Hour)
			return f.chainOf("b")
		}, certs.Unfit},
		"the issuer with what has expired": {func(f *farm) tls.Certificate {
			f.issue("a", time.Minute)
			time.Sleep(2 * time.Minute)
			return f.chainOf("a")
		}, certs.Expired},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				cert := c.cert(f)
				token := f.invite(f.issuer("a"), "d", "a", "a")
				streams := f.impostor(cert)
				_, err := f.newcomer("d", token)
				if r, ok := certs.RefusalOf(err); !ok || r.Reason != c.reason || !strings.Contains(err.Error(), "is not the issuer of the farm") {
					t.Errorf("the error is %v", err)
				}
				if n := streams(); n != 0 {
					t.Errorf("%d streams were opened", n)
				}
				if _, err := certs.Load(filepath.Join(f.dir, "d"), time.Now()); err == nil {
					t.Error("files have been written")
				}
			})
		})
	}
}

// The answer is lost, and so is all else for longer than a connection lives.
func TestANodeWhoseAnswerWasLostJoinsAtTheNextTry(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		token := f.invite(i, "d", "a", "a")
		var since time.Time
		from, to := addrOf("a").String(), addrOf("d").String()
		f.net.losing(func(x, y string) bool {
			if x != from || y != to || len(i.Invitations(time.Now())) > 0 {
				return false
			}
			if since.IsZero() {
				since = time.Now()
			}
			return time.Since(since) < 7*time.Second
		})
		if d := took(func() { f.mustJoin("d", token) }); d < 7*time.Second {
			t.Errorf("it took only %v: nothing was lost", d)
		}
		nodes, err := i.Nodes(time.Now())
		if err != nil || strings.Join(nodes, " ") != "a d" {
			t.Errorf("nodes: %v, %v", nodes, err)
		}
		f.linked(a, f.startOn("d"))
	})
}

func TestOfTwoThatJoinWithOneTokenOneIsAdmitted(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		f.start("a")
		token := f.invite(i, "d", "a", "a")
		var both [2]error
		var all sync.WaitGroup
		for n, host := range []string{"d", "e"} {
			all.Go(func() { _, both[n] = f.newcomer(host, token) })
		}
		all.Wait()
		if (both[0] == nil) == (both[1] == nil) {
			t.Fatalf("the two end with %v and %v", both[0], both[1])
		}
		err := errors.Join(both[:]...)
		if r, ok := errors.AsType[*certs.JoinRefusal](err); !ok || r.Reason != certs.ErrInvitationUsed.Reason {
			t.Errorf("the other ends with %v", err)
		}
	})
}

func TestTwentyNodesJoinAtOnceWhileTheFarmServesSessions(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		u := besideAnHonestPeer(f)
		load := f.loaded(100*time.Millisecond, u.a, u.c)
		var all sync.WaitGroup
		for n := range 20 {
			host := string(rune('d' + n))
			token := f.invite(i, host, "a", "a")
			all.Go(func() {
				if _, err := f.newcomer(host, token); err != nil {
					t.Errorf("%s: %v", host, err)
				}
			})
		}
		all.Wait()
		load.end()
		u.check()
	})
}

func TestWhyANodeIsNotAdmittedIsSaidInPlainWords(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		f.invite(i, "z", "a", "a") // so that the protocol is spoken all the time
		want := func(what string, err error, text string, final bool) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v", what, err)
			}
			if _, ok := errors.AsType[*certs.JoinRefusal](err); ok != final {
				t.Errorf("%s is refused by the issuer: %v", what, ok)
			}
		}
		token := f.invite(i, "d", "a", "a")
		f.invite(i, "d", "a", "a")
		_, err := f.newcomer("d", token)
		want("one that was replaced", err, "not known here", true)
		token = f.invite(i, "d", "a", "a")
		f.mustJoin("d", token)
		_, err = f.newcomer("e", token)
		want("one that was used", err, "used already", true)
		_, err = f.newcomer("d", f.invite(i, "d", "a", "a"))
		want("a directory that has files", err, "exists, and is not overwritten", false)
		var silent error
		if d := took(func() { _, silent = f.newcomer("e", f.invite(i, "e", "a", "x", "y")) }); d < joinFor || d > joinFor+time.Second {
			t.Errorf("it was tried for %v", d)
		}
		want("nobody there", silent, "nothing answers on UDP at 10.0.0.120:42425, 10.0.0.121:42425", false)
		if !errors.Is(silent, ErrNoAnswer) {
			t.Errorf("%v is not ErrNoAnswer", silent)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = f.newcomerIn(ctx, filepath.Join(f.dir, "e"), "e", f.invite(i, "e", "a", "x"))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "given up") {
			t.Errorf("given up: %v", err)
		}
		late := f.invite(i, "f", "a", "a")
		time.Sleep(59 * time.Minute)
		f.invite(i, "z", "a", "a")
		time.Sleep(time.Minute)
		_, err = f.newcomer("f", late)
		want("one that has ended", err, "has ended", true)
		// A clock that is wrong is said before the invitation is used up.
		token, text := f.inviteText(i, "g", "a", "a")
		conn := f.mustStranger(f.socket("x"), a)
		answer := askAs(t, conn, frame(kindJoin, joinRequest{Request: forged(t, conn, secretOf(t, text), &x509.CertificateRequest{}), Clock: time.Now().Add(2 * time.Hour).UnixNano()}))
		if got := refusedFor(t, answer); !strings.Contains(got, "by the new node's clock") {
			t.Errorf("a clock that is wrong: %q", got)
		}
		f.mustJoin("g", token)
	})
}

// All are off when the node that has joined is started first. They count like addresses in the settings that never
// answered, and are dialled for as long as it takes.
func TestANodeThatHasJoinedFindsTheOthersWhenTheyComeLongAfterTheyWouldBeLost(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		f.mustJoin("d", f.invite(i, "d", "a", "a"))
		a.kill()
		b.kill()
		d := f.startOn("d")
		f.wantAnswer("a miss at first", d.get(keyOf(1)), store.Unknown, "")
		time.Sleep(5 * time.Second)
		f.wantAnswer("a miss after the grace time", d.get(keyOf(1)), store.NotFound, "")
		time.Sleep(5 * time.Minute)
		d.stop() // it may be restarted meanwhile
		d = f.startOn("d")
		time.Sleep(5 * time.Minute)
		p := d.mesh.Peers()
		if len(p) != 2 || p[0].Node != "a" || p[1].Node != "b" || p[0].State != Out || p[0].Reason != ErrNoAnswer.Error() {
			t.Errorf("peers: %+v", p)
		}
		b = f.startOn("b")
		f.linked(b, d)
		a = f.startOn("a")
		f.linked(a, b, d)
	})
}

func TestANodeThatHasJoinedFindsTheOthersWithoutTheIssuer(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a")
		f.linked(a, b, c)
		c.put(keyOf(1), "on c", 0)
		f.mustJoin("d", f.invite(i, "d", "a", "a"))
		a.kill()
		d := f.startOn("d")
		f.linked(b, c, d)
		f.wantAnswer("get on d", d.get(keyOf(1)), store.OK, "on c")
		// What the others say of a holds: it may have sessions, and is waited for as they do.
		f.wantAnswer("a miss", d.get(keyOf(2)), store.Unknown, "")
		time.Sleep(2 * time.Minute)
		f.wantAnswer("a miss when a is lost", d.get(keyOf(2)), store.NotFound, "")
		// It is dialled all the same: nobody is named in the settings.
		a = f.startOn("a")
		f.linked(a, b, c, d)
	})
}

func TestANodeThatWasNamedAtJoiningCanBeForgotten(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		f.mustJoin("d", f.invite(i, "d", "a", "a"))
		a.kill()
		b.kill()
		d := f.startOn("d")
		for _, name := range []string{"a", "b"} {
			if err := d.mesh.Forget(name); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if p := d.mesh.Peers(); len(p) != 0 {
			t.Errorf("peers: %+v", p)
		}
		d.mesh.mu.Lock()
		n := len(d.mesh.diallers)
		d.mesh.mu.Unlock()
		if n != 0 {
			t.Errorf("%d addresses are still dialled", n)
		}
		d.stop()
		d = f.startOn("d")
		f.wantAnswer("a miss at once", d.get(keyOf(1)), store.NotFound, "")
		if err := d.mesh.Forget("b"); err == nil {
			t.Error("it was known again")
		}
	})
}

// Where the operator draws the links, the node is linked to the one it joined through, unless others are named.
func TestWhereTheOperatorDrawsTheLinksANodeLinksToTheIssuerThatItJoinedThrough(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.Manual = true }
		i := f.issuer("a")
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		b.put(keyOf(1), "on b", 0)
		f.mustJoin("d", f.invite(i, "d", "a", "a"))
		d := f.startOn("d")
		f.linked(a, d)
		f.wantAnswer("get on d", d.get(keyOf(1)), store.OK, "on b")
		for _, down := range []time.Duration{time.Second, time.Hour} {
			a.stop()
			time.Sleep(down)
			a = f.startOn("a")
			f.linked(a, d)
		}
		d.stop()
		d = f.startOn("d")
		f.linked(a, d)
		if d.mesh.direct("b") != nil {
			t.Error("linked to b")
		}
		d.stop()
		d = f.startOn("d", "b")
		f.linked(b, d)
		time.Sleep(10 * time.Second)
		if d.mesh.direct("a") != nil {
			t.Error("linked to a, which the operator has not drawn")
		}
	})
}

// Both are stopped in good order at the same time, and each takes the other for drained.
func TestTwoNodesThatDrainedAtOnceFindEachOtherAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		f.mustJoin("d", f.invite(i, "d", "a", "a"))
		d := f.startOn("d")
		f.linked(a, d)
		var both sync.WaitGroup
		for _, n := range []*testNode{a, d} {
			both.Go(func() {
				if err := n.mesh.GoodBye(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		a.stop()
		d.stop()
		a, d = f.startOn("a"), f.startOn("d")
		f.linked(a, d)
	})
}

func TestANewNodeIsToldOfNoMoreNodesThanFitIntoAFrame(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, c := f.start("a"), f.start("c", "a")
		f.linked(a, c)
		a.mesh.mu.Lock()
		for n := range 250 {
			x := a.mesh.node(fmt.Sprintf("b%03d", n))
			x.addr, x.site = strings.Repeat("x", 200), strings.Repeat("y", 200)
		}
		a.mesh.mu.Unlock()
		list := a.mesh.members("d")
		if n := len(list.Nodes); n < 50 || list.Nodes[0].Name != "c" {
			t.Errorf("%d nodes, the first is %s", n, list.Nodes[0].Name)
		}
		if err := writeFrame(&bytes.Buffer{}, kindMembers, list); err != nil {
			t.Error(err)
		}
	})
}

func TestANodeJoinsOverARealNetwork(t *testing.T) {
	dir := t.TempDir()
	ca := realCA(t, dir)
	i, err := certs.OpenIssuer(filepath.Join(dir, "ca"), certs.DefaultRenewedLife, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"a", "b"} {
		if _, err := ca.Issue(filepath.Join(dir, name), name, time.Hour, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	a := realRun(t, filepath.Join(dir, "a"), "127.0.0.1:0", i)
	b := realRun(t, filepath.Join(dir, "b"), "127.0.0.1:0", nil, a.mesh.Addr().String())
	realLinked(t, a, b)
	b.do(&store.Request{Op: store.Put, Key: []byte(keyOf(1)), Timeout: 20, Body: []byte("on b")})
	text, err := i.Invite("d", time.Hour, "a", []string{"127.0.0.1:9", a.mesh.Addr().String()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := certs.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	peer, err := Join(t.Context(), token, filepath.Join(dir, "d"), func(line string) { said = append(said, line) })
	if err != nil || peer.Node != "d" {
		t.Fatal(peer, err)
	}
	if len(said) != 2 || strings.Contains(strings.Join(said, ""), text) {
		t.Errorf("said: %q", said)
	}
	d := realRun(t, filepath.Join(dir, "d"), "127.0.0.1:0", nil)
	realLinked(t, a, b, d)
	got := d.do(&store.Request{Op: store.Get, Key: []byte(keyOf(1)), Cookie: store.NoCookie})
	if got.Status != store.OK || string(got.Body) != "on b" {
		t.Errorf("get on d: %d, %q", got.Status, got.Body)
	}
}
