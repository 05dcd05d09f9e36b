package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// noon is a moment for tests that need no clock.
var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func newCA(t testing.TB, farm string, now time.Time) *CA {
	t.Helper()
	ca, err := CreateCA(filepath.Join(t.TempDir(), "ca"), farm, DefaultCALife, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue makes a node's directory.
func issue(t testing.TB, ca *CA, node string, now time.Time) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), node)
	if _, err := ca.Issue(dir, node, DefaultNodeLife, now); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newNode(t testing.TB, ca *CA, node string, now time.Time) *Snapshot {
	t.Helper()
	s, err := Load(issue(t, ca, node, now), now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forge has the CA sign what it never would: a node's certificate with some changes.
func forge(t testing.TB, ca *CA, now time.Time, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "web1"},
		URIs:                  []*url.URL{Identity{ca.Farm(), "web1"}.URI()},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(day),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	change(template)
	cert, err := sign(template, &key.PublicKey, ca.cert, ca.key, now)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// newDocument has the CA make a document that revokes.
func newDocument(t testing.TB, ca *CA, number uint64, revoked ...Revocation) *Document {
	t.Helper()
	d, err := signDocument(Document{Farm: ca.Farm(), Number: number, Made: noon, Revoked: revoked}, ca.trust, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parseURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
