package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestARenewedCertificateIsForTheSameNameAndTheNewKeyAndNeverOutlivesTheCA(t *testing.T) {
	h := newHost(t)
	r := newRequest(t, h.node, h.now)
	der, peer, err := h.i.Renew(r.Bytes(), h.now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || peer.Node != "web1" || !r.key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("%v, %v", peer, err)
	}
	if want := h.now.Add(DefaultRenewedLife).Truncate(time.Second).UTC(); !peer.Expires.Equal(want) {
		t.Errorf("it ends on %v, want %v", peer.Expires, want)
	}
	// The same request again, as when the answer was lost.
	if again, _, err := h.i.Renew(r.Bytes(), h.now); err != nil || !slices.Equal(again, der) {
		t.Errorf("asked again: %v", err)
	}
	for _, i := range h.i.issued.of("web1") {
		if got := get(t, filepath.Join(h.dir, issuedDir), issuedName(i.cert)); !strings.Contains(string(got), pemCertificate) {
			t.Error("it is not recorded")
		}
	}

	now := time.Now()
	short, err := CreateCA(filepath.Join(t.TempDir(), "ca"), "farm", 10*day, now)
	if err != nil {
		t.Fatal(err)
	}
	node := newNode(t, short, "web1", now)
	i, err := OpenIssuer(short.dir, DefaultRenewedLife, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, peer, err := i.Renew(newRequest(t, node, now).Bytes(), now); err != nil || !peer.Expires.Equal(peer.CAExpires) {
		t.Errorf("it ends on %v, the CA on %v: %v", peer.Expires, peer.CAExpires, err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

func TestARequestThatIsNotTheNodesOwnGetsNoCertificate(t *testing.T) {
	h := newHost(t)
	good := newRequest(t, h.node, h.now)
	var w requestWire
	if err := decode("", good.Bytes(), MaxRequest, &w); err != nil {
		t.Fatal(err)
	}
	own := h.node.cert.PrivateKey.(*ecdsa.PrivateKey)
	csr := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	larger, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		csr    []byte
		resign bool
		says   string
	}{
		"another key put in": {csr(newRequest(t, h.node, h.now).key), false, "not signed with the key of its present one"},
		"its present key":    {csr(own), true, "certified before"},
		"a larger key":       {csr(larger), true, "not an ECDSA P-256 key"},
		"junk":               {[]byte("junk"), true, "no PKCS #10"},
	} {
		changed := w
		changed.CSR = c.csr
		if c.resign {
			if changed.Signature, err = signText(own, changed.text("farm")); err != nil {
				t.Fatal(err)
			}
		}
		data, err := encoding.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.i.Renew(data, h.now); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := newNode(t, newCA(t, "farm", h.now), "web1", h.now)
	if _, _, err := h.i.Renew(newRequest(t, stranger, h.now).Bytes(), h.now); !refusedFor(err, AnotherCA) {
		t.Errorf("a stranger: %v", err)
	}
}

func TestANodeThatAsksAgainAndAgainHurtsItselfAlone(t *testing.T) {
	h := newHost(t)
	ca, err := LoadCA(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	other := newNode(t, ca, "web2", h.now)
	got := 0
	for range 2 * renewalsAtOnce {
		if _, _, err := h.i.Renew(newRequest(t, h.node, h.now).Bytes(), h.now); err == nil {
			got++
		} else if !errors.Is(err, ErrTooManyRenewals) {
			t.Fatal(err)
		}
	}
	if got != renewalsAtOnce {
		t.Errorf("it got %d", got)
	}
	if _, _, err := h.i.Renew(newRequest(t, other, h.now).Bytes(), h.now); err != nil {
		t.Errorf("the other one: %v", err)
	}
	// However long that goes on.
	for range maxIssued + 5 {
		h.now = h.now.Add(renewalInterval)
		if _, _, err := h.i.Renew(newRequest(t, h.node, h.now).Bytes(), h.now); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.i.issued.of("web1")); n > maxIssued+1 {
		t.Errorf("%d certificates are kept", n)
	}
	if n := len(h.i.issued.of("web2")); n != 2 {
		t.Errorf("of the other one, %d are kept", n)
	}
}

func TestWhatIsIssuedByHandIsRecordedAndForgottenAMonthAfterItsEnd(t *testing.T) {
	h := newHost(t)
	ca, err := LoadCA(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(t.TempDir(), "web2"), "web2", day, h.now); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		nodes string
		files int
	}{
		{0, "[web1 web2]", 2}, {day + time.Hour, "[web1]", 2}, {30 * day, "[web1]", 2}, {31*day + time.Hour, "[web1]", 1},
	} {
		h.now = h.now.Add(c.after - h.now.Sub(time.Now().Truncate(0))).Truncate(time.Second)
		h.close()
		h.open()
		nodes, err := h.i.Nodes(h.now)
		if err != nil || fmt.Sprint(nodes) != c.nodes || len(h.i.issued.files) != c.files {
			t.Errorf("after %v: %v, %v, %d files", c.after, nodes, err, len(h.i.issued.files))
		}
	}
}

func TestNamesComeFromWhatIsInTheFilesAndTornOnesAreSkipped(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.dir, issuedDir)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	rename(t, filepath.Join(dir, entries[0].Name()), filepath.Join(dir, "web9.crt"))
	put(t, dir, ".half.crt.XYZ", []byte("-----BEGIN"))
	put(t, dir, "readme.txt", []byte("hello"))
	if nodes, err := h.i.Nodes(h.now); err != nil || fmt.Sprint(nodes) != "[web1]" {
		t.Errorf("the nodes are %v, %v", nodes, err)
	}
	ca, err := LoadCA(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for says, data := range map[string][]byte{
		"not a PEM file":        []byte("junk"),
		"it is no node's":       ca.trust.pem(),
		"of the farm \"other\"": get(t, issue(t, newCA(t, "other", h.now), "web1", h.now), NodeCert),
	} {
		put(t, dir, "junk.crt", data)
		if nodes, err := h.i.Nodes(h.now); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "junk.crt") {
			t.Errorf("%v, %v, want an error with %q", nodes, err, says)
		}
	}
}

func TestARevocationCoversAllCertificatesAndKeysThatTheNameHasHad(t *testing.T) {
	h := newHost(t)
	ca, err := LoadCA(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	// By hand, on a machine whose clock is ahead.
	ahead := newNode(t, ca, "web2", h.now.Add(time.Hour))
	known := newNode(t, ca, "web2", h.now)
	stolen := strings.Repeat("cd", 32)
	d, err := h.i.Revoke("web2", []string{stolen}, h.now)
	if err != nil {
		t.Fatal(err)
	}
	keys := d.Revoked[0].Keys
	for _, key := range []string{stolen, ahead.Self().Key, known.Self().Key} {
		if !slices.Contains(keys, key) {
			t.Errorf("the key %s is not revoked", key)
		}
	}
	later := h.now.Add(2 * time.Hour)
	for _, s := range []*Snapshot{ahead, known} {
		if _, err := h.i.ca.trust.verify([]*x509.Certificate{s.cert.Leaf}, later, x509.ExtKeyUsageClientAuth); !refusedFor(err, Revoked) {
			t.Errorf("error %v", err)
		}
	}
	if fmt.Sprint(h.i.Revoked()) != "[web2]" {
		t.Errorf("revoked are %v", h.i.Revoked())
	}
	// Also after a restart, and when said twice; and the latest word holds though the clock goes back.
	h.close()
	h.open()
	again, err := h.i.Revoke("web2", nil, h.now.Add(-day))
	if err != nil || again.Number <= d.Number || !again.Revoked[0].At.After(d.Revoked[0].At) || !slices.Equal(again.Revoked[0].Keys, keys) ||
		again.Revoked[0].Before.Before(d.Revoked[0].Before) {
		t.Errorf("%+v, %v", again, err)
	}
	back, err := h.i.Unrevoke("web2", h.now.Add(-day))
	if err != nil || back.Number <= again.Number || !back.Revoked[0].Lifted || !back.Revoked[0].At.After(again.Revoked[0].At) || len(back.RevokedNodes()) != 0 {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := h.i.ca.trust.verify([]*x509.Certificate{known.cert.Leaf}, later, x509.ExtKeyUsageClientAuth); err != nil {
		t.Errorf("taken back: %v", err)
	}
	for _, node := range []string{"web2", "web1", "nobody"} {
		if _, err := h.i.Unrevoke(node, h.now); err == nil || !strings.Contains(err.Error(), "not revoked") {
			t.Errorf("%s: %v", node, err)
		}
	}
	if _, err := h.i.Revoke("../web2", nil, h.now); err == nil {
		t.Error("what is no name is revoked")
	}
	if _, err := h.i.Revoke("web3", []string{"no key"}, h.now); err == nil {
		t.Error("what is no key is revoked")
	}
}

func TestNumbersNeverGoBackThoughTheClockDoes(t *testing.T) {
	h := newHost(t)
	last := uint64(0)
	for _, at := range []time.Time{h.now, h.now, h.now.Add(-year), time.Unix(-5, 0), h.now.Add(time.Hour)} {
		d, err := h.i.Revoke("web2", nil, at)
		if err != nil || d.Number <= last {
			t.Fatalf("%v, %v, after %d", d, err, last)
		}
		last = d.Number
	}
	if want := uint64(h.now.Add(time.Hour).UnixMilli()); last != want {
		t.Errorf("the number is %d, want %d", last, want)
	}
}

func TestOneProcessAloneIsTheIssuer(t *testing.T) {
	h := newHost(t)
	if _, err := OpenIssuer(h.dir, DefaultRenewedLife, h.now); err == nil || !strings.Contains(err.Error(), "stop the other sidecar") {
		t.Errorf("error %v", err)
	}
	if _, err := LoadCA(h.dir); err != nil {
		t.Errorf("by hand: %v", err)
	}
	h.close()
	h.open()
}

func TestABrokenCADirectoryHasNoIssuer(t *testing.T) {
	for says, breakIt := range map[string]func(f *issuerFarm){
		"ca.key: it is missing; restore":                   func(f *issuerFarm) { remove(t, f.dir, CAKey) },
		"ca.crt: it is missing; restore":                   func(f *issuerFarm) { remove(t, f.dir, CACert) },
		"ca.key: it belongs to no certificate":             func(f *issuerFarm) { put(t, f.dir, CAKey, get(t, newCA(t, "farm", noon).dir, CAKey)) },
		"farm.document: it is not a farm's document":       func(f *issuerFarm) { put(t, f.dir, DocumentFile, []byte("junk")) },
		"farm.document: it is signed by none of the CAs":   func(f *issuerFarm) { put(t, f.dir, DocumentFile, newDocument(t, newCA(t, "farm", noon), 9).Bytes()) },
		"next.key: it is not a PEM file":                   func(f *issuerFarm) { put(t, f.dir, caNextKey, []byte("junk")) },
		"invitations: it cannot be read":                   func(f *issuerFarm) { put(t, f.dir, invitationsFile, []byte("junk")) },
		"invitations: there is something in it that is no": func(f *issuerFarm) { put(t, f.dir, invitationsFile, []byte("[null]")) },
	} {
		f := newIssuerFarm(t, "web1")
		f.stop()
		breakIt(f)
		if i, err := OpenIssuer(f.dir, DefaultRenewedLife, f.now); i != nil || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, error %v, want one with %q", i, err, says)
		}
	}
	if _, err := OpenIssuer(newCA(t, "farm", noon).dir, time.Second, noon); err == nil {
		t.Error("certificates may last a second")
	}
}

func TestInvitationsAreLimitedAndTheLastOneForANameHolds(t *testing.T) {
	h := newHost(t)
	first, second := h.invite("web2"), h.invite("web2")
	if _, _, err := h.join(newJoin(t, first)); !errors.Is(err, ErrNotInvited) {
		t.Errorf("the first: %v", err)
	}
	if got := h.i.Invitations(h.now); len(got) != 1 || got[0] != (Invitation{"web2", second.Expires}) {
		t.Errorf("open: %v", got)
	}
	if strings.Contains(string(get(t, h.dir, invitationsFile)), fmt.Sprintf("%x", second.secret)) {
		t.Error("the secret is in the file")
	}
	for says, err := range map[string]error{
		"cannot last 59s":   second2(h.i.Invite("web3", 59*time.Second, "web1", []string{"a:1"}, h.now)),
		"cannot last 168h0": second2(h.i.Invite("web3", 7*day+1, "web1", []string{"a:1"}, h.now)),
		"issuer's own node": second2(h.i.Invite("web1", day, "web1", []string{"a:1"}, h.now)),
		"addresses":         second2(h.i.Invite("web3", day, "web1", nil, h.now)),
		"is no address":     second2(h.i.Invite("web3", day, "web1", []string{"a"}, h.now)),
		"the new node":      second2(h.i.Invite("WEB3", day, "web1", []string{"a:1"}, h.now)),
	} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
		}
	}
	for n := range maxInvitations - 1 {
		h.invite(fmt.Sprint("new", n))
	}
	if _, err := h.i.Invite("one-more", day, "web1", []string{"a:1"}, h.now); err == nil || !strings.Contains(err.Error(), "100 invitations are open") {
		t.Errorf("error %v", err)
	}
	h.invite("new5") // in place of the other
	h.now = h.now.Add(time.Hour)
	if h.i.Inviting(h.now) || len(h.i.Invitations(h.now)) != 0 {
		t.Error("they do not end")
	}
	h.invite("one-more")
	h.now = h.now.Add(2 * day)
	if _, err := h.i.Invite("another", time.Hour, "web1", []string{"a:1"}, h.now); err != nil || len(h.i.invitations.list) != 1 {
		t.Errorf("%d are kept, %v", len(h.i.invitations.list), err)
	}
}

func second2(_ string, err error) error { return err }

func TestACADirectoryIsShownWithItsDocumentRotationAndInvitations(t *testing.T) {
	f := newIssuerFarm(t, "web1")
	f.rotate()
	if _, err := f.issuer.Invite("web2", time.Hour, "web1", []string{"a:1"}, f.now); err != nil {
		t.Fatal(err)
	}
	before := copyDir(t, f.dir)
	r := inspect(t, f.dir, f.now)
	if !r.Document.Equal(f.issuer.Document()) || r.Document.Rotation.Stage != Trust || len(r.Authorities) != 2 || len(r.Problems)+len(r.Warnings) != 0 ||
		r.Signing == r.Document.Rotation.To || len(r.Invitations) != 1 || r.Invitations[0].Node != "web2" {
		t.Errorf("%+v", r)
	}
	f.reach(Renew)
	if r := inspect(t, f.dir, f.now); r.Signing != r.Document.Rotation.To {
		t.Errorf("%s signs", r.Signing)
	}
	if !exists(t, filepath.Join(before, caNextKey)) {
		t.Error("the key is not there")
	}
	put(t, f.dir, invitationsFile, []byte("junk"))
	if r := inspect(t, f.dir, f.now); len(r.Problems) != 1 {
		t.Errorf("problems %v", r.Problems)
	}
}

func TestANodeIssuedByHandKnowsWhoIsRevoked(t *testing.T) {
	h := newHost(t)
	d, err := h.i.Revoke("web9", nil, h.now)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := LoadCA(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	if s := h.load(issue(t, ca, "web2", h.now)); !s.Document().Equal(d) {
		t.Errorf("it has %v", s.Document())
	}
	// What would be refused is not issued: here, since the clock went back to before the revocation.
	out := filepath.Join(t.TempDir(), "web9")
	if _, err := ca.Issue(out, "web9", day, h.now.Add(-time.Minute)); err == nil || exists(t, out) {
		t.Errorf("error %v", err)
	}
}
