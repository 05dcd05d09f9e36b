package certs

import (
	"bytes"
	"fmt"
	"slices"
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
	return signValue(t, ca, p)
}

// signValue signs whatever it is as a document's payload.
func signValue(t testing.TB, ca *CA, v any) []byte {
	t.Helper()
	payload, err := encoding.Marshal(v)
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

func TestADocumentThatMakesNoSenseIsNotRead(t *testing.T) {
	ca, other := newCA(t, "farm", noon), newCA(t, "other", noon)
	sum := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	node := newNode(t, ca, "web1", noon)
	to := ca.Authority().KeyID
	nine := func() (ders [][]byte) {
		for range maxCAs + 1 {
			ders = append(ders, ca.cert.Raw)
		}
		return ders
	}()
	for name, c := range map[string]struct {
		change func(*documentPayload)
		says   string // empty: it is read
	}{
		"nothing wrong":          {func(*documentPayload) {}, ""},
		"no farm":                {func(p *documentPayload) { p.Farm = "" }, "no farm"},
		"no name of a farm":      {func(p *documentPayload) { p.Farm = "Farm" }, "no farm"},
		"number 0":               {func(p *documentPayload) { p.Number = 0 }, "no number"},
		"the last number":        {func(p *documentPayload) { p.Number = 1<<64 - 1 }, ""},
		"made in future":         {func(p *documentPayload) { p.Made = 1<<63 - 1 }, ""},
		"made long ago":          {func(p *documentPayload) { p.Made = -1 << 63 }, ""},
		"no CA":                  {func(p *documentPayload) { p.CAs = nil }, "0 CAs"},
		"nine CAs":               {func(p *documentPayload) { p.CAs = nine }, "9 CAs"},
		"eight CAs":              {func(p *documentPayload) { p.CAs = nine[1:] }, ""},
		"junk as a CA":           {func(p *documentPayload) { p.CAs = [][]byte{[]byte("junk")} }, "no certificate"},
		"a node as a CA":         {func(p *documentPayload) { p.CAs = [][]byte{node.cert.Leaf.Raw} }, "may not sign"},
		"a CA of another farm":   {func(p *documentPayload) { p.CAs = append(p.CAs, other.cert.Raw) }, `"other"`},
		"a node revoked twice":   {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: "web1"}, {Node: "web1", Lifted: true}} }, "two things"},
		"revocations not sorted": {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: "web2"}, {Node: "web1"}} }, "sorted"},
		"no node revoked":        {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: ""}} }, "no node"},
		"no node's name":         {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: "we\nb"}} }, "no node"},
		"a short key":            {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: "web1", Keys: [][]byte{sum(1)[1:]}}} }, "no SHA-256"},
		"a key twice":            {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: "web1", Keys: [][]byte{sum(1), sum(1)}}} }, "twice"},
		"keys not sorted":        {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: "web1", Keys: [][]byte{sum(2), sum(1)}}} }, "sorted"},
		"keys sorted":            {func(p *documentPayload) { p.Revoked = []revocationWire{{Node: "web1", Keys: [][]byte{sum(1), sum(2)}}} }, ""},
		"an unknown stage":       {func(p *documentPayload) { p.Rotation = &rotationWire{Stage: "jump\n", To: to} }, `unknown stage "jump?"`},
		"a stage without a CA":   {func(p *documentPayload) { p.Rotation = &rotationWire{Stage: Renew} }, "which CA"},
		"a stage with no key":    {func(p *documentPayload) { p.Rotation = &rotationWire{Stage: Renew, To: "key"} }, "which CA"},
		"a CA without a stage":   {func(p *documentPayload) { p.Rotation = &rotationWire{To: to} }, "no stage"},
		"drop":                   {func(p *documentPayload) { p.Rotation = &rotationWire{Stage: Drop, To: to, Without: []string{"web1"}} }, ""},
		"without no node":        {func(p *documentPayload) { p.Rotation = &rotationWire{Stage: Drop, To: to, Without: []string{"Web"}} }, "not waited for"},
		"without one twice":      {func(p *documentPayload) { p.Rotation = &rotationWire{Stage: Drop, To: to, Without: []string{"a", "a"}} }, "twice"},
		"too much of it": {func(p *documentPayload) {
			for i := range 4000 {
				p.Revoked = append(p.Revoked, revocationWire{Node: fmt.Sprintf("web%04d", i), Keys: [][]byte{sum(1), sum(2)}})
			}
		}, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := ParseDocument(signPayloadAs(t, ca, c.change))
			if (err == nil) != (c.says == "") || (d == nil) != (err != nil) {
				t.Fatalf("document %v, error %v; want one with %q", d, err, c.says)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error %v; want one line with %q", err, c.says)
			}
		})
	}
}

func TestADocumentWithoutOrWithFarTooManySignaturesIsNotRead(t *testing.T) {
	ca := newCA(t, "farm", noon)
	d := newDocument(t, ca, 7)
	for count, ok := range map[int]bool{0: false, 1: true, maxCAs: true, maxCAs + 1: false} {
		data, err := encoding.Marshal(documentWire{d.payload, slices.Repeat(d.signatures, count)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseDocument(data); (err == nil) != ok {
			t.Errorf("with %d signatures: %v", count, err)
		}
	}
}

// A later version may say more, and nodes of this one must still follow.
func TestWhatALaterVersionAddsToADocumentIsSkipped(t *testing.T) {
	ca := newCA(t, "farm", noon)
	var p map[int]any
	if err := decoding.Unmarshal(newDocument(t, ca, 7).payload, &p); err != nil {
		t.Fatal(err)
	}
	p[99] = "more"
	if d, err := ParseDocument(signValue(t, ca, p)); err != nil || d.Number != 7 || !d.signedBy(ca.cert) {
		t.Errorf("%v, %v", d, err)
	}
}

// What was signed as one thing must not pass for another.
func TestASignatureOfOneKindIsNoneOfAnother(t *testing.T) {
	ca := newCA(t, "farm", noon)
	d := newDocument(t, ca, 7)
	for _, text := range []string{requestText, confirmText, ""} {
		var err error
		if d.signatures[0].Signature, err = signText(ca.key, append([]byte(text), d.payload...)); err != nil {
			t.Fatal(err)
		}
		if d.signedBy(ca.cert) {
			t.Errorf("signed as %q it passes for a document", text)
		}
	}
}
