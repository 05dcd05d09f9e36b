package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fixedCA is a CA with the same key in each of the fuzzer's processes, so that they can go on with each
// other's finds.
func fixedCA(f *testing.F) *CA {
	f.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	cert, err := selfSign(key, "farm", DefaultCALife, noon)
	if err != nil {
		f.Fatal(err)
	}
	trust, err := parseBundle(CACert, encodePEM(pemCertificate, cert.Raw))
	if err != nil {
		f.Fatal(err)
	}
	return &CA{dir: f.TempDir(), key: key, cert: cert, trust: trust} // where what it issues is recorded
}

// resign gives a certificate with the same contents and the CA's signature.
func resign(t *testing.T, ca *CA, cert *x509.Certificate) (*x509.Certificate, error) {
	t.Helper()
	digest := sha256.Sum256(cert.RawTBSCertificate)
	signature, err := ecdsa.SignASN1(rand.Reader, ca.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Contents  asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: cert.RawTBSCertificate},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, // ecdsa-with-SHA256
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return x509.ParseCertificate(der)
}

// FuzzVerify presents arbitrary bytes as a certificate, as they are and with a signature of the CA. As
// they are, nobody gets in but the one node that the CA has signed; and the CA's signature alone is
// not enough either.
func FuzzVerify(f *testing.F) {
	ca := fixedCA(f)
	good := forge(f, ca, noon, func(*x509.Certificate) {})
	for _, change := range []func(*x509.Certificate){
		func(c *x509.Certificate) { c.URIs = nil },
		func(c *x509.Certificate) { c.URIs = append(c.URIs, &url.URL{Scheme: "https", Host: "example.com"}) },
		func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		func(c *x509.Certificate) { c.DNSNames = []string{"example.com"} },
		func(c *x509.Certificate) { c.NotAfter = noon.Add(-day) },
		func(c *x509.Certificate) { c.IsCA = true },
	} {
		f.Add(forge(f, ca, noon, change).Certificate[0])
	}
	f.Add(good.Certificate[0])
	f.Add(ca.cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return // crypto/tls refuses it
		}
		if peer, ok := present(t, ca, cert); ok && peer.Serial != good.Leaf.SerialNumber.Text(16) && cert.CheckSignatureFrom(ca.cert) != nil {
			t.Errorf("%v is let in without the CA's signature", peer)
		}
		signed, err := resign(t, ca, cert)
		if err != nil {
			return // of a kind that this CA's key does not sign
		}
		peer, ok := present(t, ca, signed)
		if !ok {
			return
		}
		if peer.Farm != "farm" || ValidName(peer.Node) != nil || len(signed.URIs) != 1 || signed.URIs[0].String() != "spiffe://farm/node/"+peer.Node ||
			noon.Before(signed.NotBefore) || noon.After(signed.NotAfter) || signed.IsCA ||
			!slices.Contains(signed.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || len(signed.DNSNames)+len(signed.IPAddresses) != 0 {
			t.Errorf("let in as %v", peer)
		}
	})
}

// present has the certificate verified, and looks at the text of a refusal: one line fit for a log.
func present(t *testing.T, ca *CA, cert *x509.Certificate) (Peer, bool) {
	t.Helper()
	peer, err := ca.trust.verify([]*x509.Certificate{cert, ca.cert}, noon, x509.ExtKeyUsageClientAuth)
	if err == nil {
		return peer, true
	}
	r, ok := RefusalOf(err)
	if !ok || !r.Reason.known() || len(err.Error()) > 700 || strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c > '~' }) {
		t.Errorf("refused with %q", err)
	}
	return Peer{}, false
}

