package certs

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Token is an invitation as the operator carries it to the new node: where the issuer is, how to know it
// for certain, and a secret. Whoever has it can join under the name in it, once, so it is shown only by
// [Token.Text].
type Token struct {
	Farm    string
	Node    string    // the name that the new node gets
	Issuer  string    // the name of the node to be asked
	Addrs   []string  // where that one may be reached: host:port
	CA      []string  // the CA certificates that it may show: SHA-256 of their DER, hexadecimal
	Expires time.Time // to the second

	secret []byte
}

// A token is text for one line: a word that says what it is, and in base64url (RFC 4648, 5) the length of the
// contents (2 bytes), the contents, and the first bytes of the SHA-256 of both. So a token that was cut off,
// or mistyped, is known as such before anything in it is believed.
const (
	tokenWord     = "peerstate1-"
	tokenHead     = 3 // characters that the length is in
	tokenChecksum = 4 // bytes
	secretSize    = 32

	maxToken = 8 << 10 // characters
	maxAddrs = 16
	maxAddr  = 260 // a host name has at most 253
)

type tokenWire struct {
	Farm    string   `cbor:"1,keyasint"`
	Node    string   `cbor:"2,keyasint"`
	Issuer  string   `cbor:"3,keyasint"`
	Addrs   []string `cbor:"4,keyasint"`
	CA      [][]byte `cbor:"5,keyasint"`
	Secret  []byte   `cbor:"6,keyasint"`
	Expires int64    `cbor:"7,keyasint"` // seconds since 1970
}

var tokenText = base64.RawURLEncoding.Strict()

// ParseToken reads what [Issuer.Invite] made. White space in it, also line breaks, does not matter. An
// invitation that has ended is an error; others say whether it is cut off or mistyped. No error shows
// any of it.
func ParseToken(s string) (*Token, error) {
	t, err := parseToken(s)
	if err != nil {
		return nil, err
	}
	if now := time.Now(); !now.Before(t.Expires) {
		return nil, fmt.Errorf("this invitation of %q ended on %s, and it is now %s; see that the clock is right, "+
			"or make another with \"peerstate cert token %s\" on %s", t.Node, stamp(t.Expires), stamp(now), t.Node, t.Issuer)
	}
	return t, nil
}

func parseToken(s string) (*Token, error) {
	contents, err := unwrapToken(s)
	if err != nil {
		return nil, err
	}
	var w tokenWire
	if err := decode("an invitation", contents, maxToken, &w); err != nil {
		return nil, err
	}
	t := &Token{Farm: w.Farm, Node: w.Node, Issuer: w.Issuer, Addrs: w.Addrs, Expires: time.Unix(w.Expires, 0).UTC(), secret: w.Secret}
	for _, sum := range w.CA {
		t.CA = append(t.CA, hex.EncodeToString(sum))
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("the invitation makes no sense: %w", err)
	}
	return t, nil
}

// unwrapToken gives the contents if all of them are there.
func unwrapToken(s string) ([]byte, error) {
	if len(s) > 4*maxToken {
		return nil, fmt.Errorf("an invitation has at most %d characters, and this has %d", maxToken, len(s))
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '\ufeff' || r == '\u200b' { // the last two come with copying from some programs
			return -1
		}
		return r
	}, s)
	text, ok := strings.CutPrefix(s, tokenWord)
	switch {
	case !ok:
		return nil, fmt.Errorf("this is no invitation: it does not begin with %q; "+
			"\"peerstate cert token\" on the farm's issuer makes one", tokenWord)
	case len(text) > maxToken:
		return nil, fmt.Errorf("an invitation has at most %d characters, and this has %d", maxToken, len(text))
	}
	for i, r := range text {
		if r > unicode.MaxASCII || !strings.ContainsRune("-_", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return nil, fmt.Errorf("character %d of the invitation does not belong there; copy it again, all of it and nothing else",
				len(tokenWord)+i+1)
		}
	}
	if len(text) < tokenHead {
		return nil, errors.New("the invitation is cut off: nothing of what it says is there; copy all of it")
	}
	head, err := base64.RawURLEncoding.DecodeString(text[:tokenHead])
	if err != nil {
		return nil, errors.New("the invitation cannot be read; copy it again")
	}
	size := int(binary.BigEndian.Uint16(head))
	whole := tokenText.EncodedLen(2 + size + tokenChecksum)
	switch {
	case whole > maxToken:
		return nil, errors.New("the invitation cannot be read; copy it again")
	case len(text) < whole:
		return nil, fmt.Errorf("the invitation is cut off: %d of %d characters are there; copy all of it",
			len(tokenWord)+len(text), len(tokenWord)+whole)
	case len(text) > whole:
		return nil, fmt.Errorf("the invitation has %d characters where there should be %d; copy it again, all of it and nothing else",
			len(tokenWord)+len(text), len(tokenWord)+whole)
	}
	data, err := tokenText.DecodeString(text)
	if err != nil || !bytes.Equal(tokenSum(data[:2+size]), data[2+size:]) {
		return nil, errors.New("a character in the invitation is wrong; copy it again instead of typing it")
	}
	return data[2 : 2+size], nil
}

