package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A session's key begins with the application's id, "/LM/W3SVC/1/ROOT" and a hash in brackets. Where one application has
// another site number on each web server, or is written in another case, its visitors have another key on each. An alias
// says that two such ids are one application: what comes under the one on its left is kept under the one on its right.

// Aliases say which application ids are one application. They never change, and are safe for concurrent use. Nil are none.
type Aliases struct {
	whole  map[string]string // by what stands before the session id, in full
	any    map[string]string // by the same without its hash: whatever that is
	text   string            // in a form that is the same for the same aliases
	digest string
}

// ParseAliases reads "A=B,C=D": application ids, as they stand in keys before the session id, and on the right the ones
// they are kept under. With its hash an id means itself only. Without, it means the application whatever its hash is; on the right
// it is kept under the hash that .NET Framework computes today, the SHA-256 of the id, and so are those on the right
// that come with another hash. A leading slash is left out, percent-encoding is decoded (a comma in an id is %2c).
//
// The error completes "it should be".
func ParseAliases(text string) (*Aliases, error) {
	a := &Aliases{whole: map[string]string{}, any: map[string]string{}}
	var rights []string
	for _, pair := range splitOutside(text, ',') {
		sides := splitOutside(pair, '=')
		if len(sides) != 2 {
			return nil, fmt.Errorf("pairs of application ids with commas between, such as /LM/W3SVC/7/ROOT=/LM/W3SVC/1/ROOT, and %q is none", pair)
		}
		from, err := applicationID(sides[0])
		if err != nil {
			return nil, err
		}
		to, err := applicationID(sides[1])
		if err != nil {
			return nil, err
		}
		if err := a.add(from, to); err != nil {
			return nil, err
		}
		rights = append(rights, to)
	}
	if err := a.check(rights); err != nil {
		return nil, err
	}
	a.describe()
	return a, nil
}

// splitOutside splits at a separator that does not stand in brackets: a hash ends in '='.
func splitOutside(text string, sep byte) (parts []string) {
	depth, begin := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == sep && depth == 0:
			parts, begin = append(parts, text[begin:i]), i+1
		}
	}
	return append(parts, text[begin:])
}

// applicationID reads one side of an alias.
func applicationID(side string) (string, error) {
	// A plus is one here: people copy the hash as it is shown. On the wire it would be a space.
	id, why := decodeKey(nil, []byte(strings.ReplaceAll(strings.TrimSpace(side), "+", "%2b")))
	if why != sound {
		return "", fmt.Errorf("application ids without control characters and with whole %%-codes, and %q is none", side)
	}
	if bytes.HasSuffix(id, []byte("/")) {
		return "", fmt.Errorf("application ids without the slash that stands before a session id, and %q ends in one", side)
	}
	return string(id), nil
}

func (a *Aliases) add(from, to string) error {
	if from == to {
		return fmt.Errorf("two different application ids to each alias, and %q stands on both sides", "/"+from)
	}
	name, hash := splitHash(from)
	table := a.whole
	if hash == "" {
		table = a.any
	}
	if _, twice := table[from]; twice {
		return fmt.Errorf("one alias for each application id, and %q has two", "/"+from)
	}
	if _, covered := a.any[name]; covered && hash != "" {
		return fmt.Errorf("one alias for each application id, and %q is covered by that for %q, too", "/"+from, "/"+name)
	}
	target := to
	if _, hash := splitHash(to); hash == "" {
		target = to + "(" + hashOf(to) + ")"
	}
	table[from] = target
	return nil
}

// check finds chains and circles: what stands on the right must not be on the left of another alias.
func (a *Aliases) check(rights []string) error {
	for from := range a.whole {
		if name, _ := splitHash(from); a.any[name] != "" {
			return fmt.Errorf("one alias for each application id, and %q is covered by that for %q, too", "/"+from, "/"+name)
		}
	}
	for _, to := range rights {
		name, hash := splitHash(to)
		left := a.any[name] != "" || a.whole[to] != ""
		for from := range a.whole {
			fromName, _ := splitHash(from)
			left = left || hash == "" && fromName == name
		}
		if left {
			return fmt.Errorf("aliases that name, on the right, where sessions are kept in the end, and %q stands on the left of another one: "+
				"give all ids of one application the same right side", "/"+to)
		}
	}
	for _, to := range rights {
		if _, hash := splitHash(to); hash == "" { // joined, whatever hash it comes with
			a.any[to] = to + "(" + hashOf(to) + ")"
		}
	}
	return nil
}

// describe writes the aliases down in a form that does not depend on their order.
func (a *Aliases) describe() {
	var all []string
	for _, table := range []map[string]string{a.whole, a.any} {
		for from, to := range table {
			all = append(all, "/"+from+"=/"+to)
		}
	}
	slices.Sort(all)
	a.text = strings.Join(all, ",")
	sum := sha256.Sum256([]byte(a.text))
	a.digest = hex.EncodeToString(sum[:8])
}

// Digest is the same on two nodes if their aliases are; "" for none.
func (a *Aliases) Digest() string {
	if a == nil {
		return ""
	}
	return a.digest
}

// Apply gives the key under which a session is kept. It may write over key, whose memory is used again.
func (a *Aliases) Apply(key []byte) []byte {
	if a == nil {
		return key
	}
	n := bytes.LastIndexByte(key, '/')
	if n < 0 {
		return key
	}
	to, ok := a.whole[string(key[:n])]
	if !ok {
		to, ok = a.any[string(key[:bracket(key[:n])])]
	}
	if !ok {
		return key
	}
	whole := len(to) + len(key) - n
	was := key
	if whole > len(key) {
		key = slices.Grow(key, whole-len(key))
	}
	key = key[:whole]
	copy(key[len(to):], was[n:])
	copy(key, to)
	return key
}

// bracket is where the hash at the end of an application id begins; its length, if there is none.
func bracket[T string | []byte](id T) int {
	if len(id) == 0 || id[len(id)-1] != ')' {
		return len(id)
	}
	for i := len(id) - 2; i >= 0; i-- {
		switch c := id[i]; {
		case c == '(' && i < len(id)-2:
			return i
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/', c == '=', c == '-', c == '_':
		default:
			return len(id)
		}
	}
	return len(id)
}

// splitHash parts an application's id from its hash, if it has one.
func splitHash(id string) (name, hash string) {
	n := bracket(id)
	if n == len(id) {
		return id, ""
	}
	return id[:n], id[n+1 : len(id)-1]
}

// hashOf is what .NET Framework 4.8 puts behind an application's id (OutOfProcSessionStateStore, s_uribase).
func hashOf(name string) string {
	sum := sha256.Sum256([]byte("/" + name))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ErrKey says that something is no key.
var ErrKey = errors.New("it is no session's key: no control characters, and whole %-codes")

// Key gives the key under which a session is kept, of one as it stands on the wire or as people write it, where a plus is a
// plus.
func (a *Aliases) Key(target string) (string, error) {
	if !strings.Contains(target, "%") {
		target = strings.ReplaceAll(target, "+", "%2b")
	}
	key, why := decodeKey(nil, []byte(target))
	if why != sound {
		return "", ErrKey
	}
	return string(a.Apply(key)), nil
}
