package certs

import (
	"crypto/ecdsa"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// Learn hears a document that somebody in the farm has. If it is newer than ours, this directory came from a
// copy that was made before it: it is adopted. If it knows of revocations that ours does not, or ours of
// some that it does not, whichever is newer, both are said in a new document, which is given, to be published;
// otherwise nil. Let the issuer hear what all nodes have before it signs anything.
//
// After a document that this farm's CA has signed, and in which none of the CAs is one whose key is here, the
// directory is [ErrOutdated] for good. A document of CAs that are not known here may say the same, or be
// forged: it is an error, and changes nothing. [Issuer.Belongs] tells what our own node believes.
func (i *Issuer) Learn(data []byte, now time.Time) (*Document, error) {
	theirs, err := ParseDocument(data)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, err
	}
	ours := i.ca.document
	switch {
	case theirs.Equal(ours):
		return nil, nil
	case theirs.Farm != i.ca.Farm():
		return nil, fmt.Errorf("document %d is of the farm %q, and this is the issuer of the farm %q", theirs.Number, theirs.Farm, i.ca.Farm())
	case !theirs.signedByAny(i.ca.trust):
		return nil, i.unknownSigner(theirs)
	case theirs.Number > i.number():
		return i.adopt(theirs, now)
	}
	// An older one, of which only what it says about nodes can matter; or a twin of ours, made from a copy of
	// this directory in the same millisecond.
	revoked, changed := mergeRevoked(ours.Revoked, theirs.Revoked)
	if !changed && theirs.Number < ours.Number {
		return nil, nil
	}
	return i.say(now, func(d *Document) { d.Revoked = revoked })
}

func (i *Issuer) unknownSigner(d *Document) error {
	if d.Number <= i.number() {
		return fmt.Errorf("document %d is signed by no CA of this farm that is still trusted: %w", d.Number, ErrOldDocument)
	}
	return fmt.Errorf("document %d is signed by no CA whose certificate is in %s. Either it is forged, or this CA directory is outdated: "+
		"the farm's CA was replaced after it was copied; then restore a newer copy of it", d.Number, filepath.Join(i.dir.path, CACert))
}

// adopt goes on from a newer document.
func (i *Issuer) adopt(theirs *Document, now time.Time) (*Document, error) {
	if !theirs.signedByAny(theirs.trust) {
		return nil, fmt.Errorf("document %d is signed by none of the CAs that it says are trusted", theirs.Number)
	}
	held := func(key *ecdsa.PrivateKey) bool { return theirs.trust.ofKey(key) != nil }
	if !held(i.files.key) && !held(i.files.next) {
		// It is kept, so that it is known when the directory is opened next; to commit it is the error.
		return nil, i.commit(theirs)
	}
	var revoked []Revocation
	changed := false
	if ours := i.ca.document; ours != nil {
		revoked, changed = mergeRevoked(theirs.Revoked, ours.Revoked)
	}
	if !changed {
		return nil, i.commit(theirs)
	}
	// In one step, so that a crash does not lose what only we know.
	said := Document{Farm: theirs.Farm, Made: now, Revoked: revoked, Rotation: theirs.Rotation}
	var err error
	if said.Number, err = nextNumber(theirs.Number, now); err != nil {
		return nil, err
	}
	keys := slices.Clone(i.ca.keys)
	if next := i.files.next; next != nil && !slices.Contains(keys, next) && held(next) {
		keys = append(keys, next)
	}
	d, err := signDocument(said, theirs.trust, keys...)
	if err != nil {
		return nil, fmt.Errorf("make the farm's next document: %w", err)
	}
	return d, i.commit(d)
}

// mergeRevoked gives what two documents say about nodes: for each, the later statement. changed says whether
// that is more than base says.
func mergeRevoked(base, other []Revocation) (merged []Revocation, changed bool) {
	merged = slices.Clone(base)
	for _, o := range other {
		at := slices.IndexFunc(merged, func(r Revocation) bool { return r.Node == o.Node })
		switch {
		case at < 0:
			merged = append(merged, o)
		case o.At.After(merged[at].At) || o.At.Equal(merged[at].At) && merged[at].Lifted && !o.Lifted:
			if was := merged[at]; !was.Lifted && !o.Lifted { // two revocations: both hold
				o.Keys = slices.Concat(o.Keys, was.Keys)
				if was.Before.After(o.Before) {
					o.Before = was.Before
				}
			}
			merged[at] = o
		default:
			continue
		}
		changed = true
	}
	return merged, changed
}