func tokenSum(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:tokenChecksum]
}

func (t *Token) check() error {
	if err := ValidFarm(t.Farm); err != nil {
		return fmt.Errorf("the farm: %w", err)
	}
	if err := ValidName(t.Node); err != nil {
		return fmt.Errorf("the new node: %w", err)
	}
	if err := ValidName(t.Issuer); err != nil {
		return fmt.Errorf("the issuer's node: %w", err)
	}
	if t.Node == t.Issuer {
		return fmt.Errorf("%q is the issuer's own node, which is in the farm", t.Node)
	}
	if len(t.CA) == 0 || len(t.CA) > maxCAs {
		return fmt.Errorf("it names %d CAs; 1 to %d are possible", len(t.CA), maxCAs)
	}
	for _, sum := range t.CA {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != sha256.Size {
			return errors.New("it names a CA by what is no SHA-256")
		}
	}
	if len(t.secret) != secretSize {
		return fmt.Errorf("its secret has %d bytes and not %d", len(t.secret), secretSize)
	}
	return validAddrs(t.Addrs)
}

func validAddrs(addrs []string) error {
	if len(addrs) == 0 || len(addrs) > maxAddrs {
		return fmt.Errorf("there are %d addresses of the issuer; 1 to %d are possible", len(addrs), maxAddrs)
	}
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || len(addr) > maxAddr || clean(addr) != addr && len(addr) <= 120 {
			return fmt.Errorf("%q is no address such as 192.0.2.10:42425", clean(addr))
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q has no port such as 42425", clean(addr))
		}
		if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%q is no address such as 192.0.2.10:42425", clean(addr))
		}
	}
	return nil
}

// Text is the whole invitation, with its secret: for the operator's eyes only, never for a log.
func (t *Token) Text() (string, error) {
	w := tokenWire{t.Farm, t.Node, t.Issuer, t.Addrs, nil, t.secret, t.Expires.Unix()}
	for _, sum := range t.CA {
		b, err := hex.DecodeString(sum)
		if err != nil {
			return "", errors.New("the invitation names a CA by what is no hexadecimal number")
		}
		w.CA = append(w.CA, b)
	}
	contents, err := encoding.Marshal(w)
	if err != nil {
		return "", errors.New("the invitation cannot be encoded")
	}
	data := append(binary.BigEndian.AppendUint16(nil, uint16(len(contents))), contents...)
	text := tokenText.EncodeToString(append(data, tokenSum(data)...))
	if len(text) > maxToken {
		return "", fmt.Errorf("the invitation would have %d characters; name fewer addresses", len(text))
	}
	return tokenWord + text, nil
}

// String is for messages: whom it invites, and nothing secret.
func (t *Token) String() string {
	return fmt.Sprintf("the invitation of %q into the farm %q, until %s", t.Node, t.Farm, stamp(t.Expires))
}

// GoString keeps the secret from %#v, too.
func (t *Token) GoString() string { return t.String() }
