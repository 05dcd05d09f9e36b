package certs

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Limits on what is asked and answered. A confirmation has about 700 bytes.
const (
	MinNonce        = 16
	MaxNonce        = 64
	MaxConfirmation = 16 << 10
)

// confirmText begins what is signed: farm, number and nonce follow.
const confirmText = "peerstate confirm 1\n"

// Confirmation is a node's word, signed with its certificate's key, for which document it has in force.
// The issuer waits for those of all nodes before it goes on with replacing the CA.
type Confirmation struct {
	Peer          // its certificate, verified
	Number uint64 // of the document; 0: it has none
}

type confirmationWire struct {
	Certificate []byte `cbor:"1,keyasint"` // DER
	Number      uint64 `cbor:"2,keyasint,omitempty"`
	Signature   []byte `cbor:"3,keyasint"`
}

func (w confirmationWire) text(farm string, nonce []byte) []byte {
	return append([]byte(confirmText+farm+"\n"+strconv.FormatUint(w.Number, 10)+"\n"), nonce...)
}

func validNonce(nonce []byte) error {
	if len(nonce) < MinNonce || len(nonce) > MaxNonce {
		return fmt.Errorf("a nonce has %d to %d bytes, and this has %d", MinNonce, MaxNonce, len(nonce))
	}
	return nil
}

// Confirm proves to whoever chose the nonce which document this node has in force, and with which
// certificate it runs. It may go there through other nodes.
func (s *Snapshot) Confirm(nonce []byte) ([]byte, error) {
	if err := validNonce(nonce); err != nil {
		return nil, err
	}
	if s.unwritten {
		return nil, fmt.Errorf("document %d is not confirmed: it could not be written here, so that a restart would undo it", s.DocumentNumber())
	}
	key, ok := s.cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the node's key cannot sign a confirmation")
	}
	w := confirmationWire{Certificate: s.cert.Leaf.Raw, Number: s.DocumentNumber()}
	var err error
	if w.Signature, err = signText(key, w.text(s.self.Farm, nonce)); err != nil {
		return nil, err
	}
	data, err := encoding.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode a confirmation: %w", err)
	}
	return data, nil
}

// Confirmed reads a confirmation that was made for the nonce. Its certificate is verified as that of a peer
// is, at this moment; an error about that is a [*Refusal].
func (s *Snapshot) Confirmed(data, nonce []byte) (Confirmation, error) {
	if err := validNonce(nonce); err != nil {
		return Confirmation{}, err
	}
	var w confirmationWire
	if err := decode("a confirmation", data, MaxConfirmation, &w); err != nil {
		return Confirmation{}, err
	}
	peer, key, err := s.trust.verifySigner(w.Certificate, time.Now())
	if err != nil {
		return Confirmation{}, err
	}
	if !signedText(key, w.text(s.self.Farm, nonce), w.Signature) {
		return Confirmation{}, fmt.Errorf("the confirmation of %q is not signed with its key for this question", peer.Node)
	}
	return Confirmation{peer, w.Number}, nil
}
