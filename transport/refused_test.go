package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
	"peerstate/store"
)

// authority is the farm's CA with its key in hand, to sign what certs would not.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func pemBlock(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%s holds no PEM block", path)
	}
	return block.Bytes
}

func (f *farm) authority() *authority {
	f.t.Helper()
	cert, err := x509.ParseCertificate(pemBlock(f.t, filepath.Join(f.dir, "ca", certs.CACert)))
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(pemBlock(f.t, filepath.Join(f.dir, "ca", certs.CAKey)))
	if err != nil {
		f.t.Fatal(err)
	}
	return &authority{t: f.t, cert: cert, key: key.(*ecdsa.PrivateKey)}
}

// issue signs a certificate for b of the farm, with changes.
func (a *authority) issue(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "b"},
		URIs:      []*url.URL{certs.Identity{Farm: "farm", Node: "b"}.URI()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	change(cert)
	return tls.Certificate{Certificate: [][]byte{a.sign(cert, &key.PublicKey)}, PrivateKey: key}
}

func (a *authority) sign(cert *x509.Certificate, public *ecdsa.PublicKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// stranger is somebody who must get nothing, and why.
type stranger struct {
	cert   tls.Certificate
	reason certs.Reason
}

func (f *farm) strangers() map[string]stranger {
	f.t.Helper()
	a := f.authority()
	other, err := certs.CreateCA(filepath.Join(f.dir, "other-ca"), "farm", time.Hour, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := other.Issue(filepath.Join(f.dir, "other-b"), "b", time.Hour, time.Now()); err != nil {
		f.t.Fatal(err)
	}
	foreign, err := tls.LoadX509KeyPair(filepath.Join(f.dir, "other-b", certs.NodeCert), filepath.Join(f.dir, "other-b", certs.NodeKey))
	if err != nil {
		f.t.Fatal(err)
	}
	hour := time.Hour
	return map[string]stranger{
		"another CA": {foreign, certs.AnotherCA},
		"another farm": {a.issue(func(c *x509.Certificate) {
			c.URIs = []*url.URL{certs.Identity{Farm: "other", Node: "b"}.URI()}
		}), certs.AnotherFarm},
		"expired": {a.issue(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*hour), time.Now().Add(-hour)
		}), certs.Expired},
		"not yet valid": {a.issue(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(hour), time.Now().Add(2*hour)
		}), certs.NotYetValid},
		"no node name":      {a.issue(func(c *x509.Certificate) { c.URIs = nil }), certs.NoNodeName},
		"a host's name":     {a.issue(func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"b"} }), certs.NoNodeName},
		"another use":       {a.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), certs.Unfit},
		"the CA's own":      {tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}, certs.Unfit},
		"absent":            {tls.Certificate{}, certs.Absent},
		"not a certificate": {tls.Certificate{Certificate: [][]byte{[]byte("junk")}, PrivateKey: a.key}, certs.Unreadable},
	}
}

// anybody presents a certificate and accepts everybody, on either end.
func anybody(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, ClientAuth: tls.RequestClientCert, InsecureSkipVerify: true,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}
}

// wantTold checks that the refused side can read the reason in the end of its connection.
func wantTold(t *testing.T, conn *quic.Conn, want certs.Reason) {
	t.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(time.Second):
		t.Fatal("the connection was not ended")
	}
	if got, ok := refusedUs(context.Cause(conn.Context())); !ok || got != want {
		t.Errorf("the refused side reads %v in %v, want %v", got, context.Cause(conn.Context()), want)
	}
}

// eachStranger runs f with a fresh farm for each of them.
func eachStranger(t *testing.T, f func(t *testing.T, f *farm, s stranger)) {
	var names []string
	inFarm(t, func(t *testing.T, f *farm) {
		for name := range f.strangers() {
			names = append(names, name)
		}
	})
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			inFarm(t, func(t *testing.T, fm *farm) { f(t, fm, fm.strangers()[name]) })
		})
	}
}

