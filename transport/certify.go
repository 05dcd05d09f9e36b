package transport

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"time"

	"peerstate/certs"
)

// A node gets its next certificate from the farm's issuer, over a link or a way through others. What it sends
// proves its name and its new key by itself (certs.Request), and what comes back is of use to nobody else; so it
// does not matter who passes them on, and a node that only says that it is the issuer gains nothing.
//
// It asks when a third of its certificate's life is left, and at once when the CA is being replaced and its certificate
// is not of the CA that remains. The clock decides, which is looked at again and again: a machine that
// was asleep is not late by as long as it slept. What keeps it from asking all the time, whatever the clocks and the
// answers say, is measured without the clock.

// certify asks the issuer for a certificate.
type certify struct {
	Request []byte `cbor:"1,keyasint"`
}

// certified is its answer: a certificate, or why there is none.
type certified struct {
	Certificate []byte `cbor:"1,keyasint,omitempty"`
	Refused     string `cbor:"2,keyasint,omitempty"`
}

const (
	// certifyMost bounds how many nodes that say they are the issuer are asked, one after the other.
	certifyMost = 4
	// certifySoon is the first pause after a failure. It doubles up to a twentieth of what is left of the
	// certificate, certifyLate at most; certifyStage while the CA is being replaced, as somebody waits for that.
	certifySoon  = time.Second
	certifyLate  = time.Hour
	certifyStage = 10 * time.Second
	// certifyLook is how long the clock is not looked at.
	certifyLook = time.Minute
	// certifyKeep is how long a request that was not answered is sent again, which gets the same certificate as
	// before if only the answer was lost.
	certifyKeep = 30 * time.Minute
	// certifySpread is over how long the nodes of a farm spread their requests for each node in it when all have to
	// renew at once, mostCertifySpread at most.
	certifySpread     = 20 * time.Millisecond
	mostCertifySpread = 2 * time.Second
	// uncertifiedWarn is how long before its end a certificate is warned of that nobody renews.
	uncertifiedWarn = 30 * 24 * time.Hour
	day             = 24 * time.Hour
)

var (
	// ErrNoIssuer says that no node of the farm that can be reached is the issuer.
	ErrNoIssuer = errors.New("no node that can be reached is the farm's issuer (the one that runs with PEERSTATE_CA_DIR): start that one, " +
		"or issue a certificate by hand (peerstate cert issue)")
	// ErrNoCertDir says that this node does not know where its certificates are kept.
	ErrNoCertDir = errors.New("this node does not know where its certificates are kept, so it cannot renew them")
)

// notCertified is the issuer's refusal, in its words.
type notCertified struct{ issuer, reason string }

func (e *notCertified) Error() string {
	return fmt.Sprintf("%s gives no new certificate: %s", e.issuer, e.reason)
}

// certifying is what a node knows of getting a new certificate.
type certifying struct {
	busy    chan struct{} // with room for one: whoever has put something in is getting one
	pending *certs.Request
	of      string    // serial of the certificate that has signed it
	made    time.Time // when
	// under Mesh.mu:
	problem error     // why the last try has failed; nil: it has not
	asked   string    // serial of the certificate that was last asked for to be proven
	askedAt time.Time // when it first was
}

