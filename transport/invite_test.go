package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// issuer makes a machine that starts from now on the farm's issuer.
func (f *farm) issuer(host string) *certs.Issuer {
	f.t.Helper()
	i, err := certs.OpenIssuer(filepath.Join(f.dir, "ca"), certs.DefaultRenewedLife, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := i.Close(); err != nil {
			f.t.Error(err)
		}
	})
	before := f.config
	f.config = func(c *Config) {
		if before != nil {
			before(c)
		}
		if c.Certs.Self().Node == host {
			c.Issuer = i
		}
	}
	return i
}

// invite makes an invitation of a node; the issuer is at the named machines.
func (f *farm) invite(i *certs.Issuer, node, self string, hosts ...string) *certs.Token {
	f.t.Helper()
	token, _ := f.inviteText(i, node, self, hosts...)
	return token
}

func (f *farm) inviteText(i *certs.Issuer, node, self string, hosts ...string) (*certs.Token, string) {
	f.t.Helper()
	var addrs []string
	for _, host := range hosts {
		addrs = append(addrs, addrOf(host).String())
	}
	text, err := i.Invite(node, time.Hour, self, addrs, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := certs.ParseToken(text)
	if err != nil {
		f.t.Fatal(err)
	}
	return token, text
}

// stranger is whoever comes without any certificate to join, and decides about each byte.
func (f *farm) stranger(t *quic.Transport, to *testNode) (*quic.Conn, error) {
	return t.Dial(f.t.Context(), to.addr, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{certs.JoinALPN}, InsecureSkipVerify: true}, quicConfig())
}

func (f *farm) mustStranger(t *quic.Transport, to *testNode) *quic.Conn {
	f.t.Helper()
	conn, err := f.stranger(t, to)
	if err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// askAs writes bytes on a stream of their own and gives what comes back until the stream or the connection ends.
func askAs(t *testing.T, conn *quic.Conn, b []byte) []byte {
	t.Helper()
	s, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(s) // the connection may be closed, as it should
	return got
}

// refusedFor reads the answer to a request that was turned down.
func refusedFor(t *testing.T, answer []byte) string {
	t.Helper()
	var no notAdmitted
	if err := expect(bytes.NewReader(answer), kindNotAdmitted, &no); err != nil {
		t.Fatalf("not turned down: %v, %q", err, answer)
	}
	return no.Text
}

// secretOf reads the secret out of an invitation, as only a thief would.
func secretOf(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "peerstate1-"))
	if err != nil {
		t.Fatal(err)
	}
	var wire map[int]any
	if err := cbor.Unmarshal(data[2:len(data)-4], &wire); err != nil {
		t.Fatal(err)
	}
	return wire[6].([]byte)
}

// forged is a request to join for a connection, made from the secret, with any certificate request.
func forged(t *testing.T, conn *quic.Conn, secret []byte, csr *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, csr, key)
	if err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState().TLS
	bound, err := state.ExportKeyingMaterial("EXPERIMENTAL peerstate join", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	id, proofKey := sha256.Sum256(append([]byte("peerstate invitation 1\n"), secret...)), sha256.Sum256(secret)
	mac := hmac.New(sha256.New, proofKey[:])
	mac.Write([]byte("peerstate join 1\n"))
	mac.Write(bound)
	mac.Write(der)
	return mustCBOR(map[int]any{1: id[:16], 2: der, 3: mac.Sum(nil)})
}

func joinFrame(request []byte) []byte {
	return frame(kindJoin, joinRequest{Request: request, Clock: time.Now().UnixNano()})
}

func TestAnInvitationForOneNameGetsNoOther(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		_, text := f.inviteText(i, "d", "a", "a")
		conn := f.mustStranger(f.socket("d"), a)
		uri, err := url.Parse("spiffe://farm/node/a")
		if err != nil {
			t.Fatal(err)
		}
		answer := bytes.NewReader(askAs(t, conn, joinFrame(forged(t, conn, secretOf(t, text),
			&x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}, URIs: []*url.URL{uri}, DNSNames: []string{"a"}}))))
		var ok admitted
		if err := expect(answer, kindAdmitted, &ok); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, ok.Size)
		if _, err := io.ReadFull(answer, reply); err != nil {
			t.Fatal(err)
		}
		var wire map[int]any
		if err := cbor.Unmarshal(reply, &wire); err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(wire[1].([]byte))
		if err != nil {
			t.Fatal(err)
		}
		if len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://farm/node/d" || cert.Subject.CommonName != "d" || len(cert.DNSNames) != 0 {
			t.Errorf("the certificate is for %v, %v", cert.URIs, cert.Subject)
		}
	})
}

