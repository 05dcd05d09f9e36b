package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// DefaultRenewedLife is how long a certificate lasts that the issuer has issued: the node renews it by itself.
const DefaultRenewedLife = 90 * 24 * time.Hour

const (
	// minRenewedLife leaves a node some time to renew in.
	minRenewedLife = time.Minute
	// Certificates for one name: so many at once, and one more in each interval. A node renews once in
	// weeks, or twice in a rotation.
	renewalsAtOnce  = 5
	renewalInterval = time.Minute
	// maxRevokedKeys bounds what a document says about one node; its time covers older keys.
	maxRevokedKeys = 256
	issuerLock     = "issuer.lock"
)

// ErrTooManyRenewals is the error for a node that asks for one certificate after the other.
var ErrTooManyRenewals = errors.New("too many new certificates were asked for under this name; the next is given in a minute")

// Issuer is the farm's CA at work, in the one node that has its directory: it renews and revokes
// certificates, admits new nodes, replaces the CA, and signs the farm's documents. It is safe for
// concurrent use, and what it has done is on the disk when it says so.
//
// Whoever runs it publishes [Issuer.Document] in the farm when it was opened, and after an error, too: a
// document is in force once it was written, whatever came after that.
type Issuer struct {
	dir  caDir
	life time.Duration
	lock *os.File

	mu          sync.Mutex
	files       *caFiles
	ca          *CA
	outdated    error // why nothing is signed any more; nil: all is well
	issued      *issuedCerts
	invitations *invitations
	renewals    map[string]*rate.Limiter // by name; only of those whom a certificate of ours names
	tries       *rate.Limiter            // wrong requests to join
}

// OpenIssuer opens a CA directory, whose issuer then is this process alone, and completes what a crash has
// interrupted. life is how long the certificates that it issues last, at least a minute. A directory that
// does not hold what it must, or is [ErrOutdated], is a [*FileError].
func OpenIssuer(dir string, life time.Duration, now time.Time) (*Issuer, error) {
	return openIssuer(caDir{path: dir}, life, now)
}

func openIssuer(dir caDir, life time.Duration, now time.Time) (_ *Issuer, err error) {
	if life < minRenewedLife {
		return nil, fmt.Errorf("certificates that last %v are too short to be renewed in time; %v is the least", life, minRenewedLife)
	}
	i := &Issuer{dir: dir, life: life, renewals: map[string]*rate.Limiter{}, tries: newTries()}
	if i.files, err = readCA(dir); err != nil {
		return nil, err
	}
	if i.lock, err = lockFile(filepath.Join(dir.path, issuerLock)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.lock.Close())
		}
	}()
	// Once more, now that nobody else changes it.
	if i.files, err = readCA(dir); err != nil {
		return nil, err
	}
	if i.ca, err = i.files.ca(); err != nil {
		return nil, err
	}
	if err := i.files.settle(); err != nil {
		return nil, err
	}
	i.issued = openIssued(dir, i.ca.Farm())
	if err := i.issued.refresh(); err != nil {
		return nil, err
	}
	if err := i.issued.prune(now); err != nil {
		return nil, err
	}
	if i.invitations, err = readInvitations(dir); err != nil {
		return nil, err
	}
	return i, nil
}

// lockFile makes this process the only one that has the file locked, until it is closed or the process ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, broken(path, "see whether you may write there", "it cannot be opened: %w", bare(err))
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(broken(path, "stop the other sidecar that runs with this CA directory; a farm has one issuer",
			"it cannot be locked: %w", err), f.Close())
	}
	return f, nil
}

// Close lets another process be the issuer. Nothing may be asked of this one after that.
func (i *Issuer) Close() error { return i.lock.Close() }

// Farm is the name of the farm.
func (i *Issuer) Farm() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ca.Farm()
}

// Document is the newest one; nil if none was signed yet.
func (i *Issuer) Document() *Document {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ca.document
}

// ready says why nothing may be signed, and otherwise tries again what could not be completed.
func (i *Issuer) ready() error {
	if i.outdated != nil {
		return i.outdated
	}
	return i.files.settle()
}

