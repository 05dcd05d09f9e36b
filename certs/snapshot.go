package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"time"
)

// Snapshot is a node's certificate, its key, and the CAs that it trusts, at one moment and known to fit
// together. It never changes, and is safe for concurrent use. When the files change, load another one.
type Snapshot struct {
	self  Peer
	trust *bundle
	cert  tls.Certificate
	// document is what trust is limited by; nil: none yet.
	document *Document
}

// Load reads a node's directory. It gives a snapshot only if a peer that holds the same ca.crt would
// accept the certificate at the time now; otherwise the error, mostly a [*FileError], says which file is
// wrong and what to do.
func Load(dir string, now time.Time) (*Snapshot, error) {
	const missing = "make the node's certificates with \"peerstate cert issue\" where the farm's CA is, and copy them here"
	trust, err := loadBundle(dir, missing)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, NodeCert)
	data, err := read(path, missing)
	if err != nil {
		return nil, err
	}
	cert, err := parseNode(path, data)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(dir, NodeKey, missing)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, broken(filepath.Join(dir, NodeKey), "copy both again from the directory that \"peerstate cert issue\" made",
			"it does not belong to %s", NodeCert)
	}
	self, err := trust.verifyOwn(path, cert, now)
	if err != nil {
		return nil, err
	}
	return &Snapshot{
		self:  self,
		trust: trust,
		cert:  tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert},
	}, nil
}

// verifyOwn looks at the node's own certificate as a peer on either end of a link will.
func (b *bundle) verifyOwn(path string, cert *x509.Certificate, now time.Time) (Peer, error) {
	var self Peer
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		var err error
		self, err = b.verify([]*x509.Certificate{cert}, now, use)
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			return Peer{}, &FileError{path, refusal.Reason.Advice(), refusal}
		}
		if err != nil {
			return Peer{}, err
		}
	}
	return self, nil
}

// parseNode reads the contents of a node.crt: one certificate.
func parseNode(path string, data []byte) (*x509.Certificate, error) {
	ders, err := decodePEM(path, data, pemCertificate)
	if err != nil {
		return nil, err
	}
	if len(ders) != 1 {
		return nil, broken(path, "leave only the node's own certificate in it; those of CAs belong into "+CACert,
			"it holds %d certificates instead of one", len(ders))
	}
	return parseCertificate(path, ders[0])
}

// Self is this node as its peers see it.
func (s *Snapshot) Self() Peer { return s.self }

// Document is the farm's document that is in force; nil if there is none yet.
func (s *Snapshot) Document() *Document { return s.document }

// DocumentNumber is the number of that document; 0 if there is none yet.
func (s *Snapshot) DocumentNumber() uint64 {
	if s.document == nil {
		return 0
	}
	return s.document.Number
}

// Authorities are the CAs whose certificates are accepted.
func (s *Snapshot) Authorities() []Authority { return s.trust.authorities() }

// ListenTLS is the configuration for accepting links that speak the protocol alpn: TLS 1.3 only, no
// resumption, and nobody gets in whose certificate is not accepted as a dialler's at the time of the
// handshake.
//
// With quic-go, use ListenEarly and wait for HandshakeComplete or the end of the connection's context:
// Listen drops a refused handshake without a word, and its cause is what [RefusalOf] needs.
func (s *Snapshot) ListenTLS(alpn string) *tls.Config {
	c := s.config(alpn, x509.ExtKeyUsageClientAuth)
	// With this, crypto/tls refuses a dialler without a certificate (alert 116) before it asks
	// VerifyConnection. ClientCAs stays empty: a list of names would keep a node of another CA from
	// presenting its certificate, and both sides would learn "absent" instead of "another CA".
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

// DialTLS is the configuration for making links: like [Snapshot.ListenTLS], from the other end. That
// Dial succeeds does not mean that the listener has accepted our certificate: its refusal comes later,
// as the end of the connection.
func (s *Snapshot) DialTLS(alpn string) *tls.Config {
	c := s.config(alpn, x509.ExtKeyUsageServerAuth)
	// A node is known by the name in its certificate, not by the host name or address it was dialled by,
	// which is all that this turns off: VerifyConnection decides.
	c.InsecureSkipVerify = true
	return c
}

// config lets only those in whose certificate may be used as they use it.
func (s *Snapshot) config(alpn string, use x509.ExtKeyUsage) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		Certificates:           []tls.Certificate{s.cert},
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := s.trust.verify(cs.PeerCertificates, time.Now(), use)
			return err
		},
	}
}

// Peer tells who is at the other end of a connection, as this snapshot sees it now: after the handshake,
// and again for each open connection when the snapshot was replaced, and from time to time. An error is a
// [*Refusal]: close the connection.
func (s *Snapshot) Peer(cs tls.ConnectionState) (Peer, error) {
	return s.trust.verify(cs.PeerCertificates, time.Now(), x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
}
