package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"time"
)

// How long certificates last if nobody says otherwise.
const (
	DefaultCALife   = 3650 * 24 * time.Hour
	DefaultNodeLife = 730 * 24 * time.Hour // issued by hand, to be renewed by hand
)

// backdate is how long before its making a certificate begins. It lets in a machine whose clock is
// slow or, which is more common, stands right in the wrong time zone.
const backdate = 24 * time.Hour

// CA signs a farm's certificates. It is safe for concurrent use. What is at which stage of a rotation stands
// in cadir.go.
type CA struct {
	dir      string
	key      *ecdsa.PrivateKey // what issues certificates now; nil: that key is not here
	cert     *x509.Certificate // the one in trust that belongs to it
	document *Document         // the last one signed; nil: none yet
	// trust is what each node gets as its ca.crt, and who is revoked.
	trust *bundle
	// keys are all that are here of CAs in trust, and sign documents.
	keys []*ecdsa.PrivateKey
}

// CreateCA makes a farm's CA in dir, which is created if need be: a new key and a certificate for it that
// is valid from a day before now until life after it. It fails if dir holds a CA already.
func CreateCA(dir, farm string, life time.Duration, now time.Time) (*CA, error) {
	if err := ValidFarm(farm); err != nil {
		return nil, err
	}
	if life < time.Second {
		return nil, fmt.Errorf("a CA that lasts %v cannot be of use", life)
	}
	if err := mustBeFree(dir, "name another directory, or go on with the CA that is there", CACert, CAKey); err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := selfSign(key, farm, life, now)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the CA of the farm %q: %w", farm, err)
	}
	ca := &CA{dir: dir, key: key, cert: cert, trust: &bundle{pool: x509.NewCertPool()}, keys: []*ecdsa.PrivateKey{key}}
	if err := ca.trust.add(cert); err != nil {
		return nil, fmt.Errorf("the certificate just made for the CA of the farm %q: %w", farm, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	// The certificate last: an interrupted run leaves a key that has signed nothing.
	if err := writeNew(dir, newFile{CAKey, keyPEM}, newFile{CACert, ca.trust.pem()}); err != nil {
		return nil, err
	}
	return ca, nil
}

// selfSign makes a CA's certificate: for nodes of the farm, and for nothing else.
func selfSign(key *ecdsa.PrivateKey, farm string, life time.Duration, now time.Time) (*x509.Certificate, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "peerstate CA " + farm},
		URIs:                  []*url.URL{farmURI(farm)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		// Only names of this farm, and none that a browser looks at: an empty name stands for all.
		PermittedDNSDomainsCritical: true,
		PermittedURIDomains:         []string{farm},
		ExcludedDNSDomains:          []string{""},
		ExcludedIPRanges: []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		},
	}
	return sign(template, &key.PublicKey, template, key, now)
}

// LoadCA reads a farm's CA from dir, for issuing by hand, also while a sidecar that runs with it as the
// farm's issuer is at work. When ca.crt holds several certificates, the CA is the one that the key belongs
// to; while it is being replaced, the one whose turn it is. It does not look at the time: an ended CA can
// be shown, but issues nothing.
func LoadCA(dir string) (*CA, error) {
	files, err := readCA(caDir{path: dir})
	if err != nil {
		return nil, err
	}
	return files.ca()
}

// Farm is the name of the CA's farm.
func (ca *CA) Farm() string { return ca.trust.farm }

// Authority describes the certificate that the CA signs with.
func (ca *CA) Authority() Authority { return authorityOf(ca.cert, ca.trust.farm) }

