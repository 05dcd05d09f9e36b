package transport

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"peerstate/certs"
)

// Before a CA is dropped, each node has to prove to the issuer that it can do without: which document and which
// certificate it has in force. The issuer makes up a nonce for each question, and the node signs it; so what others
// have kept, or say in its place, counts for nothing.

// confirmAsk asks a node to prove what is in force there.
type confirmAsk struct {
	Nonce []byte `cbor:"1,keyasint"`
}

// confirmed is the proof (certs.Snapshot.Confirm); empty: the node is not ready. Note says in words what it waits
// for, if anything.
type confirmed struct {
	Proof []byte `cbor:"1,keyasint,omitempty"`
	Note  string `cbor:"2,keyasint,omitempty"`
}

// linksWithin is how long a node with a new certificate confirms nothing since links of it show the old one yet:
// those end when the old CA is dropped.
const linksWithin = 10 * time.Second

// askToConfirm asks a node in the background, unless it is being asked.
func (m *Mesh) askToConfirm(name string) {
	r := &m.rotating
	r.mu.Lock()
	ask := name != m.me && !r.asking[name] && len(r.asking) < confirmAtOnce
	if ask {
		r.asking[name] = true
	}
	r.mu.Unlock()
	if !ask {
		return
	}
	m.start(func() {
		nonce := newNonce()
		var back confirmed
		err := errNoPath
		if l := m.linkTo(name); l != nil {
			err = m.converse(m.ctx, l, kindConfirm, confirmAsk{Nonce: nonce}, kindConfirmed, &back)
		}
		r.mu.Lock()
		delete(r.asking, name)
		r.mu.Unlock()
		switch {
		case err == nil:
			m.hearConfirmed(name, nonce, back)
		case errors.Is(err, errNoPath):
			m.waitsFor(name, m.whyNotUp(name))
		default:
			m.waitsFor(name, "it does not answer: "+plain(err.Error()))
		}
	})
}

// whyNotUp says what is known of a node that cannot be reached.
func (m *Mesh) whyNotUp(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	if n == nil {
		return "it has a certificate, and was never linked"
	}
	return fmt.Sprintf("it is %s since %s", n.state, n.since.UTC().Format(time.RFC3339))
}

// hearConfirmed takes in what a node has answered to this nonce. Nobody can confirm for another: the certificate
// in the proof names who has signed.
func (m *Mesh) hearConfirmed(name string, nonce []byte, back confirmed) {
	if len(back.Proof) == 0 {
		m.waitsFor(name, plain(back.Note))
		return
	}
	c, err := m.Certs().Confirmed(back.Proof, nonce)
	if err == nil && c.Node != name {
		err = fmt.Errorf("%s has answered in its place", c.Node)
	}
	if err != nil {
		m.waitsFor(name, "its confirmation is not accepted: "+plain(err.Error()))
		return
	}
	r := &m.rotating
	r.mu.Lock()
	r.confirmed[name] = c
	news := c.Number >= r.progress.Number && (r.progress.Stage != certs.Renew || c.IssuerKey == r.progress.To)
	switch {
	case news:
		delete(r.waits, name)
	case back.Note != "":
		r.waits[name] = plain(back.Note)
	case c.Number < r.progress.Number:
		r.waits[name] = "it has not got the newest document yet"
	default:
		r.waits[name] = "it has not renewed its certificate yet"
	}
	r.mu.Unlock()
	if news && name != m.me {
		select {
		case r.news <- struct{}{}:
		default:
		}
	}
}

func newNonce() []byte {
	nonce := make([]byte, 2*certs.MinNonce)
	rand.Read(nonce) // never fails (crypto/rand)
	return nonce
}

// serveConfirm proves to whoever asks what is in force here.
func (l *link) serveConfirm(s *stream, header []byte) error {
	var c confirmAsk
	if err := decode(header, &c); err != nil {
		return err
	}
	if len(c.Nonce) < certs.MinNonce || len(c.Nonce) > certs.MaxNonce {
		return fmt.Errorf("%w: a nonce of %d bytes", errFrame, len(c.Nonce))
	}
	back := confirmed{Note: "it is asked too often"}
	if l.mesh.confirmGates.allow(s) {
		back = l.mesh.confirmation(c.Nonce)
	}
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	return writeFrame(s, kindConfirmed, back)
}

// confirmation proves what is in force here. It waits for links that show a certificate of the CA that is about to be
// dropped, so that none of them ends for that.
func (m *Mesh) confirmation(nonce []byte) confirmed {
	s := m.Certs()
	d := s.Document()
	renewing := d != nil && d.Rotation.Stage == certs.Renew
	if renewing && s.Self().IssuerKey == d.Rotation.To && m.oldLinks(s) {
		return confirmed{Note: "links are being replaced by such that show its new certificate"}
	}
	proof, err := s.Confirm(nonce)
	if err != nil {
		return confirmed{Note: plain(err.Error())}
	}
	back := confirmed{Proof: proof}
	if renewing && s.Self().IssuerKey != d.Rotation.To {
		back.Note = m.uncertified()
	}
	return back
}

// oldLinks tells whether the other end of a connection knows this node by another certificate than the one in
// force. It is not said for long of one certificate.
func (m *Mesh) oldLinks(s *certs.Snapshot) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	serial := s.Self().Serial
	if m.certifying.asked != serial {
		m.certifying.asked, m.certifying.askedAt = serial, time.Now()
	}
	if time.Since(m.certifying.askedAt) > linksWithin {
		return false
	}
	for conn, l := range m.conns {
		if l.node != nil && l.mine != serial && conn.Context().Err() == nil {
			return true
		}
	}
	return false
}