func TestADiallerWithoutAGoodCertificateGetsNothingAndBothSidesKnowWhy(t *testing.T) {
	eachStranger(t, func(t *testing.T, f *farm, s stranger) {
		u := besideAnHonestPeer(f)
		socket := f.socket("b")
		for range 5 {
			conn, err := socket.Dial(t.Context(), u.a.addr, anybody(s.cert), quicConfig())
			if err != nil {
				t.Fatal(err) // the dialler is content; the refusal comes later
			}
			// What it has to say is on its way before it hears of the refusal.
			for _, b := range [][]byte{
				frame(kindHello, hello{Min: 1, Max: 1, Instance: 7}),
				frame(kindQuestion, question{Want: store.Move, Key: keyOf(100), Within: time.Second}),
			} {
				stream, err := conn.OpenStream()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := stream.Write(b); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if n, err := stream.Read(make([]byte, 1)); n > 0 || err == nil {
						t.Error("it was answered")
					}
				}()
			}
			wantTold(t, conn, s.reason)
		}
		if u.a.peer("b").Node != "" {
			t.Error("it is known as a node")
		}
		if !u.a.holds(keyOf(100)) {
			t.Error("a session was given away")
		}
		f.wantLogged("a", "a peer's certificate is refused: "+s.reason.String(), addrOf("b").String())
		u.check()
	})
}

