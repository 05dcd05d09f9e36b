package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// issuerFarm is a farm in one test: the issuer, which crashes at will, and nodes with directories of their own.
// After each step every two nodes must accept each other.
type issuerFarm struct {
	t      testing.TB
	dir    string // the CA's
	issuer *Issuer
	now    time.Time
	nodes  map[string]*farmNode
	// confirmed is what the issuer has heard since it was opened.
	confirmed map[string]Confirmation
	crashIn   int // changes until the issuer crashes; negative: never
	changes   []string
	crashed   bool
	accepted  map[[2]*Snapshot]bool
	numbers   map[uint64]*Document // every document that was ever seen
}

type farmNode struct {
	name    string
	dir     string
	s       *Snapshot
	gone    bool // revoked, or not waited for: no member any more
	off     bool
	pending []answer
}

// answer is one to a request that is still under way.
type answer struct {
	r    *Request
	cert []byte
}

var errCrash = errors.New("crash")

func newIssuerFarm(t testing.TB, names ...string) *issuerFarm {
	t.Helper()
	now := time.Now()
	f := &issuerFarm{t: t, dir: newCA(t, "farm", now).dir, now: now, nodes: map[string]*farmNode{}, crashIn: -1,
		accepted: map[[2]*Snapshot]bool{}, numbers: map[uint64]*Document{}}
	for _, name := range names {
		f.issueByHand(name)
	}
	f.open()
	t.Cleanup(f.stop)
	return f
}

// stop ends the issuer's process, if it runs.
func (f *issuerFarm) stop() {
	if f.issuer == nil {
		return
	}
	if err := f.issuer.Close(); err != nil {
		f.t.Error(err)
	}
	f.issuer = nil
}

// later lets a minute go by, so that each renewal is allowed.
func (f *issuerFarm) later() time.Time {
	f.now = f.now.Add(time.Minute)
	return f.now
}

// open opens the issuer, which may crash while it completes what an earlier crash has left.
func (f *issuerFarm) open() {
	f.t.Helper()
	for {
		f.crashed = false
		i, err := openIssuer(caDir{path: f.dir, before: f.before}, DefaultRenewedLife, f.later())
		if errors.Is(err, errCrash) {
			continue
		}
		if err != nil {
			f.t.Fatalf("after %q: %v", f.changes, err)
		}
		f.issuer, f.confirmed = i, map[string]Confirmation{}
		return
	}
}

func (f *issuerFarm) before(change string) error {
	if f.crashed {
		return errCrash
	}
	if f.crashIn == 0 {
		f.crashed, f.crashIn = true, -1
		f.changes = append(f.changes, "crash before "+change)
		return errCrash
	}
	if f.crashIn > 0 {
		f.crashIn--
	}
	f.changes = append(f.changes, change)
	return nil
}

// do has the issuer do something, again if it crashes.
func (f *issuerFarm) do(what string, act func() error) {
	f.t.Helper()
	for {
		err := act()
		if err == nil {
			f.check(what)
			return
		}
		if !errors.Is(err, errCrash) {
			f.t.Fatalf("%s: %v, after %q", what, err, f.changes)
		}
		f.reopen(what)
	}
}

func (f *issuerFarm) reopen(what string) {
	f.t.Helper()
	// As the crash has left it, certificates are issued by hand that all accept.
	if len(f.nodes) < 8 {
		f.issueByHand(fmt.Sprintf("hand%d", len(f.nodes)))
		f.check(what + ", crashed")
	}
	f.stop()
	f.open()
	f.check(what + ", reopened")
}

func (f *issuerFarm) issueByHand(name string) {
	f.t.Helper()
	ca, err := LoadCA(f.dir)
	if err != nil {
		f.t.Fatalf("issue by hand: %v, after %q", err, f.changes)
	}
	dir := filepath.Join(f.t.TempDir(), name)
	if _, err := ca.Issue(dir, name, DefaultNodeLife, f.later()); err != nil {
		f.t.Fatalf("issue by hand: %v, after %q", err, f.changes)
	}
	s, err := Load(dir, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	f.nodes[name] = &farmNode{name: name, dir: dir, s: s}
}

// check is the promise: every two nodes in the farm accept each other, whatever each knows already.
func (f *issuerFarm) check(when string) {
	f.t.Helper()
	if i := f.issuer; i != nil {
		f.saw(i.Document())
	}
	for _, a := range f.nodes {
		for _, b := range f.nodes {
			pair := [2]*Snapshot{a.s, b.s}
			if a.gone || b.gone || f.accepted[pair] {
				continue
			}
			for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
				if _, err := a.s.trust.verify([]*x509.Certificate{b.s.cert.Leaf}, f.now, use); err != nil {
					f.t.Fatalf("%s: %s (document %d) refuses %s (document %d): %v; after %q", when, a.name, a.s.DocumentNumber(), b.name, b.s.DocumentNumber(), err, f.changes)
				}
			}
			f.accepted[pair] = true
		}
	}
}

