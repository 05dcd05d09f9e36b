package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Authority is one CA certificate, for display.
type Authority struct {
	Name    string // its common name, such as "peerstate CA farm"
	Farm    string
	Serial  string // hexadecimal
	KeyID   string // hexadecimal; tells two CAs of one name apart
	From    time.Time
	Expires time.Time
}

// bundle is what ca.crt holds: the CA certificates of one farm, all of them trusted. There is more than
// one while a CA is being replaced. A bundle never changes.
type bundle struct {
	farm string
	cas  []*x509.Certificate
	pool *x509.CertPool // the same, as crypto/x509 wants it
	// revoked is who is refused all the same; ca.crt says nothing about that, a document does.
	revoked *revoked
}

// maxCAs is far more than a rotation needs; it bounds what one handshake can cost.
const maxCAs = 8

// parseBundle reads the contents of a ca.crt. The path is for messages only.
func parseBundle(path string, data []byte) (*bundle, error) {
	ders, err := decodePEM(path, data, pemCertificate)
	if err != nil {
		return nil, err
	}
	if len(ders) > maxCAs {
		return nil, broken(path, "take those out that are not needed any more",
			"it holds %d certificates, at most %d are allowed", len(ders), maxCAs)
	}
	b := &bundle{pool: x509.NewCertPool()}
	for i, der := range ders {
		ca, err := parseCertificate(path, der)
		if err != nil {
			return nil, err
		}
		if err := b.add(ca); err != nil {
			return nil, broken(path, "copy ca.crt again from the farm's CA directory",
				"certificate %d of %d in it is not a CA certificate of this farm: %w", i+1, len(ders), err)
		}
	}
	return b, nil
}

func (b *bundle) add(ca *x509.Certificate) error {
	switch {
	case !ca.BasicConstraintsValid || !ca.IsCA:
		return fmt.Errorf("%q may not sign certificates", clean(ca.Subject.CommonName))
	case ca.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("the key of %q may not sign certificates", clean(ca.Subject.CommonName))
	case !isP256(ca.PublicKey):
		return fmt.Errorf("the key of %q is not an ECDSA P-256 key", clean(ca.Subject.CommonName))
	}
	farm, err := farmOf(ca)
	if err != nil {
		return err
	}
	if b.farm == "" {
		b.farm = farm
	}
	if farm != b.farm {
		return fmt.Errorf("it is of the farm %q, another one of the farm %q", farm, b.farm)
	}
	if !slices.ContainsFunc(b.cas, ca.Equal) {
		b.cas = append(b.cas, ca)
		b.pool.AddCert(ca)
	}
	return nil
}

// issuerOf finds the CA that has signed the certificate, or nil. CAs that follow one another have the
// same name, so their keys decide.
func (b *bundle) issuerOf(cert *x509.Certificate) *x509.Certificate {
	for _, ca := range b.cas {
		if bytes.Equal(cert.RawIssuer, ca.RawSubject) &&
			(len(cert.AuthorityKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, ca.SubjectKeyId)) &&
			cert.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// sameCAs says whether both hold the same CA certificates, in whatever order.
func (b *bundle) sameCAs(o *bundle) bool {
	return len(b.cas) == len(o.cas) && !slices.ContainsFunc(b.cas, func(ca *x509.Certificate) bool {
		return !slices.ContainsFunc(o.cas, ca.Equal)
	})
}

// byKeyID finds a CA by what [Authority].KeyID says, or nil.
func (b *bundle) byKeyID(id string) *x509.Certificate {
	for _, ca := range b.cas {
		if hex.EncodeToString(ca.SubjectKeyId) == id {
			return ca
		}
	}
	return nil
}

// ofKey finds the CA that a key belongs to, or nil.
func (b *bundle) ofKey(key *ecdsa.PrivateKey) *x509.Certificate {
	for _, ca := range b.cas {
		if key != nil && key.PublicKey.Equal(ca.PublicKey) {
			return ca
		}
	}
	return nil
}

// only is the bundle with no other CAs than those that keep says.
func (b *bundle) only(keep func(*x509.Certificate) bool) (*bundle, error) {
	less := &bundle{pool: x509.NewCertPool(), revoked: b.revoked}
	for _, ca := range b.cas {
		if keep(ca) {
			if err := less.add(ca); err != nil {
				return nil, err
			}
		}
	}
	return less, nil
}

// pem is the bundle as ca.crt holds it.
func (b *bundle) pem() []byte {
	var data []byte
	for _, ca := range b.cas {
		data = append(data, encodePEM(pemCertificate, ca.Raw)...)
	}
	return data
}

func authorityOf(ca *x509.Certificate, farm string) Authority {
	return Authority{
		Name:    clean(ca.Subject.CommonName),
		Farm:    farm,
		Serial:  ca.SerialNumber.Text(16),
		KeyID:   hex.EncodeToString(ca.SubjectKeyId),
		From:    ca.NotBefore,
		Expires: ca.NotAfter,
	}
}

func (b *bundle) authorities() []Authority {
	var list []Authority
	for _, ca := range b.cas {
		list = append(list, authorityOf(ca, b.farm))
	}
	return list
}

func isP256(public any) bool {
	key, ok := public.(*ecdsa.PublicKey)
	return ok && key.Curve == elliptic.P256()
}
