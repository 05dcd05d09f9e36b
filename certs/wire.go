package certs

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Documents, requests and confirmations are CBOR (RFC 8949), maps with small integers as keys, written
// deterministically. Keys that a reader does not know are skipped, so that a later version may add some;
// what could be read in two ways (a key twice, an indefinite length) is refused.
var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, MaxNestedLevels: 5, MaxArrayElements: 4096, MaxMapPairs: 64,
	}.DecMode())
)

// must is for options that are constants: an error is a mistake in this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// decode reads all of data; what says in errors what it should have been. The library's errors show types
// and positions, none of the contents.
func decode(what string, data []byte, most int, v any) error {
	if len(data) > most {
		return fmt.Errorf("%s has at most %d bytes, and this has %d", what, most, len(data))
	}
	if err := decoding.Unmarshal(data, v); err != nil {
		return fmt.Errorf("it is not %s: %s", what, clean(err.Error()))
	}
	return nil
}

// signText signs a text whose first line says what it is, so that a signature of one kind never passes
// for one of another. No such text is a certificate, a request for one (both are DER), or what is signed in a
// handshake (RFC 8446, 4.4.3).
func signText(key *ecdsa.PrivateKey, text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign with a key: %w", err)
	}
	return signature, nil
}

func signedText(public *ecdsa.PublicKey, text, signature []byte) bool {
	digest := sha256.Sum256(text)
	return ecdsa.VerifyASN1(public, digest[:], signature)
}

// fingerprint names a public key: the SHA-256 of its SubjectPublicKeyInfo.
func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// Times are written in nanoseconds since 1970, and none as 0.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanoseconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
