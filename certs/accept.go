package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// ErrOldDocument is the error for a document whose number is not higher than that of the one in force.
var ErrOldDocument = errors.New("the document is not newer than the one in force")

// Accept takes in a document that came from whomever. It must be of the farm of s, have a higher number than
// the documents of s and in dir ([ErrOldDocument]), and be signed by a CA that s trusts and that is valid now (later,
// the document holds as long as that CA is in ca.crt: revocations do not lapse with time). One under which this node's
// own certificate would be refused is not taken in: the error holds the [*Refusal]. ca.crt then holds the
// document's CAs, and state/farm.document the document.
//
// If those cannot be written, the new snapshot is given all the same, together with the error: put it in
// force, so that whoever is revoked is refused. It confirms nothing ([Snapshot.Confirm]) before it was
// written, which [Reload] tries again.
//
// Accept, [Reload] and [Request.Install] for one node are called one after the other, each with the
// snapshot that the one before has given.
func Accept(dir string, s *Snapshot, data []byte, now time.Time) (*Snapshot, error) {
	d, err := ParseDocument(data)
	if err != nil {
		return nil, err
	}
	next, err := s.with(d, now)
	if err != nil {
		return nil, err
	}
	changing.Lock()
	defer changing.Unlock()
	// One that cannot be read does not count: the number of s is what must be exceeded, and this mends it.
	if there, err := readDocument(documentPath(dir)); err == nil && there != nil && there.Farm == d.Farm && there.Number >= d.Number {
		return nil, ErrOldDocument
	}
	if err := d.write(dir); err != nil {
		next.unwritten = true
		return next, fmt.Errorf("document %d of the farm is in force, but not after a restart: %w", d.Number, err)
	}
	return next, nil
}

// with is the snapshot under another document, which is verified.
func (s *Snapshot) with(d *Document, now time.Time) (*Snapshot, error) {
	switch {
	case d.Farm != s.self.Farm:
		return nil, fmt.Errorf("the document is of the farm %q, and this is the farm %q", d.Farm, s.self.Farm)
	case d.Number <= s.DocumentNumber():
		return nil, ErrOldDocument
	case !slices.ContainsFunc(s.trust.cas, func(ca *x509.Certificate) bool { return checkTime(ca, "", now) == nil && d.signedBy(ca) }):
		return nil, fmt.Errorf("document %d of the farm is signed by none of the CAs that are trusted here and valid now", d.Number)
	case !d.signedByAny(d.trust): // nobody who has it would believe it
		return nil, fmt.Errorf("document %d of the farm is signed by none of the CAs that it says are trusted", d.Number)
	}
	next := &Snapshot{trust: d.trust.under(d), cert: s.cert, document: d}
	var err error
	if next.self, err = next.trust.verifyOwn(s.cert.Leaf, now); err != nil {
		return nil, fmt.Errorf("document %d of the farm is not taken in, since this node's own certificate would be refused under it: %w",
			d.Number, err)
	}
	return next, nil
}

// write puts the document in force in dir. It takes hold at the moment when it is there under one of its
// two names and ca.crt holds its CAs; loadDocument does what is left to do after a crash.
func (d *Document) write(dir string) error {
	path := documentPath(dir)
	state := filepath.Dir(path)
	if err := makePrivateDir(state); err != nil {
		return broken(state, "see whether you may write there", "cannot make this directory: %w", bare(err))
	}
	if err := writeWhole(path+unplaced, d.raw); err != nil {
		return err
	}
	if there, err := loadBundle(dir, ""); err != nil || !there.sameCAs(d.trust) { // a broken one is mended
		if err := writeWhole(filepath.Join(dir, CACert), d.trust.pem()); err != nil {
			return err
		}
	}
	return putInPlace(path)
}

func documentPath(dir string) string { return filepath.Join(dir, StateDir, DocumentFile) }

// readDocument gives the document in a file, whoever signed it; nil if there is no such file.
func readDocument(path string) (*Document, error) {
	const remedy = "restore it from a copy, or remove it: the other nodes will send the newest again"
	data, err := read(path, remedy)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := ParseDocument(data)
	if err != nil {
		return nil, broken(path, remedy, "%w", err)
	}
	return d, nil
}

// loadDocument reads the document of a node whose ca.crt holds the bundle; nil if there is none.
// interrupted says that it has taken hold but was not put in place yet.
func loadDocument(dir string, b *bundle) (d *Document, interrupted bool, err error) {
	path := documentPath(dir)
	// First the one that waits. If ca.crt does not hold its CAs it has not taken hold.
	next, err := readDocument(path + unplaced)
	if err != nil {
		return nil, false, err
	}
	held := next != nil && next.trust.sameCAs(b) && next.signedByAny(b)
	d, err = readDocument(path)
	switch {
	case held && (d == nil || d.Farm != b.farm || d.Number < next.Number):
		return next, true, nil
	case err != nil:
		return nil, false, err
	case d == nil:
		return nil, false, nil
	case d.Farm != b.farm:
		return nil, false, broken(path, "remove it, or bring back the farm's "+CACert,
			"it is of the farm %q, and %s of the farm %q", d.Farm, CACert, b.farm)
	case !d.signedByAny(b):
		return nil, false, broken(path, "if the farm's CA was replaced by hand, remove this file; otherwise restore "+CACert,
			"it is signed by none of the CAs in %s", CACert)
	}
	return d, false, nil
}