// Belongs says whether this directory and the issuer's own node fit together: nil, or what is wrong. If that
// node has learned that the farm has another CA meanwhile, the directory is [ErrOutdated], and signs nothing any
// more. Ask before anything is signed.
func (i *Issuer) Belongs(s *Snapshot) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	path := filepath.Join(i.dir.path, CACert)
	if s.self.Farm != i.ca.Farm() {
		return broken(path, "name the CA directory of this node's farm",
			"it is the CA of the farm %q, and this node is in the farm %q", i.ca.Farm(), s.self.Farm)
	}
	if slices.ContainsFunc(i.ca.keys, func(key *ecdsa.PrivateKey) bool { return s.trust.ofKey(key) != nil }) {
		return nil
	}
	if s.DocumentNumber() > i.number() {
		i.outdated = outdated(filepath.Join(i.dir.path, CAKey))
		return i.outdated
	}
	return broken(path, "issue new certificates for this node with \"peerstate cert issue\"", "this node trusts none of the CAs in it")
}

func (i *Issuer) number() uint64 {
	if i.ca.document == nil {
		return 0
	}
	return i.ca.document.Number
}

// Renew answers a node's request ([NewRequest]): a certificate (DER), and who gets it. Nobody is given one
// whose present certificate is refused, which is a [*Refusal]. The same request again gets the same
// certificate. A node that asks too often hurts itself alone: [ErrTooManyRenewals].
func (i *Issuer) Renew(request []byte, now time.Time) (cert []byte, peer Peer, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, Peer{}, err
	}
	asks, key, err := parseRequest(request, i.ca.trust, now)
	if err != nil {
		return nil, Peer{}, err
	}
	sum, err := keyFingerprint(key)
	if err != nil {
		return nil, Peer{}, err
	}
	if err := i.issued.refresh(); err != nil {
		return nil, Peer{}, err
	}
	if known, ok := i.issued.withKey(sum); ok {
		peer, err := i.ca.trust.verify([]*x509.Certificate{known.cert}, now, x509.ExtKeyUsageClientAuth)
		if err == nil && peer.Node == asks.Node && i.ca.cert.Equal(i.ca.trust.byKeyID(peer.IssuerKey)) && peer.Key != asks.Key {
			return known.cert.Raw, peer, nil
		}
		return nil, Peer{}, fmt.Errorf("the new certificate for %q: %w", asks.Node, ErrKnownKey)
	}
	if sum == asks.Key || i.saidRevoked(sum) {
		return nil, Peer{}, fmt.Errorf("the new certificate for %q: %w", asks.Node, ErrKnownKey)
	}
	if !i.limit(asks.Node).AllowN(now, 1) {
		return nil, Peer{}, fmt.Errorf("the new certificate for %q: %w", asks.Node, ErrTooManyRenewals)
	}
	if err := i.issued.prune(now); err != nil {
		return nil, Peer{}, err
	}
	made, peer, err := i.ca.certify(i.issued, asks.Node, key, i.life, now)
	if err != nil {
		return nil, Peer{}, err
	}
	return made.Raw, peer, nil
}

func (i *Issuer) limit(node string) *rate.Limiter {
	l := i.renewals[node]
	if l == nil {
		l = rate.NewLimiter(rate.Every(renewalInterval), renewalsAtOnce)
		i.renewals[node] = l
	}
	return l
}

// keyFingerprint names a public key as Peer.Key does.
func keyFingerprint(key *ecdsa.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode a public key: %w", err)
	}
	return fingerprint(spki), nil
}

// Nodes are the names that have a certificate which is accepted now, as far as is known here, sorted.
func (i *Issuer) Nodes(now time.Time) ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.issued.refresh(); err != nil {
		return nil, err
	}
	return i.issued.accepted(i.ca.trust, now), nil
}

// Revoked are the nodes that were revoked, sorted. One of them that has joined again since is among
// [Issuer.Nodes] as well.
func (i *Issuer) Revoked() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ca.document.RevokedNodes()
}

// RevokedNodes are those about whom a revocation holds that was not taken back, sorted. The document may be nil.
func (d *Document) RevokedNodes() []string {
	var list []string
	if d != nil {
		for _, r := range d.Revoked {
			if !r.Lifted {
				list = append(list, r.Node)
			}
		}
	}
	return list
}

// saidRevoked says whether the document has the key, also in a revocation that was taken back.
func (i *Issuer) saidRevoked(key string) bool {
	return i.ca.document != nil && slices.ContainsFunc(i.ca.document.Revoked, func(r Revocation) bool { return slices.Contains(r.Keys, key) })
}