func TestARequestToJoinIsWorthNothingOnAnotherConnection(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		token, text := f.inviteText(i, "d", "a", "a")
		tr := f.socket("x")
		recorded := forged(t, f.mustStranger(tr, a), secretOf(t, text), &x509.CertificateRequest{})
		if got := refusedFor(t, askAs(t, f.mustStranger(tr, a), joinFrame(recorded))); got != certs.ErrWrongSecret.Reason {
			t.Errorf("it is told %q", got)
		}
		if _, err := f.newcomer("d", token); err != nil {
			t.Errorf("who is invited: %v", err)
		}
		f.wantLogged("a", "not admitted", "the proof of the invitation is wrong")
	})
}

// Every first byte and frame that opens anything on a link opens nothing here.
func TestNothingButARequestIsAnsweredOnAConnectionForJoining(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		u := besideAnHonestPeer(f)
		f.invite(i, "d", "a", "a")
		all := badStreams()
		for k := range 256 {
			all["an empty frame of kind "+string(rune(k))] = rawFrame(kind(k), []byte{0xa0})
		}
		all["a hello"] = frame(kindHello, hello{Min: 1, Max: 1, Instance: 5})
		all["a look"] = frame(kindPing, ping{N: 1})
		all["a question"] = frame(kindQuestion, question{Want: 1, Key: keyOf(100), Within: time.Second})
		all["nothing"] = nil
		all["a request over the limit"] = frame(kindJoin, joinRequest{Request: make([]byte, certs.MaxJoinRequest)})
		all["a request that is none"] = joinFrame([]byte("garbage"))
		all["a request with deep CBOR"] = rawFrame(kindJoin, deepCBOR)
		tr := f.socket("x")
		refusals := 0
		for what, b := range all {
			conn := f.mustStranger(tr, u.a)
			got := askAs(t, conn, b)
			if len(got) > 0 {
				refusedFor(t, got)
				refusals++
			}
			if what == "a hello" || what == "a question" {
				s, err := conn.OpenStreamSync(t.Context()) // nor on a second stream
				if err == nil {
					_, err = s.Write(b)
				}
				if err == nil {
					t.Errorf("%s: the connection lives on", what)
				}
			}
			if err := conn.CloseWithError(0, ""); err != nil {
				t.Fatal(err)
			}
		}
		if refusals > 3 { // the two that are requests, and an empty one
			t.Errorf("%d were answered", refusals)
		}
		synctest.Wait()
		u.check()
		if n := value(t, u.a.mesh.metrics.misbehaved); n != 0 {
			t.Errorf("strangers are counted %v times as peers that misbehave", n)
		}
		if p := u.a.mesh.Peers(); len(p) != 1 {
			t.Errorf("peers: %+v", p)
		}
		if _, err := f.newcomer("d", f.invite(i, "d", "a", "a")); err != nil {
			t.Error(err)
		}
	})
}

func TestASecondStreamOnAConnectionForJoiningIsNeverRead(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		u := besideAnHonestPeer(f)
		_, text := f.inviteText(i, "d", "a", "a")
		conn := f.mustStranger(f.socket("d"), u.a)
		first, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := joinFrame(forged(t, conn, secretOf(t, text), &x509.CertificateRequest{}))
		if _, err := first.Write(b[:10]); err != nil {
			t.Fatal(err)
		}
		second, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := second.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := second.Read(make([]byte, 1)); n != 0 || !timedOut(err) {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if _, err := first.Write(b[10:]); err != nil {
			t.Fatal(err)
		}
		if k, _, err := readFrame(first); err != nil || k != kindAdmitted {
			t.Errorf("the first stream: kind %d, %v", k, err)
		}
		u.check()
	})
}

// A request that comes byte by byte ends after ten seconds, and one that never comes as well.
func TestWhoIsSlowToAskToJoinIsSentAwayAfterTenSeconds(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		u := besideAnHonestPeer(f)
		_, text := f.inviteText(i, "d", "a", "a")
		tr := f.socket("d")
		drip, silent := f.mustStranger(tr, u.a), f.mustStranger(tr, u.a)
		begun := time.Now()
		s, err := drip.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range joinFrame(forged(t, drip, secretOf(t, text), &x509.CertificateRequest{})) {
			if _, err := s.Write([]byte{c}); err != nil {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		for _, conn := range []*quic.Conn{drip, silent} {
			select {
			case <-conn.Context().Done():
			case <-time.After(time.Minute):
				t.Fatal("still connected after a minute")
			}
		}
		if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("sent away after %v", took)
		}
		u.check()
	})
}

