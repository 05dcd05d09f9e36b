package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAFarmsNameCanBeReadFromItsCA(t *testing.T) {
	ca := newCA(t, "shop", noon)
	loaded, err := LoadCA(ca.dir)
	if err != nil {
		t.Fatal(err)
	}
	a := loaded.Authority()
	if loaded.Farm() != "shop" || a.Farm != "shop" || a.Name != "peerstate CA shop" {
		t.Errorf("farm %q, authority %+v", loaded.Farm(), a)
	}
	if want := noon.Add(DefaultCALife); !a.Expires.Equal(want) {
		t.Errorf("ends %v, want %v", a.Expires, want)
	}
	if a != ca.Authority() {
		t.Errorf("loaded as %+v, created as %+v", a, ca.Authority())
	}
}

func TestACASignsNothingButNodesOfItsFarm(t *testing.T) {
	ca := newCA(t, "shop", noon)
	cert := ca.cert
	if !cert.IsCA || cert.MaxPathLen != 0 || !cert.MaxPathLenZero || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign ||
		!slices.Equal(cert.PermittedURIDomains, []string{"shop"}) || !cert.PermittedDNSDomainsCritical {
		t.Errorf("the CA certificate is not limited as it should be: %+v", cert)
	}
	// The limits hold for everybody who checks certificates, not just for this package.
	standard := func(c *x509.Certificate, use x509.ExtKeyUsage, intermediates *x509.CertPool) error {
		_, err := c.Verify(x509.VerifyOptions{Roots: ca.trust.pool, Intermediates: intermediates, CurrentTime: noon,
			KeyUsages: []x509.ExtKeyUsage{use}})
		return err
	}
	if err := standard(forge(t, ca, noon, func(*x509.Certificate) {}).Leaf, x509.ExtKeyUsageServerAuth, nil); err != nil {
		t.Fatalf("a node of the farm does not pass: %v", err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"another farm": func(c *x509.Certificate) { c.URIs = []*url.URL{Identity{"other", "web1"}.URI()} },
		"a web site":   func(c *x509.Certificate) { c.DNSNames = []string{"www.example.com"} },
		"an address":   func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1).To4()} },
		"an address of version 6": func(c *x509.Certificate) {
			c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")}
		},
	} {
		if err := standard(forge(t, ca, noon, change).Leaf, x509.ExtKeyUsageServerAuth, nil); err == nil {
			t.Errorf("a certificate for %s passes", name)
		}
	}
	program := forge(t, ca, noon, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })
	if err := standard(program.Leaf, x509.ExtKeyUsageCodeSigning, nil); err == nil {
		t.Error("a certificate for signing programs passes")
	}

	lesser := forge(t, ca, noon, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.Subject.CommonName = true, x509.KeyUsageCertSign, "a lesser CA"
	})
	below := forge(t, &CA{cert: lesser.Leaf, key: lesser.PrivateKey.(*ecdsa.PrivateKey), trust: ca.trust}, noon, func(*x509.Certificate) {})
	pool := x509.NewCertPool()
	pool.AddCert(lesser.Leaf)
	err := standard(below.Leaf, x509.ExtKeyUsageServerAuth, pool)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); !ok || invalid.Reason != x509.TooManyIntermediates {
		t.Errorf("a certificate of a lesser CA: error %v, want too many intermediates", err)
	}
}

func TestCreatingACATwiceChangesNothing(t *testing.T) {
	for _, name := range []string{CACert, CAKey} {
		dir := t.TempDir()
		put(t, dir, name, []byte("precious"))
		_, err := CreateCA(dir, "farm", DefaultCALife, noon)
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("error %v, want one about %s", err, name)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || string(get(t, dir, name)) != "precious" {
			t.Errorf("the directory has changed: %v, %v", entries, err)
		}
	}
}

func TestACAIsNotMadeWithABadNameOrNoLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	for farm, life := range map[string]time.Duration{"Farm": year, "": year, "10.0.0.1": year, "farm": 0} {
		if _, err := CreateCA(dir, farm, life, noon); err == nil {
			t.Errorf("farm %q with a life of %v is made", farm, life)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
}

func TestANodesCertificateIsOnlyForLinksOfThatNode(t *testing.T) {
	s := newNode(t, newCA(t, "shop", noon), "web1", noon)
	cert := s.cert.Leaf
	if len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://shop/node/web1" {
		t.Errorf("URIs %v", cert.URIs)
	}
	if len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) != 0 {
		t.Error("it has other names")
	}
	uses := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	if cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(cert.ExtKeyUsage, uses) || !isP256(cert.PublicKey) {
		t.Errorf("CA %v, key usage %v, uses %v, key %T", cert.IsCA, cert.KeyUsage, cert.ExtKeyUsage, cert.PublicKey)
	}
	if !cert.NotBefore.Equal(noon.Add(-day)) || !cert.NotAfter.Equal(noon.Add(DefaultNodeLife)) {
		t.Errorf("valid from %v to %v", cert.NotBefore, cert.NotAfter)
	}
}

