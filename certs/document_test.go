package certs

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// signPayloadAs wraps and signs a payload that signDocument would not make.
func signPayloadAs(t testing.TB, ca *CA, change func(*documentPayload)) []byte {
	t.Helper()
	p := documentPayload{Farm: ca.Farm(), Number: 7, CAs: [][]byte{ca.cert.Raw}}
	change(&p)
	payload, err := encoding.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signPayload(ca.key, payload)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encoding.Marshal(documentWire{payload, []documentSignature{signature}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestADocumentArrivesAsItWasSigned(t *testing.T) {
	ca, next := newCA(t, "farm", noon), newCA(t, "farm", noon)
	both, err := parseBundle(CACert, append(ca.trust.pem(), next.trust.pem()...))
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Repeat("0f", 32)
	d, err := signDocument(Document{
		Farm: "farm", Number: 12, Made: noon,
		Revoked: []Revocation{
			{Node: "web2", Before: noon, Keys: []string{strings.Repeat("ff", 32), key, key}, At: noon.Add(time.Nanosecond)},
			{Node: "web1", At: noon, Lifted: true},
		},
		Rotation: Rotation{Trust, next.Authority().KeyID, []string{"web9", "web3", "web9"}},
	}, both, ca.key, next.key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseDocument(d.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := &Document{
		Farm: "farm", Number: 12, Made: noon,
		Revoked: []Revocation{
			{Node: "web1", At: noon, Lifted: true},
			{Node: "web2", Before: noon, Keys: []string{key, strings.Repeat("ff", 32)}, At: noon.Add(time.Nanosecond)},
		},
		Rotation: Rotation{Trust, next.Authority().KeyID, []string{"web3", "web9"}},
	}
	if diff := cmp.Diff(*want, *got, cmpopts.IgnoreUnexported(Document{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Authority{ca.Authority(), next.Authority()}, got.Authorities()); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(got.Bytes(), d.Bytes()) || !got.Equal(d) {
		t.Error("it is not the same when it is passed on")
	}
	if !got.signedBy(ca.cert) || !got.signedBy(next.cert) || got.signedBy(newCA(t, "farm", noon).cert) {
		t.Error("its signatures are not those of the two CAs, and of them only")
	}
}

func TestADocumentThatWasChangedIsSignedByNobody(t *testing.T) {
	ca := newCA(t, "farm", noon)
	data := newDocument(t, ca, 7, Revocation{Node: "web1", Before: noon}).Bytes()
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		d, err := ParseDocument(changed)
		if err == nil && d.signedBy(ca.cert) {
			t.Fatalf("with another byte %d it is believed", i)
		}
	}
}
