package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// as has the CA sign a certificate for a key, for a name, at a time.
func as(t *testing.T, ca *CA, node string, key any, at time.Time) *x509.Certificate {
	t.Helper()
	cert, err := ca.sign(node, &key.(*ecdsa.PrivateKey).PublicKey, DefaultNodeLife, at)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestARevokedNodeIsRefusedUntilItGetsANewCertificateForANewKey(t *testing.T) {
	ca := newCA(t, "farm", noon)
	web1, web2 := newNode(t, ca, "web1", noon), newNode(t, ca, "web2", noon)
	said := Revocation{Node: "web1", Before: noon.Add(time.Hour), Keys: []string{web1.Self().Key}, At: noon.Add(time.Hour)}
	lifted := said
	lifted.Lifted = true
	fresh, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	after := noon.Add(time.Hour + 1)
	for name, c := range map[string]struct {
		cert    *x509.Certificate
		said    Revocation
		revoked bool
	}{
		"its certificate":                    {web1.cert.Leaf, said, true},
		"one of the last moment":             {as(t, ca, "web1", fresh, said.Before), said, true},
		"one a nanosecond later":             {as(t, ca, "web1", fresh, after), said, false},
		"a later one for the old key":        {as(t, ca, "web1", web1.cert.PrivateKey, after), said, true},
		"the old key under another name":     {as(t, ca, "web3", web1.cert.PrivateKey, after), said, true},
		"another node":                       {web2.cert.Leaf, said, false},
		"its certificate, taken back":        {web1.cert.Leaf, lifted, false},
		"the old key elsewhere, taken back":  {as(t, ca, "web3", web1.cert.PrivateKey, after), lifted, false},
		"its certificate, only keys revoked": {web1.cert.Leaf, Revocation{Node: "web1", Keys: []string{web2.Self().Key}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			trust := ca.trust.under(newDocument(t, ca, 1, c.said))
			_, err := trust.verify([]*x509.Certificate{c.cert}, noon.Add(2*time.Hour), x509.ExtKeyUsageClientAuth)
			r, ok := RefusalOf(err)
			if ok != c.revoked || (ok && r.Reason != Revoked) || (err != nil) != c.revoked {
				t.Errorf("error %v; want it revoked: %v", err, c.revoked)
			}
			id, err := identityOf(c.cert)
			if err != nil {
				t.Fatal(err)
			}
			if told := (&Snapshot{trust: trust}).Revokes(peerOf(c.cert, id)); told != c.revoked {
				t.Errorf("what is told of it is revoked: %v, want %v", told, c.revoked)
			}
		})
	}
}

func TestARevokedNodeIsToldThatAndNotThatItHasExpired(t *testing.T) {
	ca := newCA(t, "farm", noon)
	web1 := newNode(t, ca, "web1", noon)
	trust := ca.trust.under(newDocument(t, ca, 1, Revocation{Node: "web1", Before: noon}))
	_, err := trust.verify([]*x509.Certificate{web1.cert.Leaf}, noon.Add(DefaultNodeLife+day), x509.ExtKeyUsageClientAuth)
	if r, ok := RefusalOf(err); !ok || r.Reason != Revoked || !strings.Contains(r.Detail, "issued on 2026-11-20 12:00 UTC") {
		t.Errorf("error %v", err)
	}
}

// serialAt is a serial number as newSerial makes them, without the part that is by chance.
func serialAt(at time.Time) *big.Int {
	return new(big.Int).Lsh(big.NewInt(at.UnixNano()), 64)
}

func TestTheTimeOfIssueIsReadInTheSerialNumber(t *testing.T) {
	from, until := noon.Add(-time.Hour), noon.Add(day)
	ours, err := newSerial(noon.Add(time.Nanosecond))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		serial *big.Int
		want   time.Time
	}{
		"ours":                {ours, noon.Add(time.Nanosecond)},
		"short":               {big.NewInt(4711), from},
		"none":                {new(big.Int), from},
		"long":                {new(big.Int).Lsh(serialAt(noon), 32), from},
		"before its time":     {serialAt(from.Add(-time.Second)), from},
		"after its time":      {serialAt(until.Add(time.Second)), from},
		"far in the future":   {new(big.Int).Lsh(big.NewInt(0x7fffffffffffffff), 64), from},
		"no time at all":      {new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)), from},
		"less than zero":      {new(big.Int).Neg(serialAt(noon)), from},
		"in the first moment": {serialAt(from), from},
	} {
		cert := &x509.Certificate{SerialNumber: c.serial, NotBefore: from, NotAfter: until, URIs: []*url.URL{Identity{"farm", "web1"}.URI()}}
		if got := issued(cert); !got.Equal(c.want) {
			t.Errorf("%s: issued %v, want %v", name, got, c.want)
		}
	}
}