// FuzzFiles reads arbitrary bytes as each of the files. What is accepted is the same when it is written
// and read again.
func FuzzFiles(f *testing.F) {
	ca := fixedCA(f)
	key, err := encodeKey(ca.key)
	if err != nil {
		f.Fatal(err)
	}
	for _, data := range [][]byte{ca.trust.pem(), key, encodePEM(pemCertificate, forge(f, ca, noon, func(*x509.Certificate) {}).Certificate[0])} {
		f.Add(data)
		f.Add(data[:len(data)/2])
		f.Add(append(bytes.Clone(data), data...))
		f.Add(append([]byte("\ufeff"), bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := parseBundle(CACert, data); err == nil {
			again, err := parseBundle(CACert, b.pem())
			if err != nil || len(b.cas) == 0 || again.farm != b.farm || !slices.EqualFunc(again.cas, b.cas, (*x509.Certificate).Equal) {
				t.Errorf("a bundle changes when it is written: %v", err)
			}
		}
		if cert, err := parseNode(NodeCert, data); err == nil {
			again, err := parseNode(NodeCert, encodePEM(pemCertificate, cert.Raw))
			if err != nil || !again.Equal(cert) {
				t.Errorf("a certificate changes when it is written: %v", err)
			}
		}
		if key, err := parseKey(NodeKey, data); err == nil {
			text, err := encodeKey(key)
			if err != nil {
				t.Fatal(err)
			}
			again, err := parseKey(NodeKey, text)
			if err != nil || !again.Equal(key) {
				t.Errorf("a key changes when it is written: %v", err)
			}
		}
	})
}

// FuzzParseDocument reads arbitrary bytes as a document, as they are and as what the CA has signed. What is
// read says the same when it is made and read again, and only what the CA has signed is believed.
func FuzzParseDocument(f *testing.F) {
	ca := fixedCA(f)
	for _, revoked := range [][]Revocation{nil, {{Node: "web1", Before: noon, At: noon, Keys: []string{strings.Repeat("ab", 32)}}}} {
		d := newDocument(f, ca, 7, revoked...)
		f.Add(d.Bytes())
		f.Add(d.payload)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := ParseDocument(data); err == nil {
			sameAgain(t, ca, d)
		} else if len(err.Error()) > 700 || strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("refused with %q", err)
		}
		signature, err := signPayload(ca.key, data)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := encoding.Marshal(documentWire{data, []documentSignature{signature}})
		if err != nil {
			t.Fatal(err)
		}
		if d, err := ParseDocument(whole); err == nil {
			if !d.signedBy(ca.cert) {
				t.Error("what the CA has signed is not believed")
			}
			sameAgain(t, ca, d)
		}
	})
}

func sameAgain(t *testing.T, ca *CA, d *Document) {
	t.Helper()
	again, err := signDocument(*d, d.trust, ca.key)
	if err != nil {
		t.Fatalf("%v cannot be made: %v", d, err)
	}
	if diff := cmp.Diff(*d, *again, cmpopts.IgnoreUnexported(Document{}), cmpopts.EquateEmpty()); diff != "" || !d.trust.sameCAs(again.trust) {
		t.Errorf("made again it says something else: %s", diff)
	}
	// Whoever it revokes is refused, and nobody gets in by it.
	cert := forge(t, ca, noon, func(*x509.Certificate) {}).Leaf
	err = ca.trust.under(d).revoked.refuses(cert, "web1")
	for _, r := range d.Revoked {
		if r.Node == "web1" && !r.Lifted && !noon.After(r.Before) && err == nil {
			t.Error("whoever it revokes is let in")
		}
	}
}

// FuzzParseRequest reads arbitrary bytes as a request for a new certificate. Only the node that has one can
// make such a request, and for the key only that it has proven.
func FuzzParseRequest(f *testing.F) {
	ca := fixedCA(f)
	dir := f.TempDir()
	if _, err := ca.Issue(dir, "web1", DefaultNodeLife, noon); err != nil {
		f.Fatal(err)
	}
	s := load(f, dir)
	f.Add(newRequest(f, s, noon).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if peer, key, err := parseRequest(data, ca.trust, noon); err == nil && (peer.Node != "web1" || key == nil) {
			t.Errorf("%v asks for %v", peer, key)
		}
		// As a stranger would make it: with parts of his own and our node's certificate.
		var w requestWire
		if decode("", data, MaxRequest, &w) != nil {
			return
		}
		w.Certificate = s.cert.Leaf.Raw
		own, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		if w.Signature, err = signText(own, w.text("farm")); err != nil {
			t.Fatal(err)
		}
		if data, err = encoding.Marshal(w); err != nil {
			t.Fatal(err)
		}
		if _, _, err := parseRequest(data, ca.trust, noon); err == nil {
			t.Error("a stranger gets a certificate")
		}
	})
}

// FuzzConfirmed reads arbitrary bytes as a confirmation, for a nonce that nobody has answered.
func FuzzConfirmed(f *testing.F) {
	now := time.Now()
	ca := newCA(f, "farm", now)
	s := newNode(f, ca, "web1", now)
	data, err := s.Confirm(nonce)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	fresh := bytes.Repeat([]byte{9}, MinNonce)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := s.Confirmed(data, fresh); err == nil {
			t.Errorf("%v has confirmed what it was not asked", c)
		} else if len(err.Error()) > 700 || strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("refused with %q", err)
		}
	})
}
