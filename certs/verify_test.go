package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestACertificateIsRefusedForTheReasonThatMattersMost(t *testing.T) {
	ca := newCA(t, "farm", noon)
	other := newCA(t, "farm", noon)
	farm := newNode(t, ca, "web2", noon)
	for name, c := range map[string]struct {
		chain  []*x509.Certificate
		reason Reason
		says   string
	}{
		"none":   {nil, Absent, ""},
		"no URI": {leaf(t, ca, func(c *x509.Certificate) { c.URIs = nil }), NoNodeName, `"web1" has no node name`},
		"two URIs": {leaf(t, ca, func(c *x509.Certificate) { c.URIs = append(c.URIs, Identity{"farm", "web9"}.URI()) }), NoNodeName,
			"2 URIs"},
		"the CA itself": {[]*x509.Certificate{ca.cert}, Unfit, "is a CA's"},
		"a CA with a node's name": {leaf(t, ca, func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		}), Unfit, "is a CA's"},
		"another farm":                {leaf(t, ca, inFarm("other")), AnotherFarm, `the node "web1" of the farm "other", and this is the farm "farm"`},
		"another CA of the same name": {leaf(t, other, func(*x509.Certificate) {}), AnotherCA, "peerstate CA farm"},
		"another CA and expired":      {leaf(t, other, ended), AnotherCA, ""},
		"another farm and expired":    {leaf(t, ca, inFarm("other"), ended), AnotherFarm, ""},
		"no name and expired":         {leaf(t, ca, func(c *x509.Certificate) { c.URIs = nil }, ended), NoNodeName, ""},
		"expired":                     {leaf(t, ca, ended), Expired, "ended on 2026-11-20 11:00 UTC, and it is now 2026-11-20 12:00 UTC"},
		"not yet valid":               {leaf(t, ca, future), NotYetValid, "begins on 2026-11-21 12:00 UTC, and it is now 2026-11-20 12:00 UTC"},
		"another use": {leaf(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), Unfit,
			"not for use on that end"},
		"uses unsaid": {leaf(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), Unfit, "not for use on that end"},
		"any use": {leaf(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), Unfit,
			"not for use on that end"},
		"only the other use":    {leaf(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), Unfit, ""},
		"a web site's name too": {leaf(t, ca, func(c *x509.Certificate) { c.DNSNames = []string{"www.example.com"} }), Unfit, "is excluded"},
		"far too long a chain":  {[]*x509.Certificate{farm.cert.Leaf, ca.cert, ca.cert, ca.cert, ca.cert, ca.cert}, Unfit, "6 certificates"},
		"far too large": {leaf(t, ca, func(c *x509.Certificate) { c.Subject.Organization = []string{strings.Repeat("x", maxCertificate)} }), Unfit,
			"bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			peer, err := ca.trust.verify(c.chain, noon, x509.ExtKeyUsageClientAuth)
			r, ok := errors.AsType[*Refusal](err)
			if !ok || r.Reason != c.reason || !strings.Contains(r.Detail, c.says) || peer != (Peer{}) {
				t.Errorf("peer %v, error %v; want none, %q with %q", peer, err, c.reason, c.says)
			}
			if alert, ok := errors.AsType[tls.AlertError](err); !ok || alert != c.reason.Alert() {
				t.Errorf("alert %d, want %d", alert, c.reason.Alert())
			}
		})
	}
}

func leaf(t *testing.T, ca *CA, changes ...func(*x509.Certificate)) []*x509.Certificate {
	cert := forge(t, ca, noon, func(c *x509.Certificate) {
		for _, change := range changes {
			change(c)
		}
	})
	return []*x509.Certificate{cert.Leaf}
}

func inFarm(farm string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.URIs = []*url.URL{Identity{farm, "web1"}.URI()} }
}

func ended(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = c.NotBefore.Add(-day), c.NotAfter.Add(-day-3600e9)
}

func future(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = c.NotAfter, c.NotAfter.Add(day)
}

func TestWhoeverSignedAStrangersCertificateIsNamed(t *testing.T) {
	ca, other := newCA(t, "farm", noon), newCA(t, "other", noon)
	_, err := ca.trust.verify(leaf(t, other, func(c *x509.Certificate) { c.Subject.CommonName = "evil\nname" }), noon, x509.ExtKeyUsageClientAuth)
	want := `another CA: the certificate "evil?name" was signed by "peerstate CA other" (key ` + hex.EncodeToString(other.cert.SubjectKeyId) + `), which is not trusted here`
	if err == nil || err.Error() != want {
		t.Errorf("error %v,\nwant  %s", err, want)
	}
}

func TestEachDirectionOfALinkNeedsItsOwnUse(t *testing.T) {
	ca := newCA(t, "farm", noon)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for i, use := range both {
		cert := leaf(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{use} })
		if _, err := ca.trust.verify(cert, noon, use); err != nil {
			t.Errorf("for its own use: %v", err)
		}
		if _, err := ca.trust.verify(cert, noon, both[1-i]); err == nil {
			t.Error("for the other use: no error")
		}
		if _, err := ca.trust.verify(cert, noon, both...); err != nil {
			t.Errorf("for either use: %v", err)
		}
	}
}

func TestTheCAMayBePresentedWithTheCertificate(t *testing.T) {
	ca := newCA(t, "farm", noon)
	if _, err := ca.trust.verify([]*x509.Certificate{leaf(t, ca)[0], ca.cert}, noon, x509.ExtKeyUsageClientAuth); err != nil {
		t.Error(err)
	}
}

func TestTheCAsOwnTimeCounts(t *testing.T) {
	ca := newCA(t, "farm", noon)
	always := leaf(t, ca, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon.Add(-20*year), noon.Add(20*year) })
	_, err := ca.trust.verify(always, noon.Add(DefaultCALife+day), x509.ExtKeyUsageClientAuth)
	if r, ok := RefusalOf(err); !ok || r.Reason != Expired || !strings.Contains(r.Detail, "the CA of") {
		t.Errorf("after its end: %v", err)
	}
	_, err = ca.trust.verify(always, noon.Add(-2*day), x509.ExtKeyUsageClientAuth)
	if r, ok := RefusalOf(err); !ok || r.Reason != NotYetValid || !strings.Contains(r.Detail, "the CA of") {
		t.Errorf("before its beginning: %v", err)
	}
}

func TestADroppedCALetsNobodyInAnyMore(t *testing.T) {
	older, newer := newCA(t, "farm", noon), newCA(t, "farm", noon)
	cert := leaf(t, older)
	both, err := parseBundle(CACert, append(older.trust.pem(), newer.trust.pem()...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.verify(cert, noon, x509.ExtKeyUsageClientAuth); err != nil {
		t.Errorf("while both are trusted: %v", err)
	}
	_, err = newer.trust.verify(cert, noon, x509.ExtKeyUsageClientAuth)
	if r, ok := RefusalOf(err); !ok || r.Reason != AnotherCA {
		t.Errorf("after it was dropped: %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	ca := newCA(b, "farm", noon)
	chain := []*x509.Certificate{newNode(b, ca, "web1", noon).cert.Leaf}
	for b.Loop() {
		if _, err := ca.trust.verify(chain, noon, x509.ExtKeyUsageClientAuth); err != nil {
			b.Fatal(err)
		}
	}
}
