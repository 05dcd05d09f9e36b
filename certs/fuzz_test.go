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
	return &CA{key: key, cert: cert, trust: trust}
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
