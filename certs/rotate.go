package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Progress is how far the replacement of the farm's CA is, for the operator.
type Progress struct {
	Stage     Stage    `json:"stage"`
	To        string   `json:"to"`        // KeyID of the CA that remains
	Number    uint64   `json:"document"`  // that all nodes must have in force
	Waiting   []string `json:"waiting"`   // nodes that have not done yet what this stage asks
	Confirmed []string `json:"confirmed"` // nodes that have
	Without   []string `json:"without"`   // nodes that nobody waits for
	Done      bool     `json:"done"`      // nothing is under way
}

// Rotate begins to replace the farm's CA by a new one that lasts for life: a document to be published, with
// which all nodes trust both. Nodes and their certificates are moved by calling Advance again and again. If a
// replacement is under way already, its document is given, and that goes on.
//
// The invariant of all stages: every two nodes that are in the farm accept each other's certificates,
// whichever of the last two documents each of them has in force. So a CA issues only when all nodes trust
// it, and is dropped only when no node has a certificate of it.
func (i *Issuer) Rotate(life time.Duration, now time.Time) (*Document, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, err
	}
	if r := i.ca.rotation(); r.Stage != NoRotation {
		if r.Stage != Drop && r.To == i.present() {
			return nil, errors.New("a replacement of the CA is being abandoned; wait until that is done, and begin another then")
		}
		return i.ca.document, nil
	}
	if life < time.Second {
		return nil, fmt.Errorf("a CA that lasts %v cannot be of use", life)
	}
	if len(i.ca.trust.cas) >= maxCAs {
		return nil, broken(filepath.Join(i.dir.path, CACert), "take those out that are not needed any more",
			"it holds %d certificates, and there can be no more", len(i.ca.trust.cas))
	}
	if err := checkTime(i.ca.cert, "the farm's CA", now); err != nil {
		return nil, fmt.Errorf("no node can follow to another CA: %w", err)
	}
	key, err := i.nextKey()
	if err != nil {
		return nil, err
	}
	cert, err := selfSign(key, i.ca.Farm(), life, now)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the new CA: %w", err)
	}
	both, err := i.ca.trust.only(func(*x509.Certificate) bool { return true })
	if err != nil {
		return nil, err
	}
	if err := both.add(cert); err != nil {
		return nil, err
	}
	return i.sayWith(both, key, now, func(d *Document) { d.Rotation = Rotation{Stage: Trust, To: keyID(cert)} })
}

// nextKey is the key for the new CA, on the disk. One that lies there has been made before a crash.
func (i *Issuer) nextKey() (*ecdsa.PrivateKey, error) {
	if i.files.next != nil {
		return i.files.next, nil
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := i.dir.write(caNextKey, text); err != nil {
		return nil, err
	}
	i.files.next = key
	return key, nil
}

func keyID(ca *x509.Certificate) string { return hex.EncodeToString(ca.SubjectKeyId) }

// present is the KeyID of the CA that ca.key belongs to, which is the old one until it is dropped; empty if it
// is not trusted any more.
func (i *Issuer) present() string {
	if cert := i.ca.trust.ofKey(i.files.key); cert != nil {
		return keyID(cert)
	}
	return ""
}

// Abandon gives the new CA up: a document to be published. Nobody has a certificate of it before stage Renew,
// so it is dropped at once. In stage Renew it is turned round: all nodes renew with the old CA, and then the
// new one is dropped. In stage Drop it is too late, since nodes may have dropped the old one.
func (i *Issuer) Abandon(now time.Time) (*Document, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, err
	}
	r, back := i.ca.rotation(), i.present()
	switch {
	case r.Stage == NoRotation:
		return nil, errors.New("the CA is not being replaced")
	case r.Stage == Drop:
		return nil, fmt.Errorf("it is too late to abandon the replacement of the CA: the CA with the key %s remains, "+
			"and nodes drop all others already; when that is done, the CA can be replaced once more", r.To)
	case r.To == back:
		return i.ca.document, nil // it is being abandoned
	case back == "":
		return nil, broken(filepath.Join(i.dir.path, CAKey), "restore a newer copy of the CA directory", "it is not the key of the old CA")
	case r.Stage == Renew:
		return i.say(now, func(d *Document) { d.Rotation.To = back })
	}
	old, err := i.ca.trust.only(func(ca *x509.Certificate) bool { return keyID(ca) != r.To })
	if err != nil {
		return nil, err
	}
	return i.sayWith(old, nil, now, func(d *Document) { d.Rotation.Stage, d.Rotation.To = Drop, back })
}