// RenewNow gets a new certificate from the farm's issuer, whether the present one needs to be renewed or not,
// and puts it in force. Without an issuer that can be reached it is [ErrNoIssuer].
func (m *Mesh) RenewNow(ctx context.Context) (certs.Peer, error) {
	if m.config.CertDir == "" {
		return certs.Peer{}, ErrNoCertDir
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	select {
	case m.certifying.busy <- struct{}{}:
	case <-ctx.Done():
		return certs.Peer{}, ctx.Err()
	}
	defer func() { <-m.certifying.busy }()
	err := m.renewCertificate(ctx)
	m.mu.Lock()
	m.certifying.problem = err
	m.mu.Unlock()
	if err != nil {
		return certs.Peer{}, err
	}
	self := m.Certs().Self()
	m.log.Info("this node has a new certificate", "serial", self.Serial, "issuer", self.Issuer, "expires", self.Expires)
	return self, nil
}

// uncertified says for others why the last try has failed; "" if it has not.
func (m *Mesh) uncertified() string {
	m.mu.Lock()
	err := m.certifying.problem
	m.mu.Unlock()
	if _, file := errors.AsType[*certs.FileError](err); file {
		return "its new certificate cannot be written there; its log says why"
	}
	if err == nil {
		return ""
	}
	return plain(err.Error())
}

// renewCertificate asks and installs. It is called by one at a time.
func (m *Mesh) renewCertificate(ctx context.Context) error {
	c := &m.certifying
	s, now := m.Certs(), time.Now()
	if age := now.Sub(c.made); c.pending == nil || c.of != s.Self().Serial || age > certifyKeep || wallClock(now).Sub(wallClock(c.made)).Abs() > certifyKeep {
		r, err := certs.NewRequest(s, now)
		if err != nil {
			return err
		}
		c.pending, c.of, c.made = r, s.Self().Serial, now
	}
	r := c.pending
	der, err := m.getCertified(ctx, r.Bytes())
	if _, refused := errors.AsType[*notCertified](err); err == nil || refused {
		c.pending = nil
	}
	if err != nil {
		return err
	}
	return m.UpdateCerts(func(was *certs.Snapshot) (*certs.Snapshot, error) {
		if _, err := r.Install(m.config.CertDir, der, time.Now()); err != nil {
			return nil, err
		}
		return certs.Reload(m.config.CertDir, was, time.Now()) // with the document in force, if that is not on the disk
	})
}

// wallClock is a time without the monotonic clock's reading.
func wallClock(t time.Time) time.Time { return t.Round(0) }

// getCertified asks the issuer. Who says that it is the issuer may not be: the others are asked, too.
func (m *Mesh) getCertified(ctx context.Context, request []byte) ([]byte, error) {
	if m.config.Issuer != nil {
		der, _, err := m.issue(ctx, request)
		if err != nil {
			return nil, &notCertified{"this node's own CA", err.Error()}
		}
		return der, nil
	}
	err := ErrNoIssuer
	issuers := m.issuers()
	rand.Shuffle(len(issuers), func(i, j int) { issuers[i], issuers[j] = issuers[j], issuers[i] })
	for _, name := range issuers[:min(len(issuers), certifyMost)] {
		der, askErr := m.askForCertificate(ctx, name, request)
		if askErr == nil {
			return der, nil
		}
		err = askErr
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// issuers are the nodes that can be reached and say that they are the farm's issuer.
func (m *Mesh) issuers() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, ll := range m.atlas.lists {
		if n := m.nodes[name]; ll.Issuer && n != nil && n.way() != nil {
			names = append(names, name)
		}
	}
	return names
}

func (m *Mesh) askForCertificate(ctx context.Context, name string, request []byte) ([]byte, error) {
	var back certified
	l := m.linkTo(name)
	if l == nil {
		return nil, ErrNoIssuer
	}
	if err := m.converse(ctx, l, kindCertify, certify{Request: request}, kindCertified, &back); err != nil {
		return nil, fmt.Errorf("asking the issuer %s for a new certificate: %w", name, err)
	}
	if len(back.Certificate) == 0 {
		return nil, &notCertified{"the issuer " + name, plain(back.Refused)}
	}
	return back.Certificate, nil
}

// renewalTime says when a certificate is to be replaced, and whether the replacement of the CA asks for that.
func renewalTime(s *certs.Snapshot) (due time.Time, stage bool) {
	self := s.Self()
	if d := s.Document(); d != nil && d.Rotation.Stage == certs.Renew && self.IssuerKey != d.Rotation.To {
		return time.Time{}, true
	}
	life := self.Expires.Sub(self.Issued)
	// Each certificate has its own moment, the same after a restart, and at least a third of its life is left then.
	h := fnv.New64a()
	_, _ = h.Write([]byte(self.Serial)) // never fails
	spread := time.Duration(h.Sum64() % uint64(max(life/20, 1)))
	return self.Issued.Add(life*2/3 - spread), false
}

// keepCertified renews this node's certificate in time, until the mesh is closed.
func (m *Mesh) keepCertified() {
	w := &renewalWatch{mesh: m, clock: time.Now}
	for m.ctx.Err() == nil {
		m.mu.Lock()
		reloaded, change := m.reloaded, m.change
		m.mu.Unlock()
		if w.noIssuer == nil {
			change = nil // nothing but time and other certificates change anything
		}
		t := time.NewTimer(w.look())
		select {
		case <-t.C:
		case <-reloaded:
		case <-change:
		case <-m.ctx.Done():
		}
		t.Stop()
	}
}

// renewalWatch is what keepCertified remembers.
type renewalWatch struct {
	mesh     *Mesh
	clock    func() time.Time // of the machine, which may jump
	serial   string           // of the certificate that was last looked at
	stage    certs.Rotation   // and the rotation then
	notYet   time.Time        // by the monotonic clock: no try before
	pause    time.Duration    // after the next failure
	failing  time.Time        // since when it does; zero: it does not
	noIssuer error            // it has failed since there is no issuer, and may not when somebody comes; nil: not so
	logged   time.Time        // when it was last said that nobody renews
	ended    bool             // and that the certificate has ended
}

// look renews if that is due, and says when to look again.
func (w *renewalWatch) look() time.Duration {
	m := w.mesh
	s := m.Certs()
	due, stage := renewalTime(s)
	w.fresh(s, stage)
	if left := s.Self().Expires.Sub(w.clock()); left <= 0 {
		w.say(s, errors.New("it has ended"))
		return m.every(certifyLook)
	}
	if w.noIssuer != nil && len(m.issuers()) > 0 {
		// It has come back: all who have waited for it ask now.
		w.noIssuer, w.pause, w.notYet = nil, certifySoon, time.Now().Add(w.spread())
	}
	now := time.Now()
	wait := due.Sub(w.clock())
	if stage || wait <= 0 {
		wait = w.notYet.Sub(now)
	}
	if wait > 0 {
		if w.noIssuer != nil {
			w.say(s, w.noIssuer)
		}
		return min(wait, m.every(certifyLook))
	}
	if _, err := m.RenewNow(m.ctx); err != nil {
		if m.ctx.Err() == nil {
			w.failed(s, stage, err)
		}
		return 0
	}
	self := m.Certs().Self()
	// The next one is due when this one says, but not at once, whatever the clocks are.
	*w = renewalWatch{mesh: m, clock: w.clock, serial: self.Serial, stage: rotationOf(m.Certs()), notYet: time.Now().Add(self.Expires.Sub(self.Issued) / 20)}
	return 0
}

func rotationOf(s *certs.Snapshot) (r certs.Rotation) {
	if d := s.Document(); d != nil {
		r.Stage, r.To = d.Rotation.Stage, d.Rotation.To
	}
	return r
}

// fresh forgets what was about another certificate, or another stage of the CA's replacement.
func (w *renewalWatch) fresh(s *certs.Snapshot, stage bool) {
	r, serial := rotationOf(s), s.Self().Serial
	if serial == w.serial && r.Stage == w.stage.Stage && r.To == w.stage.To {
		return
	}
	if w.serial != "" && serial != w.serial || stage {
		*w = renewalWatch{mesh: w.mesh, clock: w.clock}
	}
	if stage {
		w.notYet = time.Now().Add(w.spread())
	}
	w.serial, w.stage = serial, r
}

// spread is how long this node waits when all want a certificate at once.
func (w *renewalWatch) spread() time.Duration {
	m := w.mesh
	m.mu.Lock()
	nodes := len(m.nodes)
	m.mu.Unlock()
	return rand.N(min(time.Duration(nodes+1)*certifySpread, mostCertifySpread))
}

// failed has the next try wait.
func (w *renewalWatch) failed(s *certs.Snapshot, stage bool, err error) {
	now := time.Now()
	if w.failing.IsZero() {
		w.failing, w.pause = now, certifySoon
	}
	most := min(max(s.Self().Expires.Sub(w.clock())/20, certifySoon), certifyLate)
	if stage {
		most = min(most, certifyStage)
	}
	w.pause = min(w.pause, most)
	w.notYet = now.Add(w.mesh.store.Jitter("certify", w.pause))
	w.pause *= 2
	w.noIssuer = nil
	if errors.Is(err, ErrNoIssuer) {
		w.noIssuer = err
	}
	w.say(s, err)
}

// say logs that the certificate is not renewed, rarely at first, and more often the nearer its end is.
func (w *renewalWatch) say(s *certs.Snapshot, err error) {
	now, self := time.Now(), s.Self()
	left, life := self.Expires.Sub(w.clock()), self.Expires.Sub(self.Issued)
	switch patience := min(time.Hour, life/100); {
	case left < min(life/6, uncertifiedWarn):
	case errors.Is(err, ErrNoIssuer) && left > uncertifiedWarn:
		return // renewed by hand, it may be
	case !w.failing.IsZero() && now.Sub(w.failing) < patience:
		return // the issuer is being started, it may be
	}
	every := time.Hour
	if left > 0 {
		every = min(max(left/8, min(life/100, 10*time.Minute)), day)
	}
	if ended := left <= 0; !w.logged.IsZero() && now.Sub(w.logged) < every && ended == w.ended {
		return
	}
	w.logged, w.ended = now, left <= 0
	m := w.mesh
	switch level := slog.LevelWarn; {
	case left <= 0:
		m.log.Error("this node's certificate has ended, and nobody lets it in any more; make another where the farm's CA is (peerstate cert issue), "+
			"or have it join anew (peerstate cert token), and start it again", "expired", self.Expires, "reason", err)
	default:
		if left < life/12 {
			level = slog.LevelError
		}
		m.log.Log(m.ctx, level, "this node's certificate could not be renewed so far; it is tried again until it ends", "expires", self.Expires,
			"left", left.Round(time.Minute).String(), "reason", err)
	}
}
