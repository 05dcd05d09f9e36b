package certs

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// Limits on a request that a node may pass on or the issuer may get. One has about 1,000 bytes.
const (
	MaxRequest = 16 << 10
	// requestAge is how far a request's time may be from the issuer's: whoever kept one can get no more
	// than another certificate of the same key for as long.
	requestAge = time.Hour
)

// requestText begins what the present certificate's key signs: farm, time and the request for the new
// certificate follow.
const requestText = "peerstate renew 1\n"

// Request is a node's request for a new certificate in place of its present one. The farm's issuer answers
// it. It may go there through other nodes: it is signed with the present certificate's key, and what
// it asks for, with the new one. So whoever passes it on can change neither the name nor the key, and
// the answer is of use to nobody else.
type Request struct {
	self Peer
	key  *ecdsa.PrivateKey // the new one
	raw  []byte
}

type requestWire struct {
	Certificate []byte `cbor:"1,keyasint"` // the present one, DER
	Time        int64  `cbor:"2,keyasint"` // seconds since 1970
	CSR         []byte `cbor:"3,keyasint"` // PKCS #10, DER; nothing counts in it but the key
	Signature   []byte `cbor:"4,keyasint"` // of the present key
}

func (w requestWire) text(farm string) []byte {
	return append([]byte(requestText+farm+"\n"+strconv.FormatInt(w.Time, 10)+"\n"), w.CSR...)
}

// NewRequest makes a new key, and a request for a certificate for it under the name of s.
func NewRequest(s *Snapshot, now time.Time) (*Request, error) {
	own, ok := s.cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the node's key cannot sign a request for a new certificate")
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a request for a new certificate: %w", err)
	}
	w := requestWire{Certificate: s.cert.Leaf.Raw, Time: now.Unix(), CSR: csr}
	if w.Signature, err = signText(own, w.text(s.self.Farm)); err != nil {
		return nil, err
	}
	raw, err := encoding.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode a request for a new certificate: %w", err)
	}
	return &Request{s.self, key, raw}, nil
}

// Bytes is the request for the issuer. They must not be changed.
func (r *Request) Bytes() []byte { return r.raw }

// Install takes in the issuer's answer, a certificate (DER): it replaces node.crt and node.key in dir, and
// gives the snapshot with them. The certificate must be for this node and the new key, and one that the
// CAs and the document in dir accept; otherwise nothing is written. An interruption leaves the old pair or
// the new one, whichever [Load] finds to belong together.
func (r *Request) Install(dir string, der []byte, now time.Time) (*Snapshot, error) {
	if err := r.write(dir, der, now); err != nil {
		return nil, err
	}
	return Load(dir, now)
}

func (r *Request) write(dir string, der []byte, now time.Time) error {
	changing.Lock()
	defer changing.Unlock()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return errors.New("what the issuer answered to the request for a new certificate is none")
	}
	trust, d, _, err := loadTrust(dir, "restore it from a copy, or from another node")
	if err != nil {
		return err
	}
	peer, err := trust.verifyOwn(cert, now)
	switch {
	case err != nil:
		return fmt.Errorf("the new certificate that the issuer has sent would be refused: %w", err)
	case peer.Identity != r.self.Identity:
		return fmt.Errorf("the new certificate that the issuer has sent is for %q, and this node is %q", peer.Node, r.self.Node)
	case !r.key.PublicKey.Equal(cert.PublicKey):
		return errors.New("the new certificate that the issuer has sent is for another key than was asked for")
	case !d.lets(peer.IssuerKey):
		return errors.New("the new certificate that the issuer has sent is of a CA that issues no more; it came too late, ask again")
	}
	key, err := encodeKey(r.key)
	if err != nil {
		return err
	}
	// First the key under another name, so that it is there when the certificate is. What a failure leaves of
	// it stays, since the certificate may have been replaced all the same.
	path := filepath.Join(dir, NodeKey)
	if err := writeWhole(path+unplaced, key); err != nil {
		return err
	}
	if err := writeWhole(filepath.Join(dir, NodeCert), encodePEM(pemCertificate, cert.Raw)); err != nil {
		return err
	}
	return putInPlace(path)
}

// lets says whether a new certificate of a CA may be taken in. From stage Renew on only one CA issues. Whoever has
// confirmed that it has a certificate of that one must not go back to another, by an answer that was under
// way for long: the others are about to drop that CA. The document may be nil.
func (d *Document) lets(keyID string) bool {
	return d == nil || d.Rotation.Stage != Renew && d.Rotation.Stage != Drop || d.Rotation.To == keyID
}

// parseRequest is the issuer's side: who asks, and for which key. The present certificate is verified as a
// peer's, with the revocations of b; an error about that is a [*Refusal].
func parseRequest(data []byte, b *bundle, now time.Time) (Peer, *ecdsa.PublicKey, error) {
	var w requestWire
	if err := decode("a request for a new certificate", data, MaxRequest, &w); err != nil {
		return Peer{}, nil, err
	}
	peer, present, err := b.verifySigner(w.Certificate, now)
	if err != nil {
		return Peer{}, nil, err
	}
	if !signedText(present, w.text(b.farm), w.Signature) {
		return Peer{}, nil, fmt.Errorf("the request for a new certificate for %q is not signed with the key of its present one", peer.Node)
	}
	if made := time.Unix(w.Time, 0); made.Before(now.Add(-requestAge)) || made.After(now.Add(requestAge)) {
		return Peer{}, nil, fmt.Errorf("the request of %q for a new certificate was made on %s, and it is now %s; "+
			"see that the clocks of both machines are right", peer.Node, stamp(made), stamp(now))
	}
	key, err := b.requestedKey(w.CSR)
	if err != nil {
		return Peer{}, nil, fmt.Errorf("the request of %q for a new certificate: %w", peer.Node, err)
	}
	return peer, key, nil
}

// verifySigner verifies a certificate that came with something signed, as a peer's on either end of a link,
// and gives the key to check the signature with.
func (b *bundle) verifySigner(der []byte, now time.Time) (Peer, *ecdsa.PublicKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Peer{}, nil, refuse(Unreadable, "the certificate that came with it cannot be read")
	}
	peer, err := b.verify([]*x509.Certificate{cert}, now, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return Peer{}, nil, err
	}
	if !isP256(cert.PublicKey) {
		return Peer{}, nil, refuse(Unfit, "the key in the certificate of %q is not an ECDSA P-256 key", peer.Node)
	}
	return peer, cert.PublicKey.(*ecdsa.PublicKey), nil
}

// requestedKey gives the key in a request for a certificate (PKCS #10), proven by whoever holds it.
// Whatever else stands in the request is not looked at.
func (b *bundle) requestedKey(der []byte) (*ecdsa.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errors.New("what it holds is no PKCS #10 request")
	}
	if !isP256(csr.PublicKey) {
		return nil, errors.New("the new key is not an ECDSA P-256 key")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("it is not signed with the new key")
	}
	if of, ok := b.revoked.key(csr.RawSubjectPublicKeyInfo); ok {
		return nil, refuse(Revoked, "the new key was revoked with the node %q", of)
	}
	return csr.PublicKey.(*ecdsa.PublicKey), nil
}
