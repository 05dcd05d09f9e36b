package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"
)

// Snapshot is a node's certificate, its key, the CAs that it trusts, and who is revoked, at one moment and
// known to fit together. It never changes, and is safe for concurrent use. When the files change, load
// another one.
type Snapshot struct {
	self  Peer
	trust *bundle
	cert  tls.Certificate
	// document is what trust is limited by; nil: none yet. unwritten: it is in force here but not on the
	// disk, so that it will not be after a restart.
	document  *Document
	unwritten bool
}

// Load reads a node's directory. It gives a snapshot only if a peer that holds the same ca.crt and the same
// document would accept the certificate at the time now; otherwise the error, mostly a [*FileError], says
// which file is wrong and what to do. If the replacement of a file was interrupted after it had taken hold
// (by a crash in [Accept] or [Request.Install]), it is completed.
func Load(dir string, now time.Time) (*Snapshot, error) {
	changing.Lock()
	defer changing.Unlock()
	s, unfinished, err := look(dir, now)
	if err != nil {
		return nil, err
	}
	for _, path := range unfinished {
		if err := putInPlace(path); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Reload is [Load] for a node that runs with s already. If the document of s is newer than the one in dir
// (which came back from an old copy, or could not be written), it remains in force, as with [Accept], so
// that nobody who was revoked comes in again. It counts no more if dir has changed to CAs none of which has
// signed it.
func Reload(dir string, s *Snapshot, now time.Time) (*Snapshot, error) {
	fresh, err := Load(dir, now)
	if err != nil || s.DocumentNumber() <= fresh.DocumentNumber() ||
		s.document.Farm != fresh.self.Farm || !s.document.signedByAny(fresh.trust) {
		return fresh, err
	}
	return Accept(dir, fresh, s.document.Bytes(), now)
}

// changing is held by whoever changes files in a node's directory, and whoever reads several of them that
// must fit together: one process has one such directory, so there is nothing to gain by a lock for each.
var changing sync.Mutex

// look reads a node's directory and changes nothing: changing is held. unfinished are files to be put in
// place (putInPlace), with which the snapshot was made already.
func look(dir string, now time.Time) (s *Snapshot, unfinished []string, err error) {
	const missing = "make the node's certificates with \"peerstate cert issue\" where the farm's CA is, and copy them here"
	trust, document, interrupted, err := loadTrust(dir, missing)
	if err != nil {
		return nil, nil, err
	}
	if interrupted {
		unfinished = append(unfinished, documentPath(dir))
	}
	path := filepath.Join(dir, NodeCert)
	data, err := read(path, missing)
	if err != nil {
		return nil, nil, err
	}
	cert, err := parseNode(path, data)
	if err != nil {
		return nil, nil, err
	}
	key, interrupted, err := loadKeyOf(dir, cert, missing)
	if err != nil {
		return nil, nil, err
	}
	if interrupted {
		unfinished = append(unfinished, filepath.Join(dir, NodeKey))
	}
	self, err := trust.verifyOwn(cert, now)
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		err = &FileError{path, refusal.Reason.Advice(), refusal}
	}
	if err != nil {
		return nil, nil, err
	}
	return &Snapshot{
		self:     self,
		trust:    trust,
		cert:     tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert},
		document: document,
	}, unfinished, nil
}

// loadTrust reads ca.crt and the document, which limits it. interrupted says that the document still has to
// be put in place.
func loadTrust(dir, missing string) (trust *bundle, d *Document, interrupted bool, err error) {
	if trust, err = loadBundle(dir, missing); err != nil {
		return nil, nil, false, err
	}
	if d, interrupted, err = loadDocument(dir, trust); err != nil {
		return nil, nil, false, err
	}
	return trust.under(d), d, interrupted, nil
}

// loadKeyOf reads the key of the node's certificate. interrupted says that it still has to be put in place:
// the certificate was replaced, and its key was not yet (Request.Install).
func loadKeyOf(dir string, cert *x509.Certificate, missing string) (key *ecdsa.PrivateKey, interrupted bool, err error) {
	key, err = loadKey(dir, NodeKey, missing)
	if err == nil && key.PublicKey.Equal(cert.PublicKey) {
		return key, false, nil
	}
	next, nextErr := loadKey(dir, NodeKey+unplaced, "")
	switch {
	case nextErr == nil && next.PublicKey.Equal(cert.PublicKey):
		return next, true, nil
	case nextErr != nil && !errors.Is(nextErr, fs.ErrNotExist):
		return nil, false, nextErr
	case err != nil:
		return nil, false, err
	}
	return nil, false, broken(filepath.Join(dir, NodeKey), "copy both again from the directory that \"peerstate cert issue\" made",
		"it does not belong to %s", NodeCert)
}

// verifyOwn looks at the node's own certificate as a peer on either end of a link will.
func (b *bundle) verifyOwn(cert *x509.Certificate, now time.Time) (Peer, error) {
	var self Peer
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		var err error
		if self, err = b.verify([]*x509.Certificate{cert}, now, use); err != nil {
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

// Same says whether o makes no difference: it has the same certificate, CAs and document. Either may be nil.
func (s *Snapshot) Same(o *Snapshot) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.cert.Leaf.Equal(o.cert.Leaf) && s.trust.sameCAs(o.trust) && s.document.Equal(o.document) && s.unwritten == o.unwritten
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
