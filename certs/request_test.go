package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newRequest(t testing.TB, s *Snapshot, now time.Time) *Request {
	t.Helper()
	r, err := NewRequest(s, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ownKey is the key of a node's present certificate.
func ownKey(s *Snapshot) *ecdsa.PrivateKey { return s.cert.PrivateKey.(*ecdsa.PrivateKey) }

func TestARequestTellsWhoAsksAndForWhichKey(t *testing.T) {
	ca := newCA(t, "farm", noon)
	s := newNode(t, ca, "web1", noon)
	r := newRequest(t, s, noon)
	for _, now := range []time.Time{noon, noon.Add(time.Hour), noon.Add(-time.Hour)} {
		peer, key, err := parseRequest(r.Bytes(), ca.trust, now)
		if err != nil {
			t.Fatal(err)
		}
		if peer != s.Self() || !key.Equal(&r.key.PublicKey) || key.Equal(&ownKey(s).PublicKey) {
			t.Errorf("%v asks for %v", peer, key)
		}
	}
}

// request makes one with parts that do not fit together.
func request(t testing.TB, cert *x509.Certificate, signer, next *ecdsa.PrivateKey, change func(*requestWire)) []byte {
	t.Helper()
	w := requestWire{Certificate: cert.Raw, Time: noon.Unix(), CSR: csr(t, next)}
	var err error
	if w.Signature, err = signText(signer, w.text("farm")); err != nil {
		t.Fatal(err)
	}
	change(&w)
	data, err := encoding.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func csr(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestARequestThatProvesTooLittleGetsNothing(t *testing.T) {
	ca, other := newCA(t, "farm", noon), newCA(t, "farm", noon)
	web1, web2, web3 := newNode(t, ca, "web1", noon), newNode(t, ca, "web2", noon), newNode(t, ca, "web3", noon)
	stranger := newNode(t, other, "web1", noon)
	next, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large384 := csr(t, large)
	unproven := csr(t, next)
	unproven[len(unproven)-1] ^= 1
	asIs := func(*requestWire) {}
	resigned := func(change func(*requestWire)) func(*requestWire) {
		return func(w *requestWire) {
			change(w)
			if w.Signature, err = signText(ownKey(web1), w.text("farm")); err != nil {
				t.Fatal(err)
			}
		}
	}
	trust := ca.trust.under(newDocument(t, ca, 1, Revocation{Node: "web2", Before: noon}, Revocation{Node: "web9", Keys: []string{web3.Self().Key}}))
	for name, c := range map[string]struct {
		data   []byte
		says   string
		reason Reason
	}{
		"junk":          {[]byte("junk"), "not a request", 0},
		"nothing":       {nil, "not a request", 0},
		"far too large": {make([]byte, MaxRequest+1), "at most", 0},
		"no certificate": {request(t, web1.cert.Leaf, ownKey(web1), next, func(w *requestWire) { w.Certificate = []byte("junk") }),
			"cannot be read", Unreadable},
		"another CA":         {request(t, stranger.cert.Leaf, ownKey(stranger), next, asIs), "not trusted here", AnotherCA},
		"revoked":            {request(t, web2.cert.Leaf, ownKey(web2), next, asIs), "revoked", Revoked},
		"another node's key": {request(t, web1.cert.Leaf, ownKey(web3), next, asIs), "not signed with the key of its present one", 0},
		"the new key only":   {request(t, web1.cert.Leaf, next, next, asIs), "not signed with the key of its present one", 0},
		"another key put in its place": {request(t, web1.cert.Leaf, ownKey(web1), next, func(w *requestWire) { w.CSR = csr(t, ownKey(web3)) }),
			"not signed with the key of its present one", 0},
		"another time put in its place": {request(t, web1.cert.Leaf, ownKey(web1), next, func(w *requestWire) { w.Time++ }),
			"not signed with the key of its present one", 0},
		"too old": {request(t, web1.cert.Leaf, ownKey(web1), next, resigned(func(w *requestWire) { w.Time -= 3601 })),
			"made on 2026-11-20 10:59 UTC, and it is now 2026-11-20 12:00 UTC", 0},
		"too early":       {request(t, web1.cert.Leaf, ownKey(web1), next, resigned(func(w *requestWire) { w.Time += 3601 })), "clocks", 0},
		"the end of time": {request(t, web1.cert.Leaf, ownKey(web1), next, resigned(func(w *requestWire) { w.Time = 1<<63 - 1 })), "clocks", 0},
		"no PKCS #10":     {request(t, web1.cert.Leaf, ownKey(web1), next, resigned(func(w *requestWire) { w.CSR = []byte("junk") })), "PKCS #10", 0},
		"a new key that is not proven": {request(t, web1.cert.Leaf, ownKey(web1), next, resigned(func(w *requestWire) { w.CSR = unproven })),
			"not signed with the new key", 0},
		"a new key of another kind": {request(t, web1.cert.Leaf, ownKey(web1), next, resigned(func(w *requestWire) { w.CSR = large384 })),
			"not an ECDSA P-256 key", 0},
		"a new key that was revoked": {request(t, web1.cert.Leaf, ownKey(web1), ownKey(web3), asIs), "revoked with the node", Revoked},
	} {
		t.Run(name, func(t *testing.T) {
			peer, key, err := parseRequest(c.data, trust, noon)
			if err == nil || key != nil || peer != (Peer{}) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v, error %v; want one with %q", peer, key, err, c.says)
			}
			if r, ok := RefusalOf(err); ok != (c.reason != 0) || ok && r.Reason != c.reason {
				t.Errorf("the refusal is %v, want %v", r, c.reason)
			}
		})
	}
	if _, _, err := parseRequest(request(t, web1.cert.Leaf, ownKey(web1), next, asIs), trust, noon); err != nil {
		t.Errorf("with nothing wrong: %v", err)
	}
}

func TestANewCertificateTakesThePlaceOfTheOld(t *testing.T) {
	older, newer := newCA(t, "farm", noon), newCA(t, "farm", noon)
	dir := issue(t, older, "web1", noon)
	s := accept(t, dir, load(t, dir), signed(t, 7, []*CA{older, newer}, older))
	r := newRequest(t, s, noon)
	cert := as(t, newer, "web1", r.key, noon.Add(time.Second))
	got, err := r.Install(dir, cert.Raw, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got.Self().IssuerKey != newer.Authority().KeyID || !ownKey(got).Equal(r.key) || got.DocumentNumber() != 7 || got.Same(s) || !got.Same(load(t, dir)) {
		t.Errorf("it is %v, under document %d", got.Self(), got.DocumentNumber())
	}
	if exists(t, filepath.Join(dir, NodeKey+unplaced)) {
		t.Error("the key is there twice")
	}
	for _, name := range []string{NodeCert, NodeKey} {
		if who, err := Exposure(filepath.Join(dir, name)); err != nil || who != "" {
			t.Errorf("%s: %q, %v", name, who, err)
		}
	}
}

func TestACertificateThatWasNotAskedForIsNotInstalled(t *testing.T) {
	ca, other := newCA(t, "farm", noon), newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	s := accept(t, dir, load(t, dir), newDocument(t, ca, 7, Revocation{Node: "web1", Before: noon.Add(-3 * time.Hour)}))
	r := newRequest(t, s, noon)
	short, err := ca.sign("web1", &r.key.PublicKey, time.Hour, noon.Add(-2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		der  []byte
		says string
	}{
		"junk":             {[]byte("junk"), "is none"},
		"another node's":   {as(t, ca, "web2", r.key, noon).Raw, `is for "web2", and this node is "web1"`},
		"for another key":  {as(t, ca, "web1", ownKey(s), noon).Raw, "another key"},
		"of another CA":    {as(t, other, "web1", r.key, noon).Raw, "another CA"},
		"revoked already":  {as(t, ca, "web1", r.key, noon.Add(-4*time.Hour)).Raw, "revoked"},
		"ended already":    {short.Raw, "expired"},
		"the CA's":         {ca.cert.Raw, "is a CA's"},
		"with more behind": {append(bytes.Clone(as(t, ca, "web1", r.key, noon).Raw), 0), "is none"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Install(dir, c.der, noon)
			if err == nil || got != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, error %v; want one with %q", got, err, c.says)
			}
			if !load(t, dir).Same(s) || exists(t, filepath.Join(dir, NodeKey+unplaced)) {
				t.Error("something was written")
			}
		})
	}
}

func TestACrashWhileACertificateIsReplacedLeavesOneThatWorks(t *testing.T) {
	ca := newCA(t, "farm", noon)
	for step := range 5 {
		dir := issue(t, ca, "web1", noon)
		before := load(t, dir)
		r := newRequest(t, before, noon)
		cert := as(t, ca, "web1", r.key, noon.Add(time.Second))
		key, err := encodeKey(r.key)
		if err != nil {
			t.Fatal(err)
		}
		for i, do := range []func(){
			func() { put(t, dir, "."+NodeKey+unplaced+".XYZ", key[:50]) },
			func() { put(t, dir, NodeKey+unplaced, key) },
			func() { put(t, dir, NodeCert, encodePEM(pemCertificate, cert.Raw)) },
			func() { rename(t, filepath.Join(dir, NodeKey+unplaced), filepath.Join(dir, NodeKey)) },
		} {
			if i < step {
				do()
			}
		}
		if report := inspect(t, dir, noon); len(report.Problems) != 0 || len(report.Warnings) != 0 && step != 3 {
			t.Errorf("after step %d: the report has %v, %v", step, report.Problems, report.Warnings)
		}
		s := load(t, dir)
		if renewed := step >= 3; s.Same(before) == renewed || ownKey(s).Equal(r.key) != renewed {
			t.Errorf("after step %d: it is %v", step, s.Self())
		}
		if step >= 3 && exists(t, filepath.Join(dir, NodeKey+unplaced)) {
			t.Errorf("after step %d: what was interrupted was not completed", step)
		}
		// Once more, as if nothing had been.
		again := newRequest(t, s, noon)
		if s, err = again.Install(dir, as(t, ca, "web1", again.key, noon).Raw, noon); err != nil || !ownKey(s).Equal(again.key) {
			t.Errorf("after step %d, and once more: %v", step, err)
		}
	}
}

func TestAKeyThatWaitsIsOnlyTakenForItsCertificate(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	other := get(t, issue(t, ca, "web2", noon), NodeKey)
	put(t, dir, NodeKey, other)
	for _, data := range [][]byte{other, []byte("junk")} {
		put(t, dir, NodeKey+unplaced, data)
		_, err := Load(dir, noon)
		if _, ok := errors.AsType[*FileError](err); !ok || !bytes.Equal(get(t, dir, NodeKey), other) {
			t.Errorf("error %v, want a FileError and the key left alone", err)
		}
	}
}

func TestACertificateThatCannotBeWrittenIsAnErrorAndLeavesTheOldOne(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	s := load(t, dir)
	mend := block(t, filepath.Join(dir, NodeKey+unplaced))
	r := newRequest(t, s, noon)
	cert := as(t, ca, "web1", r.key, noon)
	got, err := r.Install(dir, cert.Raw, noon)
	if _, ok := errors.AsType[*FileError](err); !ok || got != nil {
		t.Errorf("%v, %v; want a FileError", got, err)
	}
	if !load(t, dir).Same(s) {
		t.Error("the old one is gone")
	}
	mend()
	if got, err = r.Install(dir, cert.Raw, noon); err != nil || !ownKey(got).Equal(r.key) {
		t.Errorf("when it can be written: %v, %v", got, err)
	}
}