func TestAListenerWithoutAGoodCertificateGetsNothingAndBothSidesKnowWhy(t *testing.T) {
	eachStranger(t, func(t *testing.T, f *farm, s stranger) {
		if s.reason == certs.Absent {
			// TLS has one alert for none and for one that cannot be read, on this side.
			s.reason, s.cert.PrivateKey = certs.Unreadable, f.authority().key
		}
		listener, err := f.socket("b").ListenEarly(anybody(s.cert), quicConfig())
		if err != nil {
			t.Fatal(err)
		}
		a := f.start("a", "b")
		a.put(keyOf(100), "on a", 0)
		for range 2 { // it tries again later
			conn, err := listener.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// What it has to say is on its way before it hears of the refusal.
			if stream, err := conn.OpenStream(); err == nil {
				_, err = stream.Write(frame(kindQuestion, question{Want: store.Move, Key: keyOf(100), Within: time.Second}))
				if err != nil {
					t.Fatal(err)
				}
			}
			if stream, err := conn.AcceptStream(t.Context()); err == nil {
				t.Errorf("it was sent something: %v", stream.StreamID())
			}
			wantTold(t, conn, s.reason)
		}
		if !a.holds(keyOf(100)) {
			t.Error("a session was given away")
		}
		synctest.Wait()
		p := a.mesh.Peers()
		if len(p) != 1 || p[0].Node != "" || p[0].State != Refused || !strings.Contains(p[0].Reason, s.reason.String()) {
			t.Errorf("shown as %+v", p)
		}
		f.wantLogged("a", "a peer's certificate is refused: "+s.reason.String(), addrOf("b").String())
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestNobodyGetsInWithAnotherProtocol(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		config := f.issue("b", time.Hour).DialTLS("h3")
		if conn, err := f.socket("b").Dial(t.Context(), u.a.addr, config, quicConfig()); err == nil {
			t.Errorf("connected: %v", conn.ConnectionState())
		}
		u.check()
	})
}

// write makes a node's directory as certs.Load wants it, at whatever time.
func (f *farm) write(host string, ca []byte, cert tls.Certificate) {
	f.t.Helper()
	dir := filepath.Join(f.dir, host)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err == nil {
		err = certs.MakeDir(dir)
	}
	for name, block := range map[string]*pem.Block{
		certs.CACert:   {Type: "CERTIFICATE", Bytes: ca},
		certs.NodeCert: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		certs.NodeKey:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		err = errors.Join(err, certs.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block)))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// otherFarm is the CA's key in a certificate for another farm: somebody has made two farms of one CA.
func (a *authority) otherFarm() []byte {
	cert := *a.cert
	cert.SerialNumber = big.NewInt(42)
	cert.URIs = []*url.URL{{Scheme: "spiffe", Host: "other"}}
	cert.PermittedURIDomains = []string{"other"}
	cert.ExtraExtensions, cert.Extensions = nil, nil
	return a.sign(&cert, &a.key.PublicKey)
}

// Both ends are real nodes here, so both logs are real, too.
func TestTwoNodesThatDoNotAcceptEachOtherBothSayWhy(t *testing.T) {
	for what, tt := range map[string]struct {
		prepare func(f *farm)
		ahead   time.Duration // how far b's clock was ahead when it started
		a, b    string        // the reason that a and b give for refusing; "": they do not
	}{
		"another CA": {func(f *farm) {
			other, err := certs.CreateCA(filepath.Join(f.dir, "other-ca"), "farm", time.Hour, time.Now())
			if err == nil {
				_, err = other.Issue(filepath.Join(f.dir, "b"), "b", time.Hour, time.Now())
			}
			if err != nil {
				f.t.Fatal(err)
			}
		}, 0, "another CA", "another CA"},
		"another farm": {func(f *farm) {
			a := f.authority()
			f.write("b", a.otherFarm(), a.issue(func(c *x509.Certificate) {
				c.URIs = []*url.URL{certs.Identity{Farm: "other", Node: "b"}.URI()}
			}))
		}, 0, "another farm", "another farm"},
		"expired": {func(f *farm) {
			a := f.authority()
			f.write("b", a.cert.Raw, a.issue(func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			}))
		}, -90 * time.Minute, "expired", ""},
		"not yet valid": {func(f *farm) {
			a := f.authority()
			f.write("b", a.cert.Raw, a.issue(func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
			}))
		}, 90 * time.Minute, "not yet valid", ""},
	} {
		for _, dialler := range []string{"a", "b"} {
			t.Run(what+"/"+dialler+" dials", func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					tt.prepare(f)
					f.clock = tt.ahead
					peers := map[string][]string{dialler: {map[string]string{"a": "b", "b": "a"}[dialler]}}
					b := f.startOn("b", peers["b"]...)
					f.clock = 0
					a := f.start("a", peers["a"]...)
					time.Sleep(2 * time.Minute)
					if a.mesh.direct("b") != nil || b.mesh.direct("a") != nil {
						t.Fatal("they are linked")
					}
					// The side that judges first ends the handshake: that is the dialler, where both refuse.
					first, second, reason := "a", "b", tt.a
					if dialler == "b" && tt.b != "" {
						first, second, reason = "b", "a", tt.b
					}
					f.wantLogged(first, "level=ERROR", "a peer's certificate is refused: "+reason)
					f.wantLogged(second, "level=ERROR", "a peer refuses this node's certificate: "+reason)
					p := f.nodes[dialler].mesh.Peers()
					if len(p) != 1 || p[0].State != Refused || !strings.Contains(p[0].Reason, reason) {
						t.Errorf("shown as %+v", p)
					}
				})
			})
		}
	}
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		socket := f.socket("b")
		for range 60 {
			conn, err := socket.Dial(t.Context(), u.a.addr, anybody(tls.Certificate{}), quicConfig())
			if err == nil {
				<-conn.Context().Done()
			}
		}
		f.wantLogged("a", "level=ERROR")
		time.Sleep(repeatAfter)
		conn, err := socket.Dial(t.Context(), u.a.addr, anybody(tls.Certificate{}), quicConfig())
		if err != nil {
			t.Fatal(err)
		}
		<-conn.Context().Done()
		synctest.Wait()
		if n := len(f.log.lines("a", "level=ERROR")); n != 2 {
			t.Errorf("%d lines after a while", n)
		}
		u.check()
	})
}
