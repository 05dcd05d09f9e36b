package certs

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Wrong requests to join that are looked into: so many at once, and so many a second. More of them learn
	// nothing. Whoever has a right one is served whatever others try.
	triesAtOnce    = 20
	triesPerSecond = 5
	// maxWrong proofs end an invitation. To come so far one must know its id, so somebody plays with the
	// token or between the two ends.
	maxWrong = 100
)

// JoinRefusal is why a node was not admitted, in words for it.
type JoinRefusal struct{ Reason string }

// Error is the reason.
func (r *JoinRefusal) Error() string { return r.Reason }

// The reasons for which a node is not admitted, but for those about its request itself.
var (
	ErrTooManyTries = &JoinRefusal{"too many wrong requests to join come in; try again later"}
	ErrNotInvited   = &JoinRefusal{"this invitation is not known here: a newer one for the same name has replaced it, it ended long ago, " +
		"or another farm's issuer has made it; ask for a new one"}
	ErrWrongSecret       = &JoinRefusal{"the proof of the invitation is wrong; ask for a new one"}
	ErrInvitationExpired = &JoinRefusal{"the invitation has ended; ask for a new one"}
	ErrInvitationUsed    = &JoinRefusal{"the invitation was used already; if it was not by you, revoke that node; ask for a new one"}
	ErrKnownKey          = &JoinRefusal{"the key was certified before; a new node needs a new one"}
)

// JoinTLS is the configuration in which the issuer's node, whose snapshot s is, listens for nodes that are
// invited. They have no certificates yet, so whoever comes gets in: serve nothing there but [Issuer.Admit],
// and only while [Issuer.Inviting].
func (i *Issuer) JoinTLS(s *Snapshot) *tls.Config {
	// With the CAs: the new node has only the hash of them.
	cert := s.cert
	cert.Certificate = slices.Clone(cert.Certificate)
	for _, ca := range s.trust.cas {
		cert.Certificate = append(cert.Certificate, ca.Raw)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{JoinALPN},
		Certificates:           []tls.Certificate{cert},
		SessionTicketsDisabled: true,
	}
}

// Admit answers a request to join that came over a connection with the state cs: a certificate, and what
// the new node needs to know (see [Join.Install]). Errors for the other side are [*JoinRefusal]; what
// else goes wrong is the issuer's matter.
func (i *Issuer) Admit(request []byte, cs tls.ConnectionState, now time.Time) (reply []byte, peer Peer, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, Peer{}, err
	}
	v, csr, err := i.invited(request, cs)
	if err != nil {
		if _, ok := errors.AsType[*JoinRefusal](err); ok && !i.tries.AllowN(now, 1) {
			err = ErrTooManyTries
		}
		return nil, Peer{}, err
	}
	key, err := i.ca.trust.requestedKey(csr)
	if err != nil {
		return nil, Peer{}, &JoinRefusal{"the request to join: " + err.Error()}
	}
	cert, peer, err := i.admit(v, key, now)
	if err != nil {
		return nil, Peer{}, err
	}
	reply, err = i.joinReply(cert)
	return reply, peer, err
}

// invited finds the invitation that the request proves.
func (i *Issuer) invited(request []byte, cs tls.ConnectionState) (v *invitation, csr []byte, err error) {
	var w joinRequest
	if err := decode("a request to join", request, MaxJoinRequest, &w); err != nil {
		return nil, nil, &JoinRefusal{err.Error()}
	}
	if v = i.invitations.byID(hex.EncodeToString(w.ID)); v == nil {
		return nil, nil, ErrNotInvited
	}
	key, err := hex.DecodeString(v.Proof)
	if err != nil {
		return nil, nil, fmt.Errorf("the invitation of %q has been damaged", v.Node)
	}
	proof, err := joinProof(key, w.CSR, cs)
	if err != nil {
		return nil, nil, err
	}
	if hmac.Equal(proof, w.Proof) {
		return v, w.CSR, nil
	}
	if v.wrong++; v.wrong >= maxWrong {
		less := slices.DeleteFunc(slices.Clone(i.invitations.list), func(o *invitation) bool { return o == v })
		if err := i.invitations.save(less); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, ErrWrongSecret
}

// admit gives the invited node's certificate, the same again if the key is the same.
func (i *Issuer) admit(v *invitation, key *ecdsa.PublicKey, now time.Time) (*x509.Certificate, Peer, error) {
	sum, err := keyFingerprint(key)
	if err != nil {
		return nil, Peer{}, err
	}
	if err := i.issued.refresh(); err != nil {
		return nil, Peer{}, err
	}
	known, certified := i.issued.withKey(sum)
	switch {
	case v.ended(now):
		return nil, Peer{}, ErrInvitationExpired
	case v.Used != "" && v.Used != sum:
		return nil, Peer{}, ErrInvitationUsed
	case v.Used == "" && (certified || i.saidRevoked(sum)):
		return nil, Peer{}, ErrKnownKey
	case certified && known.node != v.Node:
		return nil, Peer{}, ErrKnownKey
	case certified:
		// The answer was lost. That certificate may have been revoked since, or its CA replaced.
		peer, err := i.ca.trust.verify([]*x509.Certificate{known.cert}, now, x509.ExtKeyUsageClientAuth)
		if err != nil {
			return nil, Peer{}, ErrInvitationUsed
		}
		return known.cert, peer, nil
	}
	if v.Used == "" {
		// First this: a crash before the certificate is recorded leaves an invitation for this key alone.
		used := *v
		used.Used = sum
		list := slices.Clone(i.invitations.list)
		list[slices.Index(list, v)] = &used
		if err := i.invitations.save(list); err != nil {
			return nil, Peer{}, err
		}
	}
	return i.ca.certify(i.issued, v.Node, key, i.life, now)
}

func (i *Issuer) joinReply(cert *x509.Certificate) ([]byte, error) {
	w := joinReply{Certificate: cert.Raw}
	if i.ca.document != nil {
		w.Document = i.ca.document.Bytes()
	} else {
		for _, ca := range i.ca.trust.cas {
			w.CAs = append(w.CAs, ca.Raw)
		}
	}
	data, err := encoding.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode a reply to a request to join: %w", err)
	}
	return data, nil
}

func newTries() *rate.Limiter { return rate.NewLimiter(triesPerSecond, triesAtOnce) }
