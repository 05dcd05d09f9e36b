package certs

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// JoinALPN is the protocol in which a new node asks the farm's issuer for its first certificate: one
// request, one reply.
const JoinALPN = "peerstate-join/1"

// Limits on what is said in it. A request has about 400 bytes. A reply holds CAs or a document.
const (
	MaxJoinRequest = 16 << 10
	MaxJoinReply   = MaxDocument + 64<<10
)

const (
	// joinText begins what the proof is made of; 32 bytes that only the two ends of this TLS connection know
	// (RFC 5705, 4, which also tells how to begin a label that nobody registered) and the PKCS #10 request
	// follow. So a proof is worth nothing to whoever sits between, and nothing for another key.
	joinText     = "peerstate join 1\n"
	joinExporter = "EXPERIMENTAL peerstate join"
	invitationID = 16
)

type joinRequest struct {
	ID    []byte `cbor:"1,keyasint"` // of the invitation
	CSR   []byte `cbor:"2,keyasint"` // PKCS #10, DER; nothing counts in it but the key
	Proof []byte `cbor:"3,keyasint"`
}

type joinReply struct {
	Certificate []byte   `cbor:"1,keyasint"`           // DER
	CAs         [][]byte `cbor:"2,keyasint,omitempty"` // DER; none if there is a document
	Document    []byte   `cbor:"3,keyasint,omitempty"`
}

// id names the invitation to the issuer. Like proofKey it does not lead back to the secret.
func (t *Token) id() string {
	sum := sha256.Sum256(append([]byte("peerstate invitation 1\n"), t.secret...))
	return hex.EncodeToString(sum[:invitationID])
}

// proofKey is what the issuer keeps of the secret.
func (t *Token) proofKey() []byte {
	sum := sha256.Sum256(t.secret)
	return sum[:]
}

func joinProof(key, csr []byte, cs tls.ConnectionState) ([]byte, error) {
	bound, err := cs.ExportKeyingMaterial(joinExporter, nil, 32)
	if err != nil {
		return nil, fmt.Errorf("bind the proof of an invitation to the connection: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	for _, part := range [][]byte{[]byte(joinText), bound, csr} {
		if _, err := mac.Write(part); err != nil {
			return nil, err
		}
	}
	return mac.Sum(nil), nil
}

// Join is a new node's side of joining: a key that never leaves this machine, and what the invitation says.
// It talks to nobody itself. After a lost answer ask once more with the same Join: the issuer gives the
// same certificate again, but to no other key.
type Join struct {
	token *Token
	dir   string
	key   *ecdsa.PrivateKey
	csr   []byte
}

// NewJoin makes a new key. The directory dir, which is to hold the node's files, is created if need be,
// and must hold no certificates: that must be known before the invitation is used up.
func NewJoin(t *Token, dir string) (*Join, error) {
	if err := joinable(dir); err != nil {
		return nil, err
	}
	if err := makePrivateDir(filepath.Join(dir, StateDir)); err != nil {
		return nil, broken(dir, "see whether you may write there", "cannot make this directory: %w", bare(err))
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a request for a certificate: %w", err)
	}
	return &Join{t, dir, key, csr}, nil
}

func joinable(dir string) error {
	return mustBeFree(dir, "name another directory, or move those files away first",
		NodeCert, NodeKey, CACert, CAKey, filepath.Join(StateDir, DocumentFile))
}

// TLS is the configuration for dialling the issuer. The handshake succeeds only with the node that the
// invitation names, with a certificate of the CA that it names, so nothing is sent to anybody else. An
// error is a [*Refusal].
func (j *Join) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{JoinALPN},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // VerifyConnection decides, by what the invitation says
		VerifyConnection: func(cs tls.ConnectionState) error {
			return j.token.verifyIssuer(cs.PeerCertificates, time.Now())
		},
	}
}

