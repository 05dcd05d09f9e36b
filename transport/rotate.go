package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"peerstate/certs"
)

// The farm's CA is replaced in stages (certs.Issuer.Advance), and the issuer's node drives that: it asks all nodes
// that are known, those that are off among them, to prove which document and which certificate they have in
// force, has the issuer go on when all have, and publishes what comes of it. All that matters is in the document,
// so it goes on by itself after a restart. Nodes do the rest of their own: they take in what is published, and
// renew (certify.go).

const (
	// rotateStep is how often nodes are asked that have not confirmed yet.
	rotateStep = 250 * time.Millisecond
	// rotateLate is how often it is tried again to go on after an error of the issuer's, at the latest.
	rotateLate = 5 * time.Second
	// confirmAtOnce bounds how many nodes are asked at a time.
	confirmAtOnce = 64
	// rotateWarn is how long a stage may wait for nodes without a line in the log.
	rotateWarn = time.Minute
)

// rotating is what the issuer's node keeps of replacing the CA. All of it can be found out anew.
type rotating struct {
	mu        sync.Mutex
	confirmed map[string]certs.Confirmation
	waits     map[string]string // why a node has not confirmed
	asking    map[string]bool   // who is being asked
	progress  certs.Progress    // by the last look
	begun     time.Time         // of the stage
	news      chan struct{}     // with room for one: somebody has confirmed
}

func newRotating() rotating {
	return rotating{confirmed: map[string]certs.Confirmation{}, waits: map[string]string{}, asking: map[string]bool{}, news: make(chan struct{}, 1)}
}

// Rotation tells how far the replacement of the farm's CA is; false: this node is not the issuer. Each node that
// is waited for is among Waiting from the first moment on.
func (m *Mesh) Rotation() (certs.Progress, bool) {
	if m.config.Issuer == nil {
		return certs.Progress{}, false
	}
	d := m.config.Issuer.Document()
	if d == nil || d.Rotation.Stage == certs.NoRotation {
		return certs.Progress{Done: true, Number: numberOf(d), Waiting: []string{}, Confirmed: []string{}, Without: []string{}}, true
	}
	r := &m.rotating
	r.mu.Lock()
	p := r.progress
	r.mu.Unlock()
	if p.Number != d.Number { // nobody has looked yet
		p = certs.Progress{Stage: d.Rotation.Stage, To: d.Rotation.To, Number: d.Number, Confirmed: []string{},
			Waiting: slices.DeleteFunc(m.expected(), func(name string) bool { return slices.Contains(d.Rotation.Without, name) }),
			Without: append([]string{}, d.Rotation.Without...)}
	}
	return p, true
}

func numberOf(d *certs.Document) uint64 {
	if d == nil {
		return 0
	}
	return d.Number
}

// RotationWaits says, for nodes that the replacement of the CA waits for, why, in words, as far as that is known. Under
// the name of this node it is also what the issuer itself cannot do.
func (m *Mesh) RotationWaits() map[string]string {
	m.rotating.mu.Lock()
	defer m.rotating.mu.Unlock()
	return maps.Clone(m.rotating.waits)
}

// expected are all nodes that are known here, this one among them, sorted: also those that are off.
func (m *Mesh) expected() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := append(slices.Collect(maps.Keys(m.nodes)), m.me)
	slices.Sort(names)
	return names
}

// driveRotation replaces the CA whenever that is under way, until the mesh is closed.
func (m *Mesh) driveRotation() {
	for m.ctx.Err() == nil {
		m.mu.Lock()
		reloaded := m.reloaded
		m.mu.Unlock()
		t := time.NewTimer(m.rotate())
		select {
		case <-t.C:
		case <-reloaded: // with the next document, it may be
		case <-m.rotating.news:
		case <-m.ctx.Done():
		}
		t.Stop()
	}
}

