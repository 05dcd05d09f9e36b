package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Identity is what a node's certificate says about its holder.
type Identity struct {
	Farm string
	Node string
}

// URI is the form in which an identity stands in a certificate: spiffe://FARM/node/NODE, the only URI
// among its alternative names. (The scheme is that of SPIFFE IDs; no other part of SPIFFE is used.)
func (id Identity) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.Farm, Path: "/node/" + id.Node}
}

// farmURI marks a CA certificate as that of a farm.
func farmURI(farm string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: farm}
}

const maxName = 63

// ValidName says what is wrong with the name of a node, or nil. Names are 1 to 63 lower-case letters,
// digits, '-' and '.', and both ends of each part between dots are a letter or a digit. They appear in
// certificates, file names, logs and labels of metrics, so there is no escaping to get wrong anywhere.
func ValidName(name string) error {
	switch {
	case name == "":
		return errors.New("a name cannot be empty")
	case len(name) > maxName:
		return fmt.Errorf("name %q is too long: %d characters, at most %d are allowed", clean(name), len(name), maxName)
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
		case r >= 'A' && r <= 'Z':
			return fmt.Errorf("name %q has capital letters: only a-z, 0-9, '-' and '.' are allowed", name)
		default:
			return fmt.Errorf("name %q has the character %q: only a-z, 0-9, '-' and '.' are allowed", name, r)
		}
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' {
			return fmt.Errorf("name %q must begin and end with a letter or a digit, and so must each part between dots", name)
		}
	}
	return nil
}

// ValidFarm says what is wrong with the name of a farm, or nil. It is a name as in [ValidName] that is
// not an IP address: the CA is limited to its farm by a name constraint, and such constraints are not
// defined for addresses (RFC 5280, 4.2.1.10).
func ValidFarm(name string) error {
	if err := ValidName(name); err != nil {
		return err
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("the farm's name %q must not be an IP address: take a word, such as \"farm\"", name)
	}
	return nil
}

// identityOf reads the identity in a node's certificate. The URI must be exactly the one that
// Identity.URI makes, so that no two ways of writing a name pass for one node.
func identityOf(cert *x509.Certificate) (Identity, error) {
	u, err := onlyURI(cert)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{Farm: u.Host, Node: strings.TrimPrefix(u.Path, "/node/")}
	if ValidFarm(id.Farm) != nil || ValidName(id.Node) != nil || u.String() != id.URI().String() {
		return Identity{}, fmt.Errorf("it is for %q, which is not spiffe://FARM/node/NAME", clean(u.String()))
	}
	return id, nil
}

// farmOf reads the farm's name in a CA certificate.
func farmOf(cert *x509.Certificate) (string, error) {
	u, err := onlyURI(cert)
	if err != nil {
		return "", err
	}
	if ValidFarm(u.Host) != nil || u.String() != farmURI(u.Host).String() {
		return "", fmt.Errorf("it is for %q, which is not spiffe://FARM", clean(u.String()))
	}
	return u.Host, nil
}

func onlyURI(cert *x509.Certificate) (*url.URL, error) {
	switch len(cert.URIs) {
	case 0:
		return nil, errors.New("it has no URI among its names")
	case 1:
		return cert.URIs[0], nil
	default:
		return nil, fmt.Errorf("it has %d URIs among its names instead of one", len(cert.URIs))
	}
}

// clean makes text from a stranger's certificate fit for one line of a log.
func clean(s string) string {
	const most = 120
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}
