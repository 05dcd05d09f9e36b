package transport

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"peerstate/certs"
)

// A link knows each side by the certificate that it has shown in the handshake. When that is not its own any
// more, a new link is made, and takes the place of the old one when it is up; only then is that one drained
// (retire.go). The side that has dialled the old one dials: the other may not be able to. It is asked to.
//
// Both ends have to agree which of two links is used. A hello carries the generation of the link, which is one
// more than that of the link that it is to replace, and the higher one wins. The listener uses it when it
// has heard the dialler on it: a dialler that gives up meanwhile leaves the old one as it was.

// renewal is what a link knows of being replaced.
type renewal struct {
	generation uint64
	mine       string               // serial of the certificate by which the other side knows this node
	judged     *certs.Snapshot      // by which the other side was judged last; under Mesh.mu once it is in Mesh.conns
	used       context.Context      // ends when another link is used instead
	yield      context.CancelFunc   // ends it
	next       atomic.Pointer[link] // which one that is; nil: none
	itsDone    atomic.Bool          // the other side opens no more streams on it
	// under Mesh.mu:
	begun    time.Time // when it came into use
	waits    bool      // the dialler has not been heard yet, and the link is not used before
	waited   bool      // that was so once
	asked    bool      // the other side wants a new link: it has another certificate
	renewing bool      // this side is dialling
	asking   bool      // this side has asked the other to
}

const (
	// maxGeneration bounds what a hello may say.
	maxGeneration = 1 << 48
	// maxSpare bounds how many links to one node may live beside the one that is used.
	maxSpare = 8
)

var (
	errLinked = errors.New(linkedAlready)
	// errUnconfirmed says that a link stands, and takes the place of the one in use when its dialler is heard.
	errUnconfirmed = errors.New("the dialler has not been heard yet")
)

// outdated tells whether a link that is in use has to be replaced. m.mu is held.
func (m *Mesh) outdated(l *link) bool {
	return !m.closed && l.node.link == l && l.conn.Context().Err() == nil && (l.asked || l.mine != m.certs.Load().Self().Serial)
}

// refresh has a link replaced if that is needed. It is called when the certificates have changed and when a link
// comes into use: they may have changed while it was made.
func (m *Mesh) refresh(l *link) {
	m.mu.Lock()
	ask := m.outdated(l) && !l.dialled && !l.asking
	if ask {
		l.asking = true
	} else if m.outdated(l) && l.dialled && !l.renewing {
		l.renewing = true
		m.wg.Go(func() { m.renewLink(l) })
	}
	m.mu.Unlock()
	if ask {
		l.say(kindRenew, bye{})
	}
}

// toRenew takes the other side's word that it has another certificate.
func (l *link) toRenew() error {
	if !l.dialled {
		return fmt.Errorf("%w: it dialled, and asks to be dialled", errFrame)
	}
	l.mesh.mu.Lock()
	l.asked = true
	l.mesh.mu.Unlock()
	l.mesh.refresh(l)
	return nil
}

// renewLink dials until another link has taken the place of l, and serves that one until it ends. l remains in use
// meanwhile.
func (m *Mesh) renewLink(l *link) {
	pause := dialSoon
	wait := l.generation > 0 && time.Since(l.begun) < steady // nobody can keep this node dialling all the time
	for {
		m.mu.Lock()
		reloaded := m.reloaded
		if !m.outdated(l) {
			l.renewing = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		if !wait {
			err := m.redial(l)
			if err == nil || m.ctx.Err() != nil {
				return
			}
			if !errors.Is(err, errLinked) && m.repeats.first("renew "+l.node.name+" "+err.Error()) {
				m.log.Warn("a link could not be renewed, which another certificate needs; the old one is used on, and it is tried again",
					"peer", l.node.name, "reason", err)
			}
			if _, refused := errors.AsType[*refusedError](err); refused {
				pause = dialRefused
			}
		}
		wait = false
		t := time.NewTimer(m.store.Jitter("renew "+l.node.name, pause))
		select {
		case <-t.C:
			pause = min(pause*2, dialLate)
		case <-reloaded:
			pause = dialSoon
		case <-l.used.Done():
		case <-l.conn.Context().Done():
		case <-m.ctx.Done():
		}
		t.Stop()
	}
}

// redial makes a link that takes the place of old, and serves it until it ends. An error says why there was none.
func (m *Mesh) redial(old *link) error {
	ctx, cancel := context.WithTimeout(m.ctx, 2*helloTimeout)
	defer cancel()
	l, err := m.call(ctx, old.conn.RemoteAddr(), old.generation+1)
	if err != nil {
		return err
	}
	defer m.dismiss(l)
	if l.peer.Node != old.peer.Node || l.instance != old.instance {
		l.close(closeRefused, "another node was meant")
		return fmt.Errorf("%s is at the address now, or has started anew", plain(l.peer.Node))
	}
	cancel()
	return m.useDialled(l)
}

// useDialled makes a link that this node has dialled the one in use, if it is the better one, and serves it until
// it ends.
func (m *Mesh) useDialled(l *link) error {
	old, err := m.install(l)
	switch {
	case err == nil:
		m.begin(l, old)
	case errors.Is(err, errLinked):
		m.wg.Go(l.retire) // the other side may use it until it hears of the better one
	default:
		l.unwanted(err, false)
		return err
	}
	l.run()
	return nil
}

// confirm says that the dialler of a link has been heard on it.
func (l *link) confirm() {
	m := l.mesh
	m.mu.Lock()
	if !l.waits {
		m.mu.Unlock()
		return
	}
	l.waits = false
	old, err := m.take(l)
	m.mu.Unlock()
	switch {
	case err == nil:
		m.begin(l, old)
	case errors.Is(err, errLinked):
		m.wg.Go(l.retire)
	default:
		l.unwanted(err, false)
	}
}

// giveUpWaiting closes a link whose dialler has not been heard.
func (l *link) giveUpWaiting() {
	l.mesh.mu.Lock()
	waits := l.waits
	l.mesh.mu.Unlock()
	if waits {
		l.close(closeRefused, "it was not used")
	}
}

// standIn lets a link whose dialler has not been heard take the place of one that has ended. The error says that
// there is none. m.mu is held.
func (m *Mesh) standIn(ended *link) (*link, error) {
	for _, l := range m.linksTo(ended.node) {
		if l.waits && l.standing == ended.standing {
			l.waits = false
			_, err := m.take(l)
			return l, err
		}
	}
	return nil, errLinked
}
