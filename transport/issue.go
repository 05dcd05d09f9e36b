package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"peerstate/certs"
)

// The farm's issuer is the node that has the CA's key (certs.Issuer). It gives certificates to whoever proves with a
// present one that it is that node, and signs the farm's documents.

const (
	// Of what something has to be signed for, so many may come over one link at once, and so many a second: all nodes
	// of a big farm behind it may want a certificate at the same moment, and who floods should not keep them from
	// that.
	gateBurst = 200
	gateRate  = 50
)

// gates count what comes over each link for which something has to be signed.
type gates struct {
	mu  sync.Mutex
	all map[string]*rate.Limiter // by the name at the other end
}

func (g *gates) allow(s *stream) bool {
	name := s.link.node.name
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil || len(g.all) >= 2*maxLearned { // names are proven: there are as many as there are certificates
		g.all = map[string]*rate.Limiter{}
	}
	gate := g.all[name]
	if gate == nil {
		gate = rate.NewLimiter(gateRate, gateBurst)
		g.all[name] = gate
	}
	return gate.Allow()
}

// serveCertify answers a node that wants a certificate.
func (l *link) serveCertify(s *stream, header []byte) error {
	m := l.mesh
	var c certify
	if err := decode(header, &c); err != nil {
		return err
	}
	if len(c.Request) == 0 || len(c.Request) > certs.MaxRequest {
		return fmt.Errorf("%w: a request for a certificate of %d bytes", errFrame, len(c.Request))
	}
	var back certified
	der, peer, err := m.serveIssue(l, s, c.Request)
	if err == nil {
		back.Certificate = der
		m.log.Info("a node was given a new certificate", "peer", peer.Node, "serial", peer.Serial, "issuer", peer.Issuer, "expires", peer.Expires)
	} else {
		back.Refused = err.Error()
		if m.repeats.first("certify " + l.node.name + " " + back.Refused) {
			m.log.Warn("a node was given no new certificate", "from", l.node.name, "reason", err)
		}
	}
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	return writeFrame(s, kindCertified, back)
}

func (m *Mesh) serveIssue(l *link, s *stream, request []byte) ([]byte, certs.Peer, error) {
	if m.config.Issuer == nil {
		return nil, certs.Peer{}, errors.New("this node is not the farm's issuer")
	}
	if !m.certifyGates.allow(s) {
		return nil, certs.Peer{}, errors.New("too many requests come this way; ask later")
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.config.FetchTimeout/2)
	defer cancel()
	der, peer, err := m.issue(ctx, request)
	if err == nil && !l.far && peer.Node != l.node.name {
		// It harms nobody, as that one alone has the key; but no node sends it.
		return nil, certs.Peer{}, fmt.Errorf("it is a request of %s", peer.Node)
	}
	return der, peer, err
}

// issue has the CA give a certificate. The error may be told to whoever asks.
func (m *Mesh) issue(ctx context.Context, request []byte) ([]byte, certs.Peer, error) {
	i := m.config.Issuer
	if err := m.Consulted(ctx); err != nil {
		return nil, certs.Peer{}, errors.New("the issuer has just started; ask again")
	}
	err := i.Belongs(m.Certs())
	var der []byte
	var peer certs.Peer
	if err == nil {
		der, peer, err = i.Renew(request, time.Now())
	}
	if file, ok := errors.AsType[*certs.FileError](err); ok {
		if m.repeats.first("issue " + file.Error()) {
			m.log.Error("the farm's CA can issue no certificates", "error", file)
		}
		return nil, certs.Peer{}, errors.New("the farm's CA can issue none at this time; the issuer's log says why")
	}
	return der, peer, err
}

// Sign has the farm's issuer, which must be this node, say something to all nodes, and publishes it: f gives a
// document, or an error, which is returned. It waits until this node has heard what the others know, so that
// nothing newer is contradicted. The document may be in force even if there was an error, and is published then.
func (m *Mesh) Sign(ctx context.Context, f func(i *certs.Issuer, now time.Time) (*certs.Document, error)) (*certs.Document, error) {
	i := m.config.Issuer
	if i == nil {
		if names := m.issuers(); len(names) > 0 {
			return nil, fmt.Errorf("this node is not the farm's issuer; ask on %s", names[0])
		}
		return nil, errors.New("this node is not the farm's issuer, which is the one that runs with PEERSTATE_CA_DIR; none that is can be reached")
	}
	if err := m.Consulted(ctx); err != nil {
		return nil, fmt.Errorf("hearing what the other nodes know: %w", err)
	}
	if err := i.Belongs(m.Certs()); err != nil {
		return nil, err
	}
	d, err := f(i, time.Now())
	return d, errors.Join(err, m.publishNewest())
}

// publishNewest publishes what the issuer has said last, if that is not in force here: this node may have crashed
// in between.
func (m *Mesh) publishNewest() error {
	d := m.config.Issuer.Document()
	if d == nil || d.Number <= m.Certs().DocumentNumber() {
		return nil
	}
	if err := m.Publish(d); err != nil && !errors.Is(err, certs.ErrOldDocument) {
		return fmt.Errorf("publishing document %d: %w", d.Number, err)
	}
	return nil
}
