package certs

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Peer is somebody whose certificate was accepted.
type Peer struct {
	Identity
	Serial    string    // hexadecimal
	Issued    time.Time // when it was signed: its serial number tells; otherwise the same as From
	Issuer    string    // common name of the CA
	IssuerKey string    // KeyID of the CA
	Key       string    // its public key: the SHA-256 of the SubjectPublicKeyInfo, hexadecimal
	From      time.Time
	Expires   time.Time
	CAExpires time.Time // of the CA that has signed it
}

// Limits on what a stranger may present. A chain is the certificate alone, and maybe the CA's; a
// certificate of ours has 500 bytes.
const (
	maxChain       = 5
	maxCertificate = 8 << 10
)

// verify decides about a chain as a peer presented it, its own certificate first: the peer, or a
// [*Refusal]. use is what the certificate must allow; with several, one of them is enough. This is the
// only place where somebody is let in.
func (b *bundle) verify(chain []*x509.Certificate, now time.Time, use ...x509.ExtKeyUsage) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, refuse(Absent, "no certificate was presented")
	}
	cert := chain[0]
	if len(chain) > maxChain || len(cert.Raw) > maxCertificate {
		return Peer{}, refuse(Unfit, "%d certificates were presented, the first of %d bytes; at most %d of %d bytes are looked at",
			len(chain), len(cert.Raw), maxChain, maxCertificate)
	}
	// First whose signature it is: before that, nothing in the certificate is worth believing. What else
	// the peer presented is never used: there are no intermediate CAs.
	ca := b.issuerOf(cert)
	if ca == nil {
		return Peer{}, refuse(AnotherCA, "the certificate %s was signed by %s, which is not trusted here", subject(cert), issuer(cert))
	}
	if cert.IsCA {
		return Peer{}, refuse(Unfit, "the certificate %s is a CA's, not a node's", subject(cert))
	}
	id, err := identityOf(cert)
	if err != nil {
		return Peer{}, refuse(NoNodeName, "the certificate %s has no node name: %v", subject(cert), err)
	}
	if id.Farm != b.farm {
		return Peer{}, refuse(AnotherFarm, "the certificate is for the node %q of the farm %q, and this is the farm %q", id.Node, id.Farm, b.farm)
	}
	if err := b.revoked.refuses(cert, id.Node); err != nil {
		return Peer{}, err
	}
	if err := checkTime(cert, fmt.Sprintf("the certificate of %q", id.Node), now); err != nil {
		return Peer{}, err
	}
	if err := checkTime(ca, fmt.Sprintf("the CA of the certificate of %q", id.Node), now); err != nil {
		return Peer{}, err
	}
	// The library takes a certificate without any uses as one for all; here they must be said.
	if !slices.ContainsFunc(use, func(u x509.ExtKeyUsage) bool { return slices.Contains(cert.ExtKeyUsage, u) }) {
		return Peer{}, refuse(Unfit, "the certificate of %q is not for use on that end of a link", id.Node)
	}
	// All of it once more, and what was not looked at yet (constraints, critical extensions), by the
	// library. The checks above are there to be stricter and to give the reason.
	if _, err := cert.Verify(x509.VerifyOptions{Roots: b.pool, CurrentTime: now, KeyUsages: use}); err != nil {
		return Peer{}, refuse(Unfit, "the certificate of %q does not pass: %s", id.Node, clean(err.Error()))
	}
	peer := peerOf(cert, id)
	peer.Issuer = clean(ca.Subject.CommonName)
	peer.IssuerKey = hex.EncodeToString(ca.SubjectKeyId)
	peer.CAExpires = ca.NotAfter
	return peer, nil
}

// peerOf is what a certificate says about itself, true or not.
func peerOf(cert *x509.Certificate, id Identity) Peer {
	return Peer{
		Identity:  id,
		Serial:    cert.SerialNumber.Text(16),
		Issued:    issued(cert),
		Issuer:    clean(cert.Issuer.CommonName),
		IssuerKey: hex.EncodeToString(cert.AuthorityKeyId),
		Key:       fingerprint(cert.RawSubjectPublicKeyInfo),
		From:      cert.NotBefore,
		Expires:   cert.NotAfter,
	}
}

// checkTime says when the certificate is valid if now is not within that. Our own time is in the message
// since it is often the clock that is wrong.
func checkTime(cert *x509.Certificate, what string, now time.Time) error {
	switch {
	case now.After(cert.NotAfter):
		return refuse(Expired, "%s ended on %s, and it is now %s", what, stamp(cert.NotAfter), stamp(now))
	case now.Before(cert.NotBefore):
		return refuse(NotYetValid, "%s begins on %s, and it is now %s", what, stamp(cert.NotBefore), stamp(now))
	}
	return nil
}

// subject and issuer name a certificate that is not known to be what it says.
func subject(cert *x509.Certificate) string {
	return fmt.Sprintf("%q", clean(cert.Subject.CommonName))
}

func issuer(cert *x509.Certificate) string {
	name := fmt.Sprintf("%q", clean(cert.Issuer.CommonName))
	if id := cert.AuthorityKeyId; len(id) > 0 {
		name += " (key " + hex.EncodeToString(id[:min(len(id), 20)]) + ")"
	}
	return name
}
