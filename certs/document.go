package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DocumentFile is the name of the document in force: in a CA's directory, and in the directory [StateDir] of
// a node's.
const (
	DocumentFile = "farm.document"
	StateDir     = "state"
)

// MaxDocument is how many bytes a document can have.
const MaxDocument = 256 << 10

// Document is what the farm's issuer says to all nodes, numbered and signed: which CAs are trusted, who is
// revoked, and at which stage the replacement of a CA is. Nodes take one in with [Accept], pass it on as it
// is, and never make one. It never changes.
type Document struct {
	Farm     string
	Number   uint64       // from 1; of two documents the higher one holds
	Made     time.Time    // for people: nothing is decided by it
	Revoked  []Revocation // one a node at most, sorted by name
	Rotation Rotation

	trust      *bundle // its CAs
	payload    []byte  // what was signed
	signatures []documentSignature
	raw        []byte // all of it, as it travels
}

// Stage is how far the replacement of a farm's CA has come.
type Stage string

// The stages, in their order.
const (
	NoRotation Stage = ""      // none is under way
	Trust      Stage = "trust" // the new CA is trusted beside the old one, and issues nothing yet
	Renew      Stage = "renew" // nodes renew their certificates with the CA that remains
	Drop       Stage = "drop"  // only that CA is trusted
)

// Rotation is the replacement of a farm's CA.
type Rotation struct {
	Stage   Stage
	To      string   // KeyID of the CA that issues from stage Renew on; empty if no rotation is under way
	Without []string // nodes that the operator does not wait for, sorted
}

// documentText begins what is signed; the payload follows.
const documentText = "peerstate document 1\n"

// A document as it travels. Signatures name their keys, and those of unknown keys are skipped: while the CA
// is replaced both CAs sign, so that whoever trusts either can follow. That others could change the
// wrapping or (since it is ECDSA) a signature without breaking it does no harm: the number decides, and
// nothing goes by these bytes.
type documentWire struct {
	Payload    []byte              `cbor:"1,keyasint"`
	Signatures []documentSignature `cbor:"2,keyasint"`
}

type documentSignature struct {
	Key       []byte `cbor:"1,keyasint"` // SHA-256 of the CA's SubjectPublicKeyInfo
	Signature []byte `cbor:"2,keyasint"` // ECDSA, in ASN.1, over the SHA-256 of documentText and the payload
}

type documentPayload struct {
	Farm     string           `cbor:"1,keyasint"`
	Number   uint64           `cbor:"2,keyasint"`
	Made     int64            `cbor:"3,keyasint,omitempty"`
	CAs      [][]byte         `cbor:"4,keyasint"` // DER
	Revoked  []revocationWire `cbor:"5,keyasint,omitempty"`
	Rotation *rotationWire    `cbor:"6,keyasint,omitempty"`
}

type revocationWire struct {
	Node   string   `cbor:"1,keyasint"`
	Before int64    `cbor:"2,keyasint,omitempty"`
	Keys   [][]byte `cbor:"3,keyasint,omitempty"`
	At     int64    `cbor:"4,keyasint,omitempty"`
	Lifted bool     `cbor:"5,keyasint,omitempty"`
}

type rotationWire struct {
	Stage   Stage    `cbor:"1,keyasint"`
	To      string   `cbor:"2,keyasint,omitempty"`
	Without []string `cbor:"3,keyasint,omitempty"`
}

// ParseDocument reads a document. It is whole and makes sense then, but is not to be believed before
// signedBy says so.
func ParseDocument(data []byte) (*Document, error) {
	var w documentWire
	if err := decode("a farm's document", data, MaxDocument, &w); err != nil {
		return nil, err
	}
	if len(w.Signatures) == 0 || len(w.Signatures) > maxCAs {
		return nil, fmt.Errorf("the document has %d signatures; it needs at least one and at most %d", len(w.Signatures), maxCAs)
	}
	var p documentPayload
	if err := decode("what a farm's document says", w.Payload, MaxDocument, &p); err != nil {
		return nil, err
	}
	if err := ValidFarm(p.Farm); err != nil {
		return nil, fmt.Errorf("the document is of no farm: %w", err)
	}
	d := &Document{
		Farm:       p.Farm,
		Number:     p.Number,
		Made:       fromNanoseconds(p.Made),
		payload:    w.Payload,
		signatures: w.Signatures,
		raw:        bytes.Clone(data),
	}
	if err := d.setAuthorities(p.CAs); err != nil {
		return nil, err
	}
	for _, r := range p.Revoked {
		d.Revoked = append(d.Revoked, r.revocation())
	}
	if p.Rotation != nil {
		d.Rotation = Rotation(*p.Rotation)
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Document) setAuthorities(ders [][]byte) error {
	if len(ders) == 0 || len(ders) > maxCAs {
		return fmt.Errorf("the document has %d CAs; it needs at least one and at most %d", len(ders), maxCAs)
	}
	d.trust = &bundle{farm: d.Farm, pool: x509.NewCertPool()}
	for i, der := range ders {
		ca, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("CA %d of %d in the document is no certificate: %s", i+1, len(ders), clean(err.Error()))
		}
		if err := d.trust.add(ca); err != nil {
			return fmt.Errorf("CA %d of %d in the document is not a CA of this farm: %w", i+1, len(ders), err)
		}
	}
	return nil
}