// rotate goes on as far as it can, and says when to look again.
func (m *Mesh) rotate() time.Duration {
	i := m.config.Issuer
	if err := m.publishNewest(); err != nil {
		return m.rotateFailed(err)
	}
	if d := i.Document(); d == nil || d.Rotation.Stage == certs.NoRotation {
		m.rotating.mu.Lock()
		clear(m.rotating.waits)
		m.rotating.mu.Unlock()
		return m.every(rotateLate)
	}
	if err := m.Consulted(m.ctx); err != nil {
		return m.rotateFailed(err)
	}
	if err := i.Belongs(m.Certs()); err != nil {
		return m.rotateFailed(err)
	}
	m.confirmSelf()
	p, _, err := i.Advance(m.expected(), m.confirmations(), time.Now())
	if publishErr := m.publishNewest(); err != nil || publishErr != nil {
		return m.rotateFailed(errors.Join(err, publishErr))
	}
	m.rotated(p)
	for _, name := range p.Waiting {
		m.askToConfirm(name)
	}
	return rotateStep
}

func (m *Mesh) confirmations() map[string]certs.Confirmation {
	m.rotating.mu.Lock()
	defer m.rotating.mu.Unlock()
	return maps.Clone(m.rotating.confirmed)
}

func (m *Mesh) rotateFailed(err error) time.Duration {
	if m.ctx.Err() != nil {
		return 0
	}
	m.waitsFor(m.me, "the issuer cannot go on: "+err.Error())
	if m.repeats.first("rotate " + err.Error()) {
		m.log.Error("the replacement of the farm's CA cannot go on; it is tried again", "error", err)
	}
	return m.every(rotateLate)
}

// waitsFor notes why a node has not confirmed.
func (m *Mesh) waitsFor(name, why string) {
	m.rotating.mu.Lock()
	defer m.rotating.mu.Unlock()
	m.rotating.waits[name] = why
}

// rotated takes note of how far it is.
func (m *Mesh) rotated(p certs.Progress) {
	r := &m.rotating
	r.mu.Lock()
	next := p.Stage != r.progress.Stage || p.To != r.progress.To
	if next {
		r.begun = time.Now()
	}
	r.progress = p
	maps.DeleteFunc(r.waits, func(name, _ string) bool { return p.Done || !slices.Contains(p.Waiting, name) })
	maps.DeleteFunc(r.confirmed, func(name string, _ certs.Confirmation) bool {
		return p.Done || !slices.Contains(p.Waiting, name) && !slices.Contains(p.Confirmed, name)
	})
	late := time.Since(r.begun) > rotateWarn
	r.mu.Unlock()
	switch {
	case p.Done:
		m.log.Info("the farm's CA has been replaced")
	case next:
		m.log.Info("the farm's CA is being replaced", "stage", p.Stage, "document", p.Number, "waiting", len(p.Waiting))
	case late && m.repeats.first(fmt.Sprintf("rotate %s %v", p.Stage, p.Waiting)):
		m.log.Warn("the replacement of the farm's CA waits for nodes; start them, or go on without them (peerstate cert rotate-ca --without NODE)",
			"stage", p.Stage, "waiting", p.Waiting)
	}
}

// confirmSelf hears this node's own word.
func (m *Mesh) confirmSelf() {
	nonce := newNonce()
	m.hearConfirmed(m.me, nonce, m.confirmation(nonce))
}

// RotateCA begins to replace the farm's CA by a new one that lasts for life, or goes on if that is under way.
func (m *Mesh) RotateCA(ctx context.Context, life time.Duration) error {
	_, err := m.Sign(ctx, func(i *certs.Issuer, now time.Time) (*certs.Document, error) { return i.Rotate(life, now) })
	return err
}

// AbandonRotation gives the new CA up.
func (m *Mesh) AbandonRotation(ctx context.Context) error {
	_, err := m.Sign(ctx, func(i *certs.Issuer, now time.Time) (*certs.Document, error) { return i.Abandon(now) })
	return err
}

// RotateWithout stops waiting for a node while the CA is being replaced. It has to join anew if it comes back after
// that.
func (m *Mesh) RotateWithout(ctx context.Context, node string) error {
	_, err := m.Sign(ctx, func(i *certs.Issuer, now time.Time) (*certs.Document, error) { return i.GoOnWithout(node, now) })
	return err
}