// verifyIssuer looks for the CA among what the issuer presents: the invitation only has the hash of it.
func (t *Token) verifyIssuer(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return refuse(Absent, "no certificate was presented")
	}
	if len(chain) > 1+maxCAs {
		return refuse(Unfit, "%d certificates were presented; at most %d are looked at", len(chain), 1+maxCAs)
	}
	trust := &bundle{pool: x509.NewCertPool()}
	for _, ca := range chain[1:] {
		if !slices.Contains(t.CA, hashOf(ca.Raw)) {
			continue
		}
		if err := trust.add(ca); err != nil {
			return refuse(Unfit, "the CA that the invitation names is none: %v", err)
		}
	}
	if trust.farm != t.Farm {
		return refuse(AnotherCA, "whoever answered does not have the CA of the invitation, or its CA was replaced since; "+
			"a new invitation would tell")
	}
	peer, err := trust.verify(chain[:1], now, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	if peer.Node != t.Issuer {
		return refuse(Unfit, "the node %q answered, and the issuer is %q", peer.Node, t.Issuer)
	}
	return nil
}

// Request is what to send to the issuer, at most [MaxJoinRequest] bytes. It holds for the connection with the
// state cs only, after its handshake.
func (j *Join) Request(cs tls.ConnectionState) ([]byte, error) {
	id, err := hex.DecodeString(j.token.id())
	if err != nil {
		return nil, err
	}
	proof, err := joinProof(j.token.proofKey(), j.csr, cs)
	if err != nil {
		return nil, err
	}
	data, err := encoding.Marshal(joinRequest{id, j.csr, proof})
	if err != nil {
		return nil, fmt.Errorf("encode a request to join: %w", err)
	}
	return data, nil
}

// Install takes in the issuer's reply and writes the node's files, none of which may exist. Of the CAs
// in it only those are believed that the invitation, or a document signed by one of them, vouches for. It
// tells who this node is from now on.
func (j *Join) Install(reply []byte, now time.Time) (Peer, error) {
	var w joinReply
	if err := decode("a reply to a request to join", reply, MaxJoinReply, &w); err != nil {
		return Peer{}, err
	}
	cert, err := x509.ParseCertificate(w.Certificate)
	if err != nil {
		return Peer{}, errors.New("what the issuer sent is no certificate")
	}
	trust, d, err := j.token.vouched(w)
	if err != nil {
		return Peer{}, err
	}
	peer, err := trust.verifyOwn(cert, now)
	switch want := (Identity{j.token.Farm, j.token.Node}); {
	case err != nil:
		return Peer{}, fmt.Errorf("the certificate that the issuer has sent would be refused: %w", err)
	case peer.Identity != want:
		return Peer{}, fmt.Errorf("the certificate that the issuer has sent is for %q of the farm %q, and the invitation for %q of %q",
			peer.Node, peer.Farm, want.Node, want.Farm)
	case !j.key.PublicKey.Equal(cert.PublicKey):
		return Peer{}, errors.New("the certificate that the issuer has sent is for another key")
	}
	if err := joinable(j.dir); err != nil {
		return Peer{}, err
	}
	key, err := encodeKey(j.key)
	if err != nil {
		return Peer{}, err
	}
	return peer, writeNode(j.dir, trust, d, key, cert)
}

// vouched gives the CAs in a reply that are to be believed, limited by the document in it, if there is one.
func (t *Token) vouched(w joinReply) (*bundle, *Document, error) {
	trust := &bundle{pool: x509.NewCertPool()}
	var d *Document
	cas := w.CAs
	if len(w.Document) > 0 {
		var err error
		if d, err = ParseDocument(w.Document); err != nil {
			return nil, nil, err
		}
		cas = nil
		for _, ca := range d.trust.cas {
			cas = append(cas, ca.Raw)
		}
	}
	for _, der := range cas[:min(len(cas), maxCAs)] {
		if !slices.Contains(t.CA, hashOf(der)) {
			continue
		}
		ca, err := x509.ParseCertificate(der)
		if err == nil {
			err = trust.add(ca)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("a CA that the issuer has sent is none of this farm: %w", err)
		}
	}
	switch {
	case trust.farm != t.Farm:
		return nil, nil, errors.New("the issuer has sent none of the CAs that the invitation names: " +
			"the farm's CA was replaced since; ask for a new invitation")
	case d == nil:
		return trust, nil, nil
	case d.Farm != t.Farm || !d.signedByAny(trust):
		return nil, nil, errors.New("the farm's document that the issuer has sent is signed by none of the CAs that the invitation names")
	}
	return d.trust.under(d), d, nil
}

// hashOf names a certificate: the SHA-256 of its DER.
func hashOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