// check says what makes no sense in it. There is one way only to write what it says, so lists are sorted.
func (d *Document) check() error {
	if d.Number == 0 {
		return errors.New("the document has no number")
	}
	for i, r := range d.Revoked {
		if err := r.check(); err != nil {
			return err
		}
		if i > 0 && d.Revoked[i-1].Node >= r.Node {
			return fmt.Errorf("the document says two things about the node %q, or is not sorted", r.Node)
		}
	}
	return d.Rotation.check()
}

func (r Rotation) check() error {
	switch r.Stage {
	case NoRotation:
		if r.To != "" || len(r.Without) > 0 {
			return errors.New("the document tells of a CA to change to, but of no stage")
		}
	case Trust, Renew, Drop:
		if _, err := hex.DecodeString(r.To); err != nil || r.To == "" || len(r.To) > 128 {
			return errors.New("the document does not say properly which CA the farm changes to")
		}
	default:
		return fmt.Errorf("the document has the unknown stage %q: a newer version may have made it", clean(string(r.Stage)))
	}
	for i, node := range r.Without {
		if err := ValidName(node); err != nil {
			return fmt.Errorf("the document names a node that is not waited for: %w", err)
		}
		if i > 0 && r.Without[i-1] >= node {
			return fmt.Errorf("the document names the node %q twice, or is not sorted", node)
		}
	}
	return nil
}

// Bytes is the document as signed, for others and for files. They must not be changed.
func (d *Document) Bytes() []byte { return d.raw }

// Authorities are the CAs that it says are trusted.
func (d *Document) Authorities() []Authority { return d.trust.authorities() }

// Equal says whether both say the same, whoever signed it. Either may be nil.
func (d *Document) Equal(o *Document) bool {
	if d == nil || o == nil {
		return d == o
	}
	return bytes.Equal(d.payload, o.payload)
}

// signDocument makes a document of the exported fields of d: its lists are sorted, and a second mention
// of a name or a key is dropped. All the keys sign. It is given as others will read it.
func signDocument(d Document, trust *bundle, keys ...*ecdsa.PrivateKey) (*Document, error) {
	p := documentPayload{Farm: d.Farm, Number: d.Number, Made: nanoseconds(d.Made)}
	for _, ca := range trust.cas {
		p.CAs = append(p.CAs, ca.Raw)
	}
	revoked := slices.SortedFunc(slices.Values(d.Revoked), func(a, b Revocation) int { return strings.Compare(a.Node, b.Node) })
	for _, r := range revoked {
		w, err := r.wire()
		if err != nil {
			return nil, err
		}
		p.Revoked = append(p.Revoked, w)
	}
	if r := d.Rotation; r.Stage != NoRotation {
		r.Without = slices.Compact(slices.Sorted(slices.Values(r.Without)))
		p.Rotation = (*rotationWire)(&r)
	}
	payload, err := encoding.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the document: %w", err)
	}
	w := documentWire{Payload: payload}
	for _, key := range keys {
		signature, err := signPayload(key, payload)
		if err != nil {
			return nil, err
		}
		w.Signatures = append(w.Signatures, signature)
	}
	raw, err := encoding.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode the document: %w", err)
	}
	return ParseDocument(raw)
}

func signPayload(key *ecdsa.PrivateKey, payload []byte) (documentSignature, error) {
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return documentSignature{}, fmt.Errorf("encode a public key: %w", err)
	}
	signature, err := signText(key, append([]byte(documentText), payload...))
	if err != nil {
		return documentSignature{}, err
	}
	name := sha256.Sum256(spki)
	return documentSignature{Key: name[:], Signature: signature}, nil
}

// signedBy says whether the CA has signed the document.
func (d *Document) signedBy(ca *x509.Certificate) bool {
	public, ok := ca.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return false
	}
	name := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return slices.ContainsFunc(d.signatures, func(s documentSignature) bool {
		return bytes.Equal(s.Key, name[:]) && signedText(public, append([]byte(documentText), d.payload...), s.Signature)
	})
}

// signedByAny says whether one of the bundle's CAs has signed the document.
func (d *Document) signedByAny(b *bundle) bool { return slices.ContainsFunc(b.cas, d.signedBy) }
