package certs

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// issuedDir holds a copy of each certificate that was ever issued from this CA directory, by hand or by the
// issuer, a file each, so that several programs can write at once. It tells which nodes there are, and which
// keys a name has had.
const issuedDir = "issued"

const (
	// keepIssued is how long a certificate that has ended is remembered.
	keepIssued = 30 * 24 * time.Hour
	// maxIssued bounds what one node can fill the disk with by asking for certificates again and again:
	// beyond that its oldest ones are forgotten. A revocation covers them all the same, by time.
	maxIssued = 64
)

// issuedCerts reads issuedDir. It is not safe for concurrent use.
type issuedCerts struct {
	in    caDir
	dir   string // the same, with issuedDir
	farm  string
	files map[string]issuedCert // by file name, which nothing else goes by
}

type issuedCert struct {
	cert *x509.Certificate
	node string // as the certificate says
	key  string // its fingerprint
	at   time.Time
}

func openIssued(in caDir, farm string) *issuedCerts {
	return &issuedCerts{in: in, dir: filepath.Join(in.path, issuedDir), farm: farm, files: map[string]issuedCert{}}
}

// refresh reads what other programs have added, and forgets what they have removed.
func (c *issuedCerts) refresh() error {
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		clear(c.files)
		return nil
	}
	if err != nil {
		return broken(c.dir, "let the account that runs peerstate read it", "it cannot be looked into: %w", bare(err))
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		name := e.Name()
		// A file being written, or left over from a crash while it was, begins with a dot.
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".crt") {
			continue
		}
		there[name] = true
		if _, ok := c.files[name]; ok {
			continue // they never change
		}
		read, err := c.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		c.files[name] = read
	}
	for name := range c.files {
		if !there[name] {
			delete(c.files, name)
		}
	}
	return nil
}

func (c *issuedCerts) read(name string) (issuedCert, error) {
	const away = "move it away: only the certificates that this CA has issued belong there"
	path := filepath.Join(c.dir, name)
	data, err := read(path, away)
	if err != nil {
		return issuedCert{}, err
	}
	cert, err := parseNode(path, data)
	if err != nil {
		return issuedCert{}, err
	}
	id, err := identityOf(cert)
	if err != nil {
		return issuedCert{}, broken(path, away, "it is no node's certificate: %w", err)
	}
	if id.Farm != c.farm {
		return issuedCert{}, broken(path, away, "it is of the farm %q, and this is the CA of the farm %q", id.Farm, c.farm)
	}
	return issuedCertOf(cert, id.Node), nil
}

func issuedCertOf(cert *x509.Certificate, node string) issuedCert {
	return issuedCert{cert, node, fingerprint(cert.RawSubjectPublicKeyInfo), issued(cert)}
}

func issuedName(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) + ".crt" }

// add records a certificate, before anybody gets it.
func (c *issuedCerts) add(cert *x509.Certificate, node string) error {
	if err := makePrivateDir(c.dir); err != nil {
		return broken(c.dir, "see whether you may write there: each certificate issued is recorded", "cannot make this directory: %w", bare(err))
	}
	if err := c.in.write(filepath.Join(issuedDir, issuedName(cert)), encodePEM(pemCertificate, cert.Raw)); err != nil {
		return err
	}
	c.files[issuedName(cert)] = issuedCertOf(cert, node)
	return nil
}

// remove forgets a certificate that nobody has got or that is of no use any more.
func (c *issuedCerts) remove(name string) error {
	if err := c.in.remove(filepath.Join(issuedDir, name)); err != nil {
		return err
	}
	delete(c.files, name)
	return nil
}

// prune removes what has ended long ago, and the oldest of each node that has too many.
func (c *issuedCerts) prune(now time.Time) error {
	var failed error
	byNode := map[string][]string{}
	for name, i := range c.files {
		if now.Sub(i.cert.NotAfter) > keepIssued {
			failed = errors.Join(failed, c.remove(name))
			continue
		}
		byNode[i.node] = append(byNode[i.node], name)
	}
	for _, names := range byNode {
		if len(names) <= maxIssued {
			continue
		}
		slices.SortFunc(names, func(a, b string) int { return c.files[a].at.Compare(c.files[b].at) })
		for _, name := range names[:len(names)-maxIssued] {
			failed = errors.Join(failed, c.remove(name))
		}
	}
	return failed
}

// of gives the certificates of a node, the newest first.
func (c *issuedCerts) of(node string) []issuedCert {
	var list []issuedCert
	for _, i := range c.files {
		if i.node == node {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b issuedCert) int { return b.at.Compare(a.at) })
	return list
}

// withKey finds the certificate that was issued last for a key.
func (c *issuedCerts) withKey(key string) (found issuedCert, ok bool) {
	for _, i := range c.files {
		if i.key == key && (!ok || i.at.After(found.at)) {
			found, ok = i, true
		}
	}
	return found, ok
}

// accepted gives the names of nodes that have a certificate which peers accept, sorted. Signatures are not
// checked once more: whoever can write here can read the CA's key.
func (c *issuedCerts) accepted(trust *bundle, now time.Time) []string {
	names := map[string]bool{}
	for _, i := range c.files {
		if !now.After(i.cert.NotAfter) && trust.byKeyID(hex.EncodeToString(i.cert.AuthorityKeyId)) != nil &&
			trust.revoked.refuses(i.cert, i.node) == nil {
			names[i.node] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
