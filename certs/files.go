package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"peerstate/certs/private"
)

// The files. A CA directory holds CACert and CAKey; a node's directory the other two, and a copy of CACert.
const (
	CACert   = "ca.crt"
	CAKey    = "ca.key"
	NodeCert = "node.crt"
	NodeKey  = "node.key"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY" // PKCS #8
)

// maxFile is many times what the files hold.
const maxFile = 256 << 10

// FileError says what is wrong with a file, and what to do about it.
type FileError struct {
	Path   string
	Remedy string
	Err    error // what is wrong
}

// Error is all of it in one line.
func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() + "; " + e.Remedy }

// Unwrap gives what is wrong.
func (e *FileError) Unwrap() error { return e.Err }

// broken makes a FileError. A %.0w in the format wraps an error whose text would only say it again.
func broken(path, remedy, format string, a ...any) *FileError {
	return &FileError{path, remedy, fmt.Errorf(format, a...)}
}

// read gives the contents of a file; missing is what to do if there is none.
func read(path, missing string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, broken(path, missing, "it is missing%.0w", fs.ErrNotExist)
	}
	if err != nil {
		return nil, broken(path, "let the account that runs peerstate read it", "it cannot be opened: %w", bare(err))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, broken(path, "see whether it is a file and the disk is well", "it cannot be read: %w", bare(err))
	}
	if len(data) > maxFile {
		return nil, broken(path, missing, "it is larger than %d bytes, so it is something else", maxFile)
	}
	return data, nil
}

// bare takes the path off an error that is going to be reported with it.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok { // of a rename
		return e.Err
	}
	return err
}

func loadBundle(dir, missing string) (*bundle, error) {
	path := filepath.Join(dir, CACert)
	data, err := read(path, missing)
	if err != nil {
		return nil, err
	}
	return parseBundle(path, data)
}

func loadKey(dir, name, missing string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, name)
	data, err := read(path, missing)
	if err != nil {
		return nil, err
	}
	return parseKey(path, data)
}

// decodePEM gives the contents of all blocks, which must be of one type. Text around them is skipped, but
// a block that is cut off is an error: half a ca.crt must not pass for a shorter one.
func decodePEM(path string, data []byte, want string) ([][]byte, error) {
	const again = "copy it again, or issue a new certificate with \"peerstate cert issue\""
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors on Windows begin files with it
	begun := bytes.Count(data, []byte("-----BEGIN "))
	var list [][]byte
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != want {
			return nil, broken(path, again, "it holds a PEM block %q where only %q belongs", clean(block.Type), want)
		}
		list = append(list, block.Bytes)
		data = rest
	}
	switch {
	case len(list) == 0 && begun == 0:
		return nil, broken(path, again, "it is not a PEM file with a %q in it", want)
	case len(list) != begun:
		return nil, broken(path, again, "it is damaged or cut off: of %d PEM blocks that begin, %d can be read", begun, len(list))
	}
	return list, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func parseCertificate(path string, der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, broken(path, "copy it again from where it was made", "there is something in it that is no certificate: %w", err)
	}
	return cert, nil
}

// parseKey reads a private key file. The errors never show any of its contents.
func parseKey(path string, data []byte) (*ecdsa.PrivateKey, error) {
	const again = "issue a new certificate with \"peerstate cert issue\", which makes a new key as well"
	ders, err := decodePEM(path, data, pemKey)
	if err != nil {
		return nil, err
	}
	if len(ders) != 1 {
		return nil, broken(path, again, "it holds %d keys instead of one", len(ders))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(ders[0])
	if err != nil {
		return nil, broken(path, again, "the key in it cannot be read")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !isP256(&key.PublicKey) {
		return nil, broken(path, again, "the key in it is not an ECDSA P-256 key")
	}
	return key, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return encodePEM(pemKey, der), nil
}

// mustBeFree fails if one of the files exists.
func mustBeFree(dir, remedy string, names ...string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		switch _, err := os.Lstat(path); {
		case err == nil:
			return broken(path, remedy, "it exists, and is not overwritten%.0w", fs.ErrExist)
		case !errors.Is(err, fs.ErrNotExist):
			return broken(path, "name another directory", "it cannot be looked at: %w", bare(err))
		}
	}
	return nil
}

type newFile struct {
	name string
	data []byte
}

// writeNew writes the files to dir in the given order; if one cannot be written, none stays.
func writeNew(dir string, files ...newFile) error {
	if err := makePrivateDir(dir); err != nil {
		return broken(dir, "see whether you may write there", "cannot make this directory: %w", bare(err))
	}
	for i, f := range files {
		err := writeWhole(filepath.Join(dir, f.name), f.data)
		if err == nil {
			continue
		}
		for _, done := range files[:i] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, done.name)))
		}
		return err
	}
	return nil
}

// writeWhole writes a file that only its owner can read, so that at any moment, also after a power cut,
// there is either all of it or what was there before.
func writeWhole(path string, data []byte) error {
	if err := private.WriteFile(path, data); err != nil {
		return broken(path, "see whether the disk is full, and whether you may write there", "it cannot be written: %w", bare(err))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return broken(path, "see whether the disk is well", "it was written but may not survive a power cut: %w", bare(err))
	}
	return nil
}

// unplaced is what the name of a file ends with until it is put in place, when another file must be there
// first.
const unplaced = ".new"

// putInPlace makes the file PATH.new, which was written whole, that of the path. Another process that loads
// the directory may have done so already.
func putInPlace(path string) error {
	err := os.Rename(path+unplaced, path)
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return broken(path, "see whether you may write there", "%s cannot be renamed to it: %w", filepath.Base(path)+unplaced, bare(err))
	}
	return nil
}

// stamp is how times are shown: to the minute, in UTC, so that two machines show the same.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
