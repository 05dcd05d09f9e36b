package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// Certificates are replaced while the node runs. New handshakes use the newest snapshot, and all live connections
// are judged by it at once: TLS judges only once. Where this node's own certificate is another one, its links
// follow (renew.go).

// Certs gives the snapshot in force.
func (m *Mesh) Certs() *certs.Snapshot { return m.certs.Load() }

// SetCerts puts another snapshot in force; the same one again changes nothing. When it returns, nobody is linked who is
// not accepted by it. Links that know this node by another certificate are replaced after that, each when its
// replacement is up. Its document goes to all who have an older one, and nodes that it revokes are gone for this node.
// The snapshot must be for the same node of the same farm; otherwise it is refused, and the old one stays in
// force. What has been read from the files in Config.CertDir is put in force with UpdateCerts.
func (m *Mesh) SetCerts(s *certs.Snapshot) error {
	was, err := m.putCerts(s, nil)
	if err != nil || s == was {
		return err
	}
	self := s.Self()
	level := slog.LevelInfo
	if self.Serial == was.Self().Serial && slices.Equal(s.Authorities(), was.Authorities()) {
		level = slog.LevelDebug
	}
	m.log.Log(m.ctx, level, "other certificates are in force", "serial", self.Serial, "issuer", self.Issuer, "expires", self.Expires,
		"trusted", len(s.Authorities()), "renewed", self.Serial != was.Self().Serial)
	return nil
}

// UpdateCerts changes the snapshot in force and the files in Config.CertDir, one change at a time: change gets the
// snapshot in force and gives the next, as certs.Accept, certs.Reload and Request.Install do; nil: none. What it gives
// is put in force also when there is an error, which is returned.
func (m *Mesh) UpdateCerts(change func(s *certs.Snapshot) (*certs.Snapshot, error)) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	s, err := change(m.Certs())
	if s != nil {
		err = errors.Join(err, m.SetCerts(s))
	}
	return err
}

// putCerts is SetCerts, and gives the snapshot that was in force. from is the link that the document came over;
// nil: none.
func (m *Mesh) putCerts(s *certs.Snapshot, from *link) (was *certs.Snapshot, err error) {
	self := s.Self()
	m.mu.Lock()
	was = m.certs.Load()
	if s == was {
		m.mu.Unlock()
		return was, nil
	}
	if old := was.Self(); self.Identity != old.Identity {
		m.mu.Unlock()
		return was, fmt.Errorf("the new certificate is for the node %q of the farm %q, and this is %q of %q: the old one stays in force",
			self.Node, self.Farm, old.Node, old.Farm)
	}
	m.certs.Store(s)
	close(m.reloaded)
	m.reloaded = make(chan struct{})
	var links []*link
	for _, n := range m.nodes {
		if n.link != nil {
			links = append(links, n.link)
		}
	}
	m.dropRevoked()
	m.remap()
	m.mu.Unlock()
	m.sweep()
	for _, l := range links {
		m.refresh(l)
		m.offerUnlessFrom(l, from)
	}
	return was, nil
}

// admit takes note of a connection whose handshake is complete, until dismiss, and judges it by the
// snapshot in force: from now on each sweep does. mine is the snapshot whose certificate the other side was shown.
func (m *Mesh) admit(conn *quic.Conn, mine *certs.Snapshot) (*link, error) {
	l := &link{mesh: m, conn: conn, standing: &standing{}, pongs: map[uint64]pingSent{}}
	l.used, l.yield = context.WithCancel(context.Background())
	l.mine = mine.Self().Serial
	m.mu.Lock()
	m.conns[conn] = l
	l.judged = m.certs.Load()
	m.mu.Unlock()
	var err error
	if l.peer, err = l.judged.Peer(conn.ConnectionState().TLS); err == nil {
		l.quota = m.quota(l.peer.Node)
	}
	return l, err
}

// dismiss is called when a connection has ended.
func (m *Mesh) dismiss(l *link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, l.conn)
}

// unjudged judges a connection once more if the snapshot has been replaced since; so none that a sweep is
// about to close becomes a link. m.mu is held.
func (m *Mesh) unjudged(l *link) error {
	s := m.certs.Load()
	if s == l.judged {
		return nil
	}
	if _, err := s.Peer(l.conn.ConnectionState().TLS); err != nil {
		return err // and it is again, should somebody ask once more
	}
	l.judged = s
	return nil
}

// linksTo gives the live links to a node, also those that have been replaced, or wait to take a place.
// m.mu is held.
func (m *Mesh) linksTo(n *node) (all []*link) {
	for conn, l := range m.conns {
		if l.node == n && conn.Context().Err() == nil {
			all = append(all, l)
		}
	}
	return all
}

// sweep closes all connections, links or not, whose certificate is not accepted any more: others are trusted, or
// it has ended.
func (m *Mesh) sweep() {
	m.mu.Lock()
	s := m.certs.Load()
	inUse := map[*link]bool{}
	for _, l := range m.conns {
		inUse[l] = l.node != nil && l.node.link == l
	}
	m.mu.Unlock()
	for l, used := range inUse {
		if _, err := s.Peer(l.conn.ConnectionState().TLS); err != nil {
			l.unwanted(err, used)
		}
	}
}

// unwanted closes a connection whose certificate is not accepted.
func (l *link) unwanted(err error, used bool) {
	m := l.mesh
	if used {
		m.log.Error("a peer's certificate is no longer accepted; its link is closed", "peer", l.peer.Node, "reason", err)
	} else {
		m.log.Debug("a connection's certificate is no longer accepted", "addr", l.conn.RemoteAddr().String(), "reason", err)
	}
	reason := "certificate no longer accepted"
	if r, ok := certs.RefusalOf(err); ok {
		reason += ": " + r.Reason.String()
	}
	l.close(closeUnwanted, reason)
}

// presented gives the snapshot whose certificate a dialler was shown; nil: it has not come so far.
func presented(conn *quic.Conn) *certs.Snapshot {
	if a := arrivalOf(conn.Context()); a != nil {
		return a.shown.Load()
	}
	return nil
}

// listenTLS is the configuration for those who dial this node. Certificates are judged in it, and
// nowhere else is anybody let in. Those who want to join get another one, and are not let in by it (invite.go).
func (m *Mesh) listenTLS() *tls.Config {
	c := m.Certs().ListenTLS(alpn)
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c := m.inviteTLS(hello); c != nil {
			return c, nil
		}
		s := m.Certs()
		if a := arrivalOf(hello.Context()); a != nil {
			a.shown.Store(s)
		}
		c := s.ListenTLS(alpn)
		c.VerifyConnection = func(cs tls.ConnectionState) error { return m.Certs().ListenTLS(alpn).VerifyConnection(cs) }
		return c, nil
	}
	return c
}

// dialTLS is the configuration for dialling, and the snapshot whose certificate is shown.
func (m *Mesh) dialTLS() (*tls.Config, *certs.Snapshot) {
	s := m.Certs()
	c := s.DialTLS(alpn)
	c.VerifyConnection = func(cs tls.ConnectionState) error { return m.Certs().DialTLS(alpn).VerifyConnection(cs) }
	return c, s
}
