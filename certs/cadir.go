package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// What else a CA directory holds, once it was more than "cert init" made. The document is what counts:
// each step of replacing the CA is done when the document that says so is written, and ca.crt and the two
// keys follow it (caFiles.settle), after a crash when the directory is opened next.
const caNextKey = "next.key" // of the CA that is being introduced; DocumentFile is the last document signed

// ErrOutdated is the reason why a CA directory that was restored from an old copy signs nothing: the farm
// has another CA meanwhile.
var ErrOutdated = errors.New("outdated")

// restoreCA is what to do about a CA directory that does not hold what it must.
const restoreCA = "restore the CA directory from your copy of it"

// caDir writes in a CA directory.
type caDir struct {
	path string
	// before is asked before each change, and an error of it ends things there: so tests crash at will. It may
	// be nil.
	before func(change string) error
}

func (d caDir) may(change string) error {
	if d.before == nil {
		return nil
	}
	return d.before(change)
}

func (d caDir) write(name string, data []byte) error {
	if err := d.may("write " + name); err != nil {
		return err
	}
	return writeWhole(filepath.Join(d.path, name), data)
}

func (d caDir) rename(from, to string) error {
	if err := d.may("rename " + from + " to " + to); err != nil {
		return err
	}
	path := filepath.Join(d.path, to)
	if err := os.Rename(filepath.Join(d.path, from), path); err != nil {
		return broken(path, "see whether you may write there", "%s cannot take its place: %w", from, bare(err))
	}
	if err := syncDir(d.path); err != nil {
		return broken(path, "see whether the disk is well", "it was replaced but that may not survive a power cut: %w", bare(err))
	}
	return nil
}

// remove removes a file, if it is there.
func (d caDir) remove(name string) error {
	if err := d.may("remove " + name); err != nil {
		return err
	}
	path := filepath.Join(d.path, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return broken(path, "see whether you may write there", "it cannot be removed: %w", bare(err))
	}
	return nil
}

// caFiles is what a CA directory holds, as it is read.
type caFiles struct {
	dir      caDir
	written  *bundle           // ca.crt
	key      *ecdsa.PrivateKey // ca.key
	next     *ecdsa.PrivateKey // next.key; nil: there is none
	document *Document         // nil: none was signed yet
}

func readCA(dir caDir) (*caFiles, error) {
	f := &caFiles{dir: dir}
	var err error
	if f.written, err = loadBundle(dir.path, restoreCA); err != nil {
		return nil, err
	}
	if f.key, err = loadKey(dir.path, CAKey, restoreCA); err != nil {
		return nil, err
	}
	if f.next, err = loadKey(dir.path, caNextKey, restoreCA); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return f, f.readDocument()
}

func (f *caFiles) readDocument() error {
	path := filepath.Join(f.dir.path, DocumentFile)
	data, err := read(path, restoreCA)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := ParseDocument(data)
	if err != nil {
		return broken(path, restoreCA, "%w", err)
	}
	// ca.crt may be one step behind, but each document is signed by a CA that was trusted before it.
	if d.Farm != f.written.farm || !d.signedByAny(f.written) {
		return broken(path, restoreCA, "it is signed by none of the CAs in %s", CACert)
	}
	f.document = d
	return nil
}

// trust is what nodes are to trust: what the document says, or what is in ca.crt if there is none.
func (f *caFiles) trust() *bundle {
	if f.document == nil {
		return f.written
	}
	return f.document.trust.under(f.document)
}

// ca finds out which key signs what at this stage.
func (f *caFiles) ca() (*CA, error) {
	ca := &CA{dir: f.dir.path, trust: f.trust(), document: f.document}
	for _, key := range []*ecdsa.PrivateKey{f.key, f.next} {
		if ca.trust.ofKey(key) != nil {
			ca.keys = append(ca.keys, key)
		}
	}
	path := filepath.Join(f.dir.path, CAKey)
	switch {
	case len(ca.keys) > 0:
		ca.cert, ca.key = ca.issuing(ca.rotation())
		return ca, nil
	case f.document == nil:
		return nil, broken(path, restoreCA, "it belongs to no certificate in %s", CACert)
	default:
		return nil, outdated(path)
	}
}

func outdated(path string) error {
	return broken(path, "restore a newer copy of the CA directory",
		"this CA directory is %w: the farm's CA was replaced after it was copied, and its key signs nothing any more", ErrOutdated)
}

// issuing gives the CA that signs certificates at a stage, and its key, which is nil if it is not here.
func (ca *CA) issuing(r Rotation) (*x509.Certificate, *ecdsa.PrivateKey) {
	toNew := r.Stage == Renew || r.Stage == Drop
	for _, key := range ca.keys {
		cert := ca.trust.ofKey(key)
		if r.Stage == NoRotation || (hex.EncodeToString(cert.SubjectKeyId) == r.To) == toNew {
			return cert, key
		}
	}
	for _, cert := range ca.trust.cas {
		if (hex.EncodeToString(cert.SubjectKeyId) == r.To) == toNew {
			return cert, nil
		}
	}
	return ca.trust.ofKey(ca.keys[0]), nil
}

func (ca *CA) rotation() Rotation {
	if ca.document == nil {
		return Rotation{}
	}
	return ca.document.Rotation
}

// settle makes the files what the document says. It may be done again at any time.
func (f *caFiles) settle() error {
	trust := f.trust()
	if !trust.sameCAs(f.written) {
		if err := f.dir.write(CACert, trust.pem()); err != nil {
			return err
		}
		f.written = trust
	}
	switch here, next := trust.ofKey(f.key) != nil, trust.ofKey(f.next) != nil; {
	case !here && next:
		// The old CA is dropped: no node needs it, and nothing is signed with its key any more.
		if err := f.dir.rename(caNextKey, CAKey); err != nil {
			return err
		}
		f.key, f.next = f.next, nil
	case here && f.next != nil && !next && f.document != nil && f.document.Rotation.Stage == Drop:
		// The new one was given up. (A key that lies there otherwise was made just before a crash, or belongs to
		// a document that is not known here yet. It is kept for the next rotation.)
		if err := f.dir.remove(caNextKey); err != nil {
			return err
		}
		f.next = nil
	}
	return nil
}