// saw finds out whether a number was used for two documents.
func (f *issuerFarm) saw(d *Document) {
	f.t.Helper()
	if d == nil {
		return
	}
	if o := f.numbers[d.Number]; o != nil && !o.Equal(d) {
		f.t.Fatalf("two documents have the number %d", d.Number)
	}
	f.numbers[d.Number] = d
}

// tell gives a node a document, or nothing if it is old.
func (f *issuerFarm) tell(n *farmNode, d *Document) {
	f.t.Helper()
	if d == nil || d.Number <= n.s.DocumentNumber() {
		return
	}
	f.saw(d)
	s, err := Accept(n.dir, n.s, d.Bytes(), f.now)
	if err != nil {
		if n.gone {
			return
		}
		f.t.Fatalf("%s does not take in document %d: %v; after %q", n.name, d.Number, err, f.changes)
	}
	n.s = s
	f.check(n.name + " has taken in a document")
}

// ask has a node ask for a new certificate; the answer is on its way.
func (f *issuerFarm) ask(n *farmNode) {
	f.t.Helper()
	r, err := NewRequest(n.s, f.later())
	if err != nil {
		f.t.Fatal(err)
	}
	f.do(n.name+" asks", func() error {
		cert, _, err := f.issuer.Renew(r.Bytes(), f.now)
		if refusal, ok := errors.AsType[*Refusal](err); ok && n.gone {
			f.t.Logf("%s gets none: %v", n.name, refusal)
			return nil
		}
		if errors.Is(err, ErrTooManyRenewals) {
			return nil
		}
		if err == nil {
			n.pending = append(n.pending, answer{r, cert})
		}
		return err
	})
}

// install has an answer arrive, which may be too late.
func (f *issuerFarm) install(n *farmNode, at int) bool {
	f.t.Helper()
	a := n.pending[at]
	n.pending = slices.Delete(n.pending, at, at+1)
	s, err := a.r.Install(n.dir, a.cert, f.now)
	if err == nil {
		n.s = s
	}
	f.check(n.name + " has renewed")
	return err == nil
}

func (f *issuerFarm) confirm(n *farmNode, by *farmNode) {
	f.t.Helper()
	nonce := make([]byte, MinNonce)
	data, err := n.s.Confirm(nonce)
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := by.s.Confirmed(data, nonce)
	if err != nil {
		if n.gone || by.gone {
			return
		}
		f.t.Fatal(err)
	}
	f.confirmed[n.name] = c
}

func (f *issuerFarm) names() []string {
	var list []string
	for name := range f.nodes {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func (f *issuerFarm) advance() (p Progress) {
	f.t.Helper()
	f.do("advance", func() error {
		var err error
		p, _, err = f.issuer.Advance(f.names(), f.confirmed, f.later())
		return err
	})
	return p
}

// round has every member do what it is asked for now.
func (f *issuerFarm) round() Progress {
	f.t.Helper()
	d := f.issuer.Document()
	for _, name := range f.names() {
		n := f.nodes[name]
		if n.gone {
			continue
		}
		f.tell(n, d)
		if d.Rotation.Stage == Renew && n.s.Self().IssuerKey != d.Rotation.To {
			f.ask(n)
			for len(n.pending) > 0 {
				f.install(n, len(n.pending)-1)
			}
		}
		f.confirm(n, n)
	}
	return f.advance()
}

// reach goes on until the rotation is at the stage.
func (f *issuerFarm) reach(stage Stage) {
	f.t.Helper()
	for range 40 {
		if d := f.issuer.Document(); d != nil && d.Rotation.Stage == stage {
			return
		}
		f.round()
	}
	f.t.Fatalf("stage %q is not reached; after %q", stage, f.changes)
}

func (f *issuerFarm) rotate() {
	f.t.Helper()
	f.do("rotate", func() error { _, err := f.issuer.Rotate(DefaultCALife, f.later()); return err })
}

func (f *issuerFarm) abandon() {
	f.t.Helper()
	f.do("abandon", func() error {
		if d := f.issuer.Document(); d.Rotation.Stage == Drop {
			return nil // it crashed after that was said
		}
		_, err := f.issuer.Abandon(f.later())
		return err
	})
}

// copyDir is a copy of a directory, as an operator makes one.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// restore puts an older copy in the place of the CA's directory.
func (f *issuerFarm) restore(from string) error {
	f.t.Helper()
	f.stop()
	if err := errors.Join(os.RemoveAll(f.dir), os.CopyFS(f.dir, os.DirFS(from))); err != nil {
		f.t.Fatal(err)
	}
	f.crashed, f.crashIn = false, -1
	i, err := openIssuer(caDir{path: f.dir, before: f.before}, DefaultRenewedLife, f.later())
	if err != nil {
		return err
	}
	f.issuer, f.confirmed = i, map[string]Confirmation{}
	return nil
}