// Issue makes a node's key and certificate and writes them, with the CAs to trust and the farm's document, to
// the directory out, which is created if need be. The certificate is valid from a day before now until life
// after it, but never longer than the CA: Peer.Expires says what came of it. It is recorded in the CA's
// directory. It fails if out holds certificates already.
func (ca *CA) Issue(out, node string, life time.Duration, now time.Time) (Peer, error) {
	if err := mustBeFree(out, "name another directory, or move those files away first", NodeCert, NodeKey, CACert, CAKey); err != nil {
		return Peer{}, err
	}
	key, err := newKey()
	if err != nil {
		return Peer{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Peer{}, err
	}
	record := openIssued(caDir{path: ca.dir}, ca.Farm())
	cert, peer, err := ca.certify(record, node, &key.PublicKey, life, now)
	if err != nil {
		return Peer{}, err
	}
	if err := writeNode(out, ca.trust, ca.document, keyPEM, cert); err != nil {
		return Peer{}, errors.Join(err, record.remove(issuedName(cert)))
	}
	return peer, nil
}

// certify makes a certificate for a node's public key, and records it before anybody gets it.
func (ca *CA) certify(record *issuedCerts, node string, public *ecdsa.PublicKey, life time.Duration, now time.Time) (
	*x509.Certificate, Peer, error) {
	cert, err := ca.sign(node, public, life, now)
	if err != nil {
		return nil, Peer{}, err
	}
	// Nothing leaves here that the nodes would refuse.
	peer, err := ca.trust.verify([]*x509.Certificate{cert}, now, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, Peer{}, fmt.Errorf("the certificate just issued for %q would be refused: %w", node, err)
	}
	if err := record.add(cert, node); err != nil {
		return nil, Peer{}, err
	}
	return cert, peer, nil
}

// writeNode makes a new node's directory.
func writeNode(out string, trust *bundle, d *Document, key []byte, cert *x509.Certificate) error {
	files := []newFile{{CACert, trust.pem()}, {NodeKey, key}}
	if d != nil {
		state := filepath.Join(out, StateDir)
		if err := makePrivateDir(state); err != nil {
			return broken(state, "see whether you may write there", "cannot make this directory: %w", bare(err))
		}
		files = append(files, newFile{filepath.Join(StateDir, DocumentFile), d.Bytes()})
	}
	// The certificate last: without it the directory is plainly not finished.
	return writeNew(out, append(files, newFile{NodeCert, encodePEM(pemCertificate, cert.Raw)})...)
}

// sign makes a certificate for a node's public key. All that is in it comes from here, nothing from
// whoever asks, but the key.
func (ca *CA) sign(node string, public *ecdsa.PublicKey, life time.Duration, now time.Time) (*x509.Certificate, error) {
	if err := ValidName(node); err != nil {
		return nil, err
	}
	if life < time.Second {
		return nil, fmt.Errorf("a certificate that lasts %v cannot be of use", life)
	}
	if ca.key == nil {
		return nil, broken(filepath.Join(ca.dir, caNextKey), "restore a newer copy of the CA directory, or abandon the replacement of the CA",
			"the farm changes to another CA, whose key is not here, and only that one may issue now")
	}
	if !now.Before(ca.cert.NotAfter) {
		return nil, broken(filepath.Join(ca.dir, CACert), "create a new CA with \"peerstate cert init\", and issue new certificates for all nodes",
			"the farm's CA ended on %s, and nothing that it issues is valid", stamp(ca.cert.NotAfter))
	}
	if now.Before(ca.cert.NotBefore) {
		return nil, broken(filepath.Join(ca.dir, CACert), "set the clock right",
			"the farm's CA begins on %s, and the clock of this machine says %s", stamp(ca.cert.NotBefore), stamp(now))
	}
	end := now.Add(life)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: node},
		URIs:                  []*url.URL{Identity{ca.trust.farm, node}.URI()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	cert, err := sign(template, public, ca.cert, ca.key, now)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for the node %q: %w", node, err)
	}
	return cert, nil
}

// sign completes the template with a serial number, signs it, and gives it as others will read it.
func sign(template *x509.Certificate, public *ecdsa.PublicKey, issuer *x509.Certificate, key *ecdsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial(now)
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial makes a serial number that begins with the time of issue, in nanoseconds since 1970 (8
// bytes), and ends with 8 random bytes. So serials of one CA rise with time, and a certificate can be
// told to be older than an event whatever its dates say. At 16 bytes with the first bit clear (until the
// year 2262) it is within what RFC 5280, 4.1.2.2, allows.
func newSerial(now time.Time) (*big.Int, error) {
	b := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	b = append(b, make([]byte, 8)...)
	if _, err := rand.Read(b[8:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return new(big.Int).SetBytes(b), nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}
