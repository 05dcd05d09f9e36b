package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, NodeCert)
	for _, data := range []string{"first", "second, and longer", ""} {
		if err := writeWhole(path, []byte(data)); err != nil {
			t.Fatal(err)
		}
		if got := get(t, dir, NodeCert); string(got) != data {
			t.Errorf("it holds %q, want %q", got, data)
		}
	}
	// A directory in its place cannot be replaced by a file: the rename fails after all was written.
	if err := os.MkdirAll(filepath.Join(dir, NodeKey, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := writeWhole(filepath.Join(dir, NodeKey), []byte("data"))
	if err == nil || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("error %v, want one that says what failed", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("temporary files are left: %v, %v", entries, err)
	}
}

func TestOfSeveralFilesNoneStaysIfOneFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, NodeKey, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := writeNew(dir, newFile{CACert, []byte("a")}, newFile{NodeKey, []byte("b")}, newFile{NodeCert, []byte("c")})
	if err == nil {
		t.Fatal("no error")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestOtherFilesBesideTheCertificatesAreWrittenTheSameWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for range 2 { // the second time they exist
		if err := MakeDir(dir); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(filepath.Join(dir, "nodes"), []byte("web1")); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "nodes")} {
		if who, err := Exposure(path); err != nil || who != "" {
			t.Errorf("%s: %q, %v", path, who, err)
		}
	}
}

func TestADirectoryThatCannotBeMadeIsSaidSo(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "file", nil)
	_, err := CreateCA(filepath.Join(dir, "file", "ca"), "farm", DefaultCALife, noon)
	if _, ok := errors.AsType[*FileError](err); !ok {
		t.Errorf("error %v, want a FileError", err)
	}
}

func TestPEMFilesFromWindowsEditorsAreRead(t *testing.T) {
	ca := newCA(t, "farm", noon)
	data := ca.trust.pem()
	for name, variant := range map[string][]byte{
		"byte order mark": append([]byte("\ufeff"), data...),
		"CR LF":           bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")),
		"both":            append([]byte("\ufeff"), bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))...),
		"no last newline": bytes.TrimSpace(data),
		"text around":     []byte("the farm's CA\n\n" + string(data) + "\nthat is all\n"),
		"twice the same":  append(bytes.Clone(data), data...),
	} {
		b, err := parseBundle("ca.crt", variant)
		if err != nil || len(b.cas) != 1 || b.farm != "farm" {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

func TestAFileThatIsNotWhatItShouldBeIsRefused(t *testing.T) {
	ca := newCA(t, "farm", noon)
	whole := ca.trust.pem()
	var many []byte
	for range maxCAs + 1 {
		many = append(many, whole...)
	}
	node := forge(t, ca, noon, func(*x509.Certificate) {})
	authority := func(change func(*x509.Certificate)) []byte {
		return encodePEM(pemCertificate, forge(t, ca, noon, func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage, c.URIs = true, x509.KeyUsageCertSign, []*url.URL{farmURI("farm")}
			change(c)
		}).Certificate[0])
	}
	if _, err := parseBundle(CACert, authority(func(*x509.Certificate) {})); err != nil {
		t.Fatal(err)
	}
	for says, data := range map[string][]byte{
		"not a PEM file":                         []byte("hello"),
		`a PEM block "PRIVATE KEY" where only`:   append(bytes.Clone(whole), get(t, ca.dir, CAKey)...),
		"of 2 PEM blocks that begin, 1 can":      append(bytes.Clone(whole), whole[:len(whole)/2]...),
		"holds 9 certificates, at most 8":        many,
		"something in it that is no cert":        encodePEM(pemCertificate, []byte("junk")),
		`the key of "web1" may not sign`:         authority(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		"it has no URI":                          authority(func(c *x509.Certificate) { c.URIs = nil }),
		`it is for "spiffe://farm/x"`:            authority(func(c *x509.Certificate) { c.URIs[0].Path = "/x" }),
		`it is for "spiffe://10.0.0.1"`:          authority(func(c *x509.Certificate) { c.URIs[0].Host = "10.0.0.1" }),
		"is not an ECDSA P-256 key":              rsaAuthority(t),
		`"web1" may not sign certificates`:       encodePEM(pemCertificate, node.Certificate[0]),
		`it is of the farm "other", another one`: append(bytes.Clone(whole), newCA(t, "other", noon).trust.pem()...),
	} {
		_, err := parseBundle("dir/ca.crt", data)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), "dir/ca.crt: ") {
			t.Errorf("error %v, want one about dir/ca.crt with %q", err, says)
		}
	}
}

// rsaAuthority is a CA certificate made with other tools.
func rsaAuthority(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), URIs: []*url.URL{farmURI("farm")}, NotBefore: noon, NotAfter: noon.Add(day),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return encodePEM(pemCertificate, der)
}

func TestAnErrorAboutAKeyNeverShowsTheKey(t *testing.T) {
	p256 := get(t, newCA(t, "farm", noon).dir, CAKey)
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(p256, []byte("\nMIGH"), []byte("\nMIGG"), 1)
	if bytes.Equal(damaged, p256) {
		t.Fatal("the key does not begin as expected")
	}
	for says, data := range map[string][]byte{
		"not an ECDSA P-256 key": encodePEM(pemKey, p384),
		"cannot be read":         damaged,
		"2 keys instead of one":  append(bytes.Clone(p256), p256...),
		"damaged or cut off":     p256[:len(p256)/2],
		`PEM block "EC PRIVATE KEY"`: bytes.ReplaceAll(p256, []byte("PRIVATE"),
			[]byte("EC PRIVATE")),
	} {
		_, err := parseKey("node.key", data)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
			continue
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); len(line) > 30 && strings.Contains(err.Error(), line) {
				t.Errorf("the error shows the key: %v", err)
			}
		}
	}
}

func TestReadingNeverGoesOnForever(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, CACert, make([]byte, maxFile+1))
	if _, err := read(filepath.Join(dir, CACert), "do this"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("error %v, want one about the size", err)
	}
	if _, err := read(dir, "do this"); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("error %v, want one about a directory", err)
	}
	_, err := read(filepath.Join(dir, "none"), "do this")
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "none: it is missing; do this") {
		t.Errorf("error %v, want one that says what to do", err)
	}
}