// Revoke cuts a node off: a document to be published, under which all certificates that its name has had up
// to now are refused, and keys (as in [Peer].Key) and all others that were certified for it, for ever. Do not
// revoke the issuer's own node, which could not take that in.
func (i *Issuer) Revoke(node string, keys []string, now time.Time) (*Document, error) {
	if err := ValidName(node); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, err
	}
	if err := i.issued.refresh(); err != nil {
		return nil, err
	}
	r := Revocation{Node: node, Before: now, At: now}
	keys = slices.Clone(keys)
	for _, c := range i.issued.of(node) {
		keys = append(keys, c.key)
		if c.at.After(r.Before) { // by hand, on a machine whose clock is ahead
			r.Before = c.at
		}
	}
	if old, ok := i.ca.document.about(node); ok {
		keys = append(keys, old.Keys...)
		if !old.At.Before(r.At) { // our clock went back
			r.At = old.At.Add(1)
		}
		if old.Before.After(r.Before) {
			r.Before = old.Before
		}
	}
	for _, key := range keys {
		if len(r.Keys) < maxRevokedKeys && !slices.Contains(r.Keys, key) {
			r.Keys = append(r.Keys, key)
		}
	}
	return i.say(now, func(d *Document) { d.Revoked = withRevocation(d.Revoked, r) })
}

// Unrevoke takes back what was said of a node: its certificates and keys are good again.
func (i *Issuer) Unrevoke(node string, now time.Time) (*Document, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return nil, err
	}
	old, ok := i.ca.document.about(node)
	if !ok || old.Lifted {
		return nil, fmt.Errorf("the node %q is not revoked", clean(node))
	}
	r := Revocation{Node: node, At: now, Lifted: true, Keys: old.Keys} // the keys: no other node may come with them
	if !old.At.Before(r.At) {
		r.At = old.At.Add(1)
	}
	return i.say(now, func(d *Document) { d.Revoked = withRevocation(d.Revoked, r) })
}

// about is what the document, which may be nil, says of a node.
func (d *Document) about(node string) (Revocation, bool) {
	if d == nil {
		return Revocation{}, false
	}
	at, ok := slices.BinarySearchFunc(d.Revoked, node, func(r Revocation, node string) int { return strings.Compare(r.Node, node) })
	if !ok {
		return Revocation{}, false
	}
	return d.Revoked[at], true
}

func withRevocation(list []Revocation, r Revocation) []Revocation {
	return append(slices.DeleteFunc(slices.Clone(list), func(o Revocation) bool { return o.Node == r.Node }), r)
}

// say makes the next document: the present one with a change, for the same CAs.
func (i *Issuer) say(now time.Time, change func(d *Document)) (*Document, error) {
	return i.sayWith(i.ca.trust, nil, now, change)
}

// sayWith makes the next document, for the CAs in trust; next is the key of one that is new among them. All
// keys sign that belong to a CA which was trusted or will be, so that whoever trusts one of them can follow.
// It is in force when it is written; ca.crt and the keys follow.
func (i *Issuer) sayWith(trust *bundle, next *ecdsa.PrivateKey, now time.Time, change func(d *Document)) (*Document, error) {
	said := Document{Farm: i.ca.Farm()}
	if d := i.ca.document; d != nil {
		said.Revoked, said.Rotation = d.Revoked, d.Rotation
	}
	change(&said)
	var err error
	if said.Number, err = nextNumber(i.number(), now); err != nil {
		return nil, err
	}
	said.Made = now
	keys := i.ca.keys
	if next != nil {
		keys = append(slices.Clone(keys), next)
	}
	d, err := signDocument(said, trust, keys...)
	if err != nil {
		return nil, fmt.Errorf("make the farm's next document: %w", err)
	}
	return d, i.commit(d)
}

// nextNumber is higher than that of any document so far, also of those that were made after the copy that this
// directory was restored from: they are numbered by the clock, in milliseconds.
func nextNumber(last uint64, now time.Time) (uint64, error) {
	if last == math.MaxUint64 {
		return 0, errors.New("the farm's document has the highest number that there is; create a new CA with \"peerstate cert init\"")
	}
	return max(last+1, uint64(max(now.UnixMilli(), 0))), nil
}

// commit puts a document in force.
func (i *Issuer) commit(d *Document) error {
	if err := i.dir.write(DocumentFile, d.Bytes()); err != nil {
		return err
	}
	i.files.document = d
	ca, err := i.files.ca()
	if err != nil {
		i.outdated = err
		return err
	}
	i.ca = ca
	return i.files.settle()
}