func TestANodesCertificateNeverOutlivesItsCA(t *testing.T) {
	ca := newCA(t, "farm", noon)
	later := noon.Add(DefaultCALife - 10*day)
	peer, err := ca.Issue(filepath.Join(t.TempDir(), "web1"), "web1", DefaultNodeLife, later)
	if err != nil {
		t.Fatal(err)
	}
	if !peer.Expires.Equal(ca.Authority().Expires) || !peer.CAExpires.Equal(peer.Expires) {
		t.Errorf("ends %v, the CA %v", peer.Expires, ca.Authority().Expires)
	}
}

func TestACAThatHasEndedOrNotBegunIssuesNothing(t *testing.T) {
	ca := newCA(t, "farm", noon)
	for says, now := range map[string]time.Time{
		"the farm's CA ended on 2036-11-17 12:00 UTC":  noon.Add(DefaultCALife),
		"the farm's CA begins on 2026-11-19 12:00 UTC": noon.Add(-2 * day),
	} {
		out := filepath.Join(t.TempDir(), "web1")
		_, err := ca.Issue(out, "web1", DefaultNodeLife, now)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
		}
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory is there: %v", err)
		}
	}
}

func TestANodeGetsNoCertificateWithABadNameOrNoLife(t *testing.T) {
	ca := newCA(t, "farm", noon)
	for name, life := range map[string]time.Duration{"../web1": year, "": year, "Web1": year, "web1": -day} {
		if _, err := ca.Issue(filepath.Join(t.TempDir(), "out"), name, life, noon); err == nil {
			t.Errorf("node %q with a life of %v is issued", name, life)
		}
	}
}

func TestIssuingNeverOverwrites(t *testing.T) {
	ca := newCA(t, "farm", noon)
	for _, name := range []string{NodeKey, NodeCert, CACert, CAKey} {
		dir := t.TempDir()
		put(t, dir, name, []byte("precious"))
		_, err := ca.Issue(dir, "web1", DefaultNodeLife, noon)
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "another directory") {
			t.Errorf("error %v, want one that says what to do about %s", err, name)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || string(get(t, dir, name)) != "precious" {
			t.Errorf("the directory has changed: %v, %v", entries, err)
		}
	}
}

func TestSerialsBeginWithTheTimeOfIssue(t *testing.T) {
	before := new(big.Int)
	for _, at := range []time.Time{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), noon, noon.Add(1), noon.Add(100 * year)} {
		serial, err := newSerial(at)
		if err != nil {
			t.Fatal(err)
		}
		b := serial.FillBytes(make([]byte, 16))
		if got := int64(binary.BigEndian.Uint64(b)); got != at.UnixNano() {
			t.Errorf("begins with %d, want %d", got, at.UnixNano())
		}
		if serial.Cmp(before) <= 0 || serial.BitLen() >= 128 {
			t.Errorf("%x after %x: not rising, or it needs more than 16 bytes", serial, before)
		}
		before = serial
	}
	again, err := newSerial(noon.Add(100 * year))
	if err != nil || again.Cmp(before) == 0 {
		t.Errorf("two serials of one moment are the same (%v)", err)
	}
}

func TestWithSeveralCAsTheOneThatFitsTheKeySigns(t *testing.T) {
	older, newer := newCA(t, "farm", noon.Add(-year)), newCA(t, "farm", noon)
	put(t, newer.dir, CACert, append(older.trust.pem(), newer.trust.pem()...))
	ca, err := LoadCA(newer.dir)
	if err != nil {
		t.Fatal(err)
	}
	if ca.Authority() != newer.Authority() {
		t.Errorf("signs as %+v, want %+v", ca.Authority(), newer.Authority())
	}
	s := newNode(t, ca, "web1", noon)
	if got := s.Authorities(); !slices.Equal(got, []Authority{older.Authority(), newer.Authority()}) {
		t.Errorf("the node trusts %+v", got)
	}
	if !s.Self().CAExpires.Equal(newer.Authority().Expires) {
		t.Errorf("the CA ends %v, want %v", s.Self().CAExpires, newer.Authority().Expires)
	}
}

func TestABrokenCADirectorySaysWhatIsWrong(t *testing.T) {
	for says, breakIt := range map[string]func(dir string){
		"ca.key: it is missing; restore the CA directory": func(dir string) { remove(t, dir, CAKey) },
		"ca.crt: it is missing; restore the CA directory": func(dir string) { remove(t, dir, CACert) },
		"ca.key: it belongs to no certificate in ca.crt":  func(dir string) { put(t, dir, CAKey, get(t, newCA(t, "farm", noon).dir, CAKey)) },
		"ca.key: it is not a PEM file":                    func(dir string) { put(t, dir, CAKey, nil) },
		"ca.crt: it is damaged or cut off": func(dir string) {
			data := get(t, dir, CACert)
			put(t, dir, CACert, data[:len(data)-40])
		},
	} {
		dir := newCA(t, "farm", noon).dir
		breakIt(dir)
		if _, err := LoadCA(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
		}
	}
}

// remove removes a file. On Windows one that is just being read, as by Watch, is not removed; it is tried again then.
func remove(t testing.TB, dir, name string) {
	t.Helper()
	for end := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		err := os.Remove(filepath.Join(dir, name))
		if err == nil {
			return
		}
		if runtime.GOOS != "windows" || errors.Is(err, fs.ErrNotExist) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
