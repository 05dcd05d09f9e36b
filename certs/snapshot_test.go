package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAWholeSetOfFilesMakesASnapshot(t *testing.T) {
	ca := newCA(t, "shop", noon)
	s := newNode(t, ca, "web1", noon)
	want := Peer{
		Identity:  Identity{"shop", "web1"},
		Serial:    s.cert.Leaf.SerialNumber.Text(16),
		Issued:    noon,
		Issuer:    "peerstate CA shop",
		IssuerKey: ca.Authority().KeyID,
		Key:       fingerprint(s.cert.Leaf.RawSubjectPublicKeyInfo),
		From:      noon.Add(-day),
		Expires:   noon.Add(DefaultNodeLife),
		CAExpires: noon.Add(DefaultCALife),
	}
	if diff := cmp.Diff(want, s.Self()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Authority{ca.Authority()}, s.Authorities()); diff != "" {
		t.Error(diff)
	}
}

// Each way in which a directory can be wrong, and what must be in the message: the file, what is wrong,
// and what to do.
func TestABrokenSetOfFilesIsNoSnapshot(t *testing.T) {
	const farm = "farm"
	ca := newCA(t, farm, noon)
	other := newCA(t, farm, noon)
	present := func(dir string, cert tls.Certificate) {
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, NodeCert, encodePEM(pemCertificate, cert.Certificate[0]))
		put(t, dir, NodeKey, encodePEM(pemKey, key))
	}
	for name, c := range map[string]struct {
		breakIt func(dir string)
		file    string
		says    []string
	}{
		"no CA":          {func(dir string) { remove(t, dir, CACert) }, CACert, []string{"is missing", "peerstate cert issue"}},
		"no certificate": {func(dir string) { remove(t, dir, NodeCert) }, NodeCert, []string{"is missing", "peerstate cert issue"}},
		"no key":         {func(dir string) { remove(t, dir, NodeKey) }, NodeKey, []string{"is missing", "peerstate cert issue"}},
		"empty":          {func(dir string) { put(t, dir, NodeCert, nil) }, NodeCert, []string{"not a PEM file"}},
		"cut off": {func(dir string) { put(t, dir, NodeCert, get(t, dir, NodeCert)[:200]) }, NodeCert,
			[]string{"damaged or cut off"}},
		"two certificates": {func(dir string) { put(t, dir, NodeCert, append(get(t, dir, NodeCert), get(t, dir, CACert)...)) }, NodeCert,
			[]string{"2 certificates instead of one", "ca.crt"}},
		"another node's key": {func(dir string) { put(t, dir, NodeKey, get(t, issue(t, ca, "web2", noon), NodeKey)) }, NodeKey,
			[]string{"does not belong to node.crt", "copy both again"}},
		"the CA's key": {func(dir string) { put(t, dir, NodeKey, get(t, ca.dir, CAKey)) }, NodeKey,
			[]string{"does not belong to node.crt"}},
		"another CA": {func(dir string) { put(t, dir, CACert, get(t, other.dir, CACert)) }, NodeCert,
			[]string{"another CA", "peerstate CA farm", "peerstate cert status"}},
		"another farm": {func(dir string) {
			present(dir, forge(t, ca, noon, func(c *x509.Certificate) { c.URIs = []*url.URL{Identity{"other", "web1"}.URI()} }))
		}, NodeCert, []string{"another farm", `"other"`, `"farm"`}},
		"CAs of two farms": {func(dir string) {
			put(t, dir, CACert, append(get(t, dir, CACert), newCA(t, "other", noon).trust.pem()...))
		}, CACert,
			[]string{`"other"`, "copy ca.crt again"}},
		"no node name": {func(dir string) { present(dir, forge(t, ca, noon, func(c *x509.Certificate) { c.URIs = nil })) }, NodeCert,
			[]string{"no node name", "peerstate cert issue"}},
		"expired": {func(dir string) { present(dir, forge(t, ca, noon.Add(-year), func(*x509.Certificate) {})) }, NodeCert,
			[]string{"expired", "ended on 2025-11-21 12:00 UTC", "it is now 2026-11-20 12:00 UTC", "peerstate cert issue"}},
		"not yet valid": {func(dir string) { present(dir, forge(t, ca, noon.Add(year), func(*x509.Certificate) {})) }, NodeCert,
			[]string{"not yet valid", "begins on 2027-11-20 11:00 UTC", "clocks and time zones"}},
		"only for dialling": {func(dir string) {
			present(dir, forge(t, ca, noon, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }))
		}, NodeCert, []string{"unfit"}},
		"only for listening": {func(dir string) {
			present(dir, forge(t, ca, noon, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }))
		}, NodeCert, []string{"unfit"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := issue(t, ca, "web1", noon)
			c.breakIt(dir)
			s, err := Load(dir, noon)
			fault, ok := errors.AsType[*FileError](err)
			if !ok || s != nil {
				t.Fatalf("error %v, snapshot %v; want a FileError and none", err, s)
			}
			if fault.Path != filepath.Join(dir, c.file) || fault.Remedy == "" {
				t.Errorf("it is about %q, remedy %q", fault.Path, fault.Remedy)
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q is not in the error %v", text, err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestSeveralCAsAreTrustedAtOnce(t *testing.T) {
	older, newer := newCA(t, "farm", noon), newCA(t, "farm", noon)
	both := append(older.trust.pem(), newer.trust.pem()...)
	web1, web2 := issue(t, older, "web1", noon), issue(t, newer, "web2", noon)
	put(t, web1, CACert, both)
	put(t, web2, CACert, both)
	a, err := Load(web1, noon)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(web2, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]*Snapshot{{a, b}, {b, a}} {
		peer, err := pair[0].trust.verify([]*x509.Certificate{pair[1].cert.Leaf}, noon, x509.ExtKeyUsageServerAuth)
		if err != nil || peer != pair[1].Self() {
			t.Errorf("%v, %v, want %v", peer, err, pair[1].Self())
		}
	}
}

func TestACAThatHasEndedDoesNotSpoilTheOthers(t *testing.T) {
	older, newer := newCA(t, "farm", noon.Add(-DefaultCALife-day)), newCA(t, "farm", noon)
	dir := issue(t, newer, "web1", noon)
	put(t, dir, CACert, append(older.trust.pem(), newer.trust.pem()...))
	if _, err := Load(dir, noon); err != nil {
		t.Error(err)
	}
}

// handshake connects two configurations over a pipe and gives what each side learned.
func handshake(t *testing.T, listen, dial *tls.Config) (listener, dialler *tls.Conn, listenErr, dialErr error) {
	t.Helper()
	a, b := net.Pipe()
	listener, dialler = tls.Server(a, listen), tls.Client(b, dial)
	t.Cleanup(func() {
		// Without their closing words, for which nobody is there to listen.
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	done := make(chan error)
	go func() {
		err := listener.Handshake()
		if err != nil {
			err = errors.Join(err, a.Close())
		}
		done <- err
	}()
	if dialErr = dialler.Handshake(); dialErr != nil {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	return listener, dialler, <-done, dialErr
}

func TestAnExpiredCertificateGetsNothingAlsoOnALinkThatIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		ca := newCA(t, "farm", time.Now())
		a, b := newNode(t, ca, "web1", time.Now()), newNode(t, ca, "web2", time.Now())
		listener, dialler, err1, err2 := handshake(t, a.ListenTLS("x"), b.DialTLS("x"))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		know := func() (Peer, Peer, error) {
			p1, err1 := a.Peer(listener.ConnectionState())
			p2, err2 := b.Peer(dialler.ConnectionState())
			return p1, p2, errors.Join(err1, err2)
		}
		if p1, p2, err := know(); err != nil || p1 != b.Self() || p2 != a.Self() {
			t.Errorf("the peers are %v and %v, %v", p1, p2, err)
		}
		time.Sleep(DefaultNodeLife)
		if _, _, err := know(); err != nil {
			t.Errorf("in the last second: %v", err)
		}
		time.Sleep(time.Second)
		for _, look := range []func() (Peer, error){
			func() (Peer, error) { return a.Peer(listener.ConnectionState()) },
			func() (Peer, error) { return b.Peer(dialler.ConnectionState()) },
		} {
			peer, err := look()
			if r, ok := RefusalOf(err); !ok || r.Reason != Expired || peer != (Peer{}) {
				t.Errorf("after the end: %v, %v", peer, err)
			}
		}
		_, _, _, err := handshake(t, a.ListenTLS("x"), b.DialTLS("x"))
		if r, ok := RefusalOf(err); !ok || r.Reason != Expired {
			t.Errorf("a new link: %v", err)
		}
	})
}

func TestNoSessionIsEverResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "farm", time.Now())
		a, b := newNode(t, ca, "web1", time.Now()), newNode(t, ca, "web2", time.Now())
		// Even with a dialler that would like to.
		dial := b.DialTLS("x")
		dial.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		dial.ServerName = "web1"
		for range 2 {
			listener, dialler, err1, err2 := handshake(t, a.ListenTLS("x"), dial)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = listener.Write([]byte("x")) }() // after which a ticket would have come; a failure shows in the read
			if _, err := dialler.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if listener.ConnectionState().DidResume || dialler.ConnectionState().DidResume {
				t.Error("resumed")
			}
		}
	})
}

func TestOnlyTLS13IsSpoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "farm", time.Now())
		a, b := newNode(t, ca, "web1", time.Now()), newNode(t, ca, "web2", time.Now())
		old := b.DialTLS("x")
		old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if _, _, err, _ := handshake(t, a.ListenTLS("x"), old); err == nil {
			t.Error("TLS 1.2 is accepted")
		}
		if _, _, err, _ := handshake(t, a.ListenTLS("x"), b.DialTLS("y")); err == nil {
			t.Error("another protocol is accepted")
		}
	})
}