// Some come again and again and say nothing. They take all places, until somebody comes who has something to say.
func TestWhoeverIsSlowKeepsNobodyFromJoining(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		u := besideAnHonestPeer(f)
		token := f.invite(i, "d", "a", "a")
		stop := make(chan struct{})
		var slow sync.WaitGroup
		tr := f.socket("x")
		for range 2 * maxApplicants {
			slow.Go(func() {
				for {
					conn, err := f.stranger(tr, u.a)
					if err != nil {
						t.Error(err)
						return
					}
					select {
					case <-conn.Context().Done():
					case <-stop:
						_ = conn.CloseWithError(0, "")
						return
					}
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		u.a.mesh.applicants.mu.Lock()
		n := len(u.a.mesh.applicants.all)
		u.a.mesh.applicants.mu.Unlock()
		if n != maxApplicants {
			t.Errorf("%d are heard, want %d", n, maxApplicants)
		}
		if _, err := f.newcomer("d", token); err != nil {
			t.Error(err)
		}
		u.check()
		close(stop)
		slow.Wait()
	})
}

func TestAThousandHalfOpenConnectionsForJoiningHarmNobody(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		u := besideAnHonestPeer(f)
		token := f.invite(i, "d", "a", "a")
		tr := f.socket("x")
		// Whatever comes back to x is lost, so no handshake is ever completed.
		at := addrOf("x").String()
		f.net.losing(func(_, to string) bool { return to == at })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for range 1000 {
			go func() {
				conn, err := tr.Dial(ctx, u.a.addr, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{certs.JoinALPN}, InsecureSkipVerify: true}, quicConfig())
				if err == nil {
					t.Error("a handshake was completed")
					_ = conn.CloseWithError(0, "")
				}
			}()
		}
		time.Sleep(time.Second)
		u.check()
		if _, err := f.newcomer("d", token); err != nil {
			t.Error(err)
		}
		u.check()
		time.Sleep(time.Minute)
		u.check()
	})
}

func TestWithoutAnOpenInvitationTheProtocolForJoiningIsNotSpoken(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a, c := f.start("a"), f.start("c", "a")
		f.linked(a, c)
		tr := f.socket("x")
		refused := func(what string, to *testNode) {
			t.Helper()
			_, err := f.stranger(tr, to)
			te, ok := errors.AsType[*quic.TransportError](err)
			if !ok || !te.Remote || te.ErrorCode != 0x100+noApplicationProtocol {
				t.Errorf("%s: %v", what, err)
			}
		}
		refused("before anybody is invited", a)
		token := f.invite(i, "d", "a", "a")
		refused("at a node that is not the issuer", c)
		if _, err := f.newcomer("d", f.invite(i, "d", "a", "c")); err == nil || !strings.Contains(err.Error(), "not the farm's issuer") {
			t.Errorf("who asks another node is told %v", err)
		}
		f.mustStranger(tr, a)
		time.Sleep(time.Hour)
		refused("when the invitation has ended", a)
		if _, err := f.newcomer("d", token); err == nil || !strings.Contains(err.Error(), "no invitation is open any more") {
			t.Errorf("who comes late is told %v", err)
		}
	})
}

func TestBothProtocolsAtOnceAreALinkOrNothing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		f.invite(i, "d", "a", "a")
		conn, err := f.socket("x").Dial(t.Context(), a.addr,
			&tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{certs.JoinALPN, alpn}, InsecureSkipVerify: true}, quicConfig())
		if err == nil {
			<-conn.Context().Done() // a dialler hears of the refusal of its certificate after the handshake
			err = context.Cause(conn.Context())
		}
		if reason, ok := refusedUs(err); !ok || reason != certs.Absent {
			t.Errorf("it ends with %v", err)
		}
	})
}

func TestWrongRequestsToJoinAreSlowedDownAndARightOneIsNot(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issuer("a")
		a := f.start("a")
		token := f.invite(i, "d", "a", "a")
		tr, last := f.socket("x"), ""
		for range 40 {
			conn := f.mustStranger(tr, a)
			last = refusedFor(t, askAs(t, conn, joinFrame(forged(t, conn, make([]byte, 32), &x509.CertificateRequest{}))))
			if err := conn.CloseWithError(0, ""); err != nil {
				t.Fatal(err)
			}
		}
		if last != certs.ErrTooManyTries.Reason {
			t.Errorf("the last is told %q", last)
		}
		if d := took(func() { f.mustJoin("d", token) }); d > time.Second {
			t.Errorf("the right one took %v", d)
		}
	})
}
