package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// Reason is why a certificate is refused.
type Reason uint8

// The reasons. Each is said to the refused side by a TLS alert of its own.
const (
	// Absent: no certificate was presented.
	Absent Reason = iota + 1
	// Unreadable: what was presented, if anything, cannot be parsed. crypto/tls refuses this before
	// it asks us, and a listener that presents nothing to a dialler as well (RFC 8446, 4.4.2.4).
	Unreadable
	// AnotherCA: it is signed by none of the CAs trusted here.
	AnotherCA
	// AnotherFarm: our CA has signed it, but for another farm.
	AnotherFarm
	// Expired: it, or its CA, has ended.
	Expired
	// NotYetValid: it, or its CA, begins later, or so our clock says.
	NotYetValid
	// NoNodeName: our CA has signed it, but it names no node.
	NoNodeName
	// Unfit: it is of our CA and names a node, and is still not made for this: a CA's certificate, or
	// one for another use, or in too long a chain.
	Unfit
	// Revoked: the farm's issuer has taken it, or its key, back.
	Revoked
)

// reasons is indexed by Reason. The alerts are those of RFC 8446, 6.2; two reasons never share one.
var reasons = [...]struct {
	alert  tls.AlertError
	text   string
	advice string
}{
	Absent: {116, "absent",
		"whatever this is runs without certificates: a node needs ca.crt, node.crt and node.key in PEERSTATE_CERT_DIR"},
	Unreadable: {50, "unreadable",
		"whatever this is presents no certificate of a farm: a node needs ca.crt, node.crt and node.key in PEERSTATE_CERT_DIR"},
	AnotherCA: {48, "another CA",
		"all nodes of a farm need certificates from one CA directory: compare \"peerstate cert status\" on both machines"},
	AnotherFarm: {49, "another farm",
		"all nodes of a farm need certificates with one farm's name: compare \"peerstate cert status\" on both machines"},
	Expired: {45, "expired",
		"issue a new one with \"peerstate cert issue\", and see that both machines' clocks are right"},
	NotYetValid: {46, "not yet valid",
		"see that the clocks and time zones of both machines are right"},
	NoNodeName: {43, "no node name",
		"issue one for this node with \"peerstate cert issue\""},
	Unfit: {42, "unfit",
		"issue one for this node with \"peerstate cert issue\""},
	Revoked: {44, "revoked",
		"it was cut off with \"peerstate cert revoke\"; \"peerstate cert unrevoke\" on the issuer takes that back, and " +
			"\"peerstate join\" with a new token brings the node in with a new key"},
}

func (r Reason) known() bool { return r > 0 && int(r) < len(reasons) }

// String is the reason in one or two words, the same on both sides.
func (r Reason) String() string {
	if !r.known() {
		return "unknown reason"
	}
	return reasons[r].text
}

// Advice is what an operator can do about it, in words that fit on either side.
func (r Reason) Advice() string {
	if !r.known() {
		return ""
	}
	return reasons[r].advice
}

// Alert is the TLS alert that tells the other side. QUIC adds 0x100 to it (RFC 9001, 4.8).
func (r Reason) Alert() tls.AlertError {
	if !r.known() {
		return 42 // bad_certificate
	}
	return reasons[r].alert
}

// ReasonOfAlert is the reverse of [Reason.Alert], for the side that was refused. With quic-go, the alert
// is the low byte of the ErrorCode of a remote quic.TransportError that IsCryptoError. It is false for
// alerts that are not about certificates.
func ReasonOfAlert(alert uint8) (Reason, bool) {
	for i := range reasons {
		if r := Reason(i); r.known() && uint8(reasons[r].alert) == alert {
			return r, true
		}
	}
	return 0, false
}

// Refusal is the error for a peer that does not get in. It wraps the alert of its reason, which crypto/tls
// sends in its place when it speaks for QUIC; the detail stays here.
type Refusal struct {
	Reason Reason
	Detail string // one sentence about this certificate; made safe to log, whatever is in it
}

// Error is the reason and the detail, in one line.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return r.Reason.String()
	}
	return r.Reason.String() + ": " + r.Detail
}

// Unwrap gives the alert of the reason.
func (r *Refusal) Unwrap() error { return r.Reason.Alert() }

// RefusalOf finds out whether a failed handshake or a lost link (the error of quic-go's Dial, or the
// cause of its connection's context) means that this side refused the other's certificate, and why. It
// knows those cases, too, in which crypto/tls refuses without asking us. Errors of the other side have
// no alert in them as an error, and give false: see [ReasonOfAlert].
func RefusalOf(err error) (*Refusal, bool) {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r, true
	}
	alert, ok := errors.AsType[tls.AlertError](err)
	if !ok {
		return nil, false
	}
	switch alert {
	case Absent.Alert():
		return &Refusal{Absent, "no certificate was presented"}, true
	case Unreadable.Alert():
		return &Refusal{Unreadable, "no certificate was presented that can be read"}, true
	case Unfit.Alert(), NoNodeName.Alert(): // a kind or size of key that crypto/tls does not take
		return &Refusal{Unfit, clean(err.Error())}, true
	default:
		return nil, false
	}
}

func refuse(r Reason, format string, a ...any) *Refusal {
	return &Refusal{r, fmt.Sprintf(format, a...)}
}
