package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"
)

// Revocation cuts a node off: its certificates up to a moment, and its keys. A certificate that its name
// gets later, for another key, is good again.
type Revocation struct {
	Node string
	// Before: certificates of this name that were issued up to then are refused (see [Peer].Issued).
	Before time.Time
	// Keys are refused whenever, and for whatever name, they were certified: the SHA-256 of their
	// SubjectPublicKeyInfo, in hexadecimal, sorted.
	Keys []string
	// At is when it was said: of two statements about one node the later one holds.
	At time.Time
	// Lifted: it was taken back. It refuses nothing, and stays so that an older statement does not come
	// back.
	Lifted bool
}

func (r Revocation) check() error {
	if err := ValidName(r.Node); err != nil {
		return fmt.Errorf("the document revokes what is no node: %w", err)
	}
	for i, key := range r.Keys {
		if len(key) != 2*sha256.Size {
			return fmt.Errorf("the document revokes a key of the node %q that is no SHA-256", r.Node)
		}
		if i > 0 && r.Keys[i-1] >= key {
			return fmt.Errorf("the document revokes a key of the node %q twice, or is not sorted", r.Node)
		}
	}
	return nil
}

func (r Revocation) wire() (revocationWire, error) {
	w := revocationWire{Node: r.Node, Before: nanoseconds(r.Before), At: nanoseconds(r.At), Lifted: r.Lifted}
	for _, key := range slices.Compact(slices.Sorted(slices.Values(r.Keys))) {
		sum, err := hex.DecodeString(key)
		if err != nil {
			return w, fmt.Errorf("a key of the node %q is to be revoked that is no hexadecimal number", r.Node)
		}
		w.Keys = append(w.Keys, sum)
	}
	return w, nil
}

func (w revocationWire) revocation() Revocation {
	r := Revocation{Node: w.Node, Before: fromNanoseconds(w.Before), At: fromNanoseconds(w.At), Lifted: w.Lifted}
	for _, sum := range w.Keys {
		r.Keys = append(r.Keys, hex.EncodeToString(sum))
	}
	return r
}

// revoked is who is revoked, made for asking at each handshake. It never changes; nil revokes nobody.
type revoked struct {
	before map[string]time.Time // by node
	keys   map[[sha256.Size]byte]string
}

// under is the bundle with the revocations of the document (nil: none) in place of its own.
func (b *bundle) under(d *Document) *bundle {
	limited := *b
	limited.revoked = nil
	if d == nil {
		return &limited
	}
	r := &revoked{map[string]time.Time{}, map[[sha256.Size]byte]string{}}
	for _, said := range d.Revoked {
		if said.Lifted {
			continue
		}
		r.before[said.Node] = said.Before
		for _, key := range said.Keys {
			var sum [sha256.Size]byte
			if n, err := hex.Decode(sum[:], []byte(key)); err == nil && n == len(sum) { // always: Revocation.check
				r.keys[sum] = said.Node
			}
		}
	}
	limited.revoked = r
	return &limited
}

// key says with which node a key was revoked.
func (r *revoked) key(spki []byte) (node string, ok bool) {
	if r == nil {
		return "", false
	}
	node, ok = r.keys[sha256.Sum256(spki)]
	return node, ok
}

// Revokes says whether the certificate of a peer is revoked, by the peer's Node, Issued and Key alone: for what was
// only told of a certificate. Where nothing was (they are zero), every revocation of the name holds.
func (s *Snapshot) Revokes(p Peer) bool {
	r := s.trust.revoked
	if r == nil {
		return false
	}
	var sum [sha256.Size]byte
	if n, err := hex.Decode(sum[:], []byte(p.Key[:min(len(p.Key), 2*len(sum))])); err == nil && n == len(sum) && r.keys[sum] != "" {
		return true
	}
	before, ok := r.before[p.Node]
	return ok && !p.Issued.After(before)
}

// refuses says why the certificate of the node is refused, or nil.
func (r *revoked) refuses(cert *x509.Certificate, node string) error {
	if r == nil {
		return nil
	}
	if of, ok := r.key(cert.RawSubjectPublicKeyInfo); ok {
		return refuse(Revoked, "the key in the certificate of %q was revoked with the node %q", node, of)
	}
	if before, ok := r.before[node]; ok && !issued(cert).After(before) {
		return refuse(Revoked, "the certificate of %q was issued on %s, and all up to %s are revoked", node, stamp(issued(cert)), stamp(before))
	}
	return nil
}

// issued is when a certificate was made. It begins the serial number (newSerial). A serial that is not of
// that form, or says a time when the certificate was not valid, is another tool's: then it is where the
// certificate begins, the earliest that it can have been of use.
func issued(cert *x509.Certificate) time.Time {
	serial := cert.SerialNumber.Bytes()
	if len(serial) == 16 && cert.SerialNumber.Sign() > 0 {
		var n uint64
		for _, b := range serial[:8] {
			n = n<<8 | uint64(b)
		}
		if n <= math.MaxInt64 {
			if at := time.Unix(0, int64(n)).UTC(); !at.Before(cert.NotBefore) && !at.After(cert.NotAfter) {
				return at
			}
		}
	}
	return cert.NotBefore
}