// GoOnWithout stops waiting for a node: a document to be published. If that node comes back after the last
// stage, it has to join anew.
func (i *Issuer) GoOnWithout(node string, now time.Time) (*Document, error) {
	if err := ValidName(node); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, err
	}
	r := i.ca.rotation()
	if r.Stage == NoRotation {
		return nil, errors.New("the CA is not being replaced, so nothing waits for a node")
	}
	if slices.Contains(r.Without, node) {
		return i.ca.document, nil
	}
	without := append(slices.Clone(r.Without), node)
	return i.say(now, func(d *Document) { d.Rotation.Without = without })
}

// Advance goes to the next stage if all nodes have done what the present one asks: those expected and those
// that have a certificate as far as is known here, without those revoked or not waited for. confirmed is the
// newest that each node has proven ([Snapshot.Confirmed]), by name. Every stage asks that the present document be
// in force, and Renew, a certificate of the CA that remains as well. It gives the document of the new
// stage, to be published, or nil; and how far it is then.
func (i *Issuer) Advance(expected []string, confirmed map[string]Confirmation, now time.Time) (Progress, *Document, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return Progress{}, nil, err
	}
	if i.ca.rotation().Stage == NoRotation {
		return i.progress(nil, nil), nil, nil
	}
	if err := i.issued.refresh(); err != nil {
		return Progress{}, nil, err
	}
	known := i.issued.accepted(i.ca.trust, now)
	nodes := i.awaited(expected, known)
	p := i.progress(nodes, confirmed)
	if len(p.Waiting) > 0 {
		return p, nil, nil
	}
	if len(expected) == 0 {
		return p, nil, errors.New("no node of the farm is known, not even the issuer's own, so nobody can confirm anything")
	}
	d, err := i.advance(now)
	if err != nil {
		return p, nil, err
	}
	return i.progress(nodes, confirmed), d, nil
}

// awaited are all whose confirmation is needed.
func (i *Issuer) awaited(expected, known []string) []string {
	names := map[string]bool{}
	for _, node := range expected {
		names[node] = true
	}
	for _, node := range i.ca.document.RevokedNodes() {
		delete(names, node)
	}
	for _, node := range known { // also a revoked one that has joined again
		names[node] = true
	}
	for _, node := range i.ca.rotation().Without {
		delete(names, node)
	}
	return slices.Sorted(maps.Keys(names))
}

func (i *Issuer) progress(nodes []string, confirmed map[string]Confirmation) Progress {
	r := i.ca.rotation()
	p := Progress{
		Stage: r.Stage, To: r.To, Number: i.number(), Done: r.Stage == NoRotation,
		Waiting: []string{}, Confirmed: []string{}, Without: append([]string{}, r.Without...),
	}
	for _, node := range nodes {
		c, ok := confirmed[node]
		if ok && c.Node == node && c.Number >= p.Number && (r.Stage != Renew || c.IssuerKey == r.To) {
			p.Confirmed = append(p.Confirmed, node)
		} else {
			p.Waiting = append(p.Waiting, node)
		}
	}
	return p
}

func (i *Issuer) advance(now time.Time) (*Document, error) {
	r := i.ca.rotation()
	to := i.ca.trust.byKeyID(r.To)
	if to == nil || !slices.ContainsFunc(i.ca.keys, func(key *ecdsa.PrivateKey) bool { return key.PublicKey.Equal(to.PublicKey) }) {
		return nil, broken(filepath.Join(i.dir.path, caNextKey), "restore a newer copy of the CA directory, or abandon the replacement of the CA",
			"the key of the CA that the farm changes to is not here")
	}
	switch r.Stage {
	case Trust:
		return i.say(now, func(d *Document) { d.Rotation.Stage = Renew })
	case Renew:
		only, err := i.ca.trust.only(func(ca *x509.Certificate) bool { return ca.Equal(to) })
		if err != nil {
			return nil, err
		}
		return i.sayWith(only, nil, now, func(d *Document) { d.Rotation.Stage = Drop })
	default:
		return i.say(now, func(d *Document) { d.Rotation = Rotation{} })
	}
}
