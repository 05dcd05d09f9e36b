package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// helloTimeout is how long a connection has to become a link.
const helloTimeout = 5 * time.Second

// listenTLS is the configuration for those who dial this node. Certificates are judged in it, and
// nowhere else is anybody let in.
func (m *Mesh) listenTLS() *tls.Config { return m.config.Certs.ListenTLS(alpn) }

// accept takes connections until the mesh is closed. They come before their handshake is complete,
// so that one which fails is heard of, too.
func (m *Mesh) accept(listener *quic.EarlyListener) {
	for {
		conn, err := listener.Accept(m.ctx)
		if err != nil {
			return
		}
		m.wg.Go(func() { m.welcome(conn) })
	}
}

// welcome makes a link of a connection that came in, or refuses it.
func (m *Mesh) welcome(conn *quic.Conn) {
	ctx, cancel := context.WithTimeout(m.ctx, helloTimeout)
	defer cancel()
	select {
	case <-conn.HandshakeComplete():
	case <-conn.Context().Done():
		m.logRefusal(conn.RemoteAddr().String(), context.Cause(conn.Context()))
		return
	case <-ctx.Done():
		_ = conn.CloseWithError(closeRefused, "no handshake") // closed already, otherwise
		return
	}
	err := m.greet(ctx, conn)
	if err == nil || m.ctx.Err() != nil {
		return
	}
	if errors.Is(err, errFrame) {
		m.metrics.misbehaved.Inc()
	}
	if cause := context.Cause(conn.Context()); cause != nil {
		err = cause
	}
	m.log.Debug("a connection did not become a link", "addr", conn.RemoteAddr().String(), "error", err)
	_ = conn.CloseWithError(closeRefused, "hello refused") // closed already, otherwise
}

// greet reads a hello and answers it. If the link stands in the end it is served until it ends.
func (m *Mesh) greet(ctx context.Context, conn *quic.Conn) error {
	peer, err := m.config.Certs.Peer(conn.ConnectionState().TLS)
	if err != nil {
		return err // crypto/tls has asked the same before
	}
	control, err := conn.AcceptStream(ctx)
	if err != nil {
		return fmt.Errorf("waiting for its hello: %w", err)
	}
	if err := control.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	var h hello
	if err := expect(control, kindHello, &h); err != nil {
		return fmt.Errorf("reading its hello: %w", err)
	}
	l := &link{mesh: m, conn: conn, peer: peer, instance: h.Instance, site: plain(h.Site), program: plain(h.Program),
		control: control, pongs: map[uint64]pingSent{}}
	if code, text := m.judge(ctx, l, h); code != 0 {
		if err := writeFrame(control, kindRefuse, refuse{Code: code, Text: text, Instance: m.config.Instance}); err != nil {
			return err
		}
		if err := control.Close(); err != nil {
			return err
		}
		// The dialler closes the connection once it has read this.
		select {
		case <-conn.Context().Done():
		case <-ctx.Done():
		}
		return errors.New(text)
	}
	// The link stands before it is answered: who reads the answer may ask at once.
	m.mu.Lock()
	old := m.install(l)
	m.mu.Unlock()
	err = writeFrame(control, kindWelcome, welcome{Version: min(h.Max, maxVersion), Instance: m.config.Instance,
		Site: m.config.Site, Clock: time.Now().UnixNano(), Program: m.config.Program})
	if err == nil {
		err = control.SetDeadline(time.Time{})
	}
	if err != nil {
		l.close(closeMisbehaved, "the welcome could not be sent")
	}
	m.begin(l, old)
	return nil
}

// judge decides whether a hello is accepted: 0, or why not. It may ask an older link to the same node
// for a sign of life.
func (m *Mesh) judge(ctx context.Context, l *link, h hello) (refusalCode, string) {
	me, name := m.me, l.peer.Node
	if h.Max < minVersion || h.Min > maxVersion {
		m.log.Error("a peer speaks no version of the protocol that this node knows; install the same release on both",
			"peer", name, "its", fmt.Sprintf("%d to %d", h.Min, h.Max), "ours", fmt.Sprintf("%d to %d", minVersion, maxVersion))
		return refusedVersion, fmt.Sprintf("versions %d to %d of the protocol are spoken here", minVersion, maxVersion)
	}
	if name == me {
		if h.Instance == m.config.Instance {
			return refusedSelf, "this is the node itself"
		}
		m.twin(me, l.conn.RemoteAddr().String())
		return refusedTwin, fmt.Sprintf("this node is called %s itself", me)
	}
	old := m.linkTo(name)
	if old == nil || old.conn.Context().Err() != nil || m.better(l, old) || !old.alive(ctx) {
		return 0, ""
	}
	if old.instance == l.instance {
		return refusedDuplicate, "the two nodes are linked already"
	}
	m.twin(name, l.conn.RemoteAddr().String())
	return refusedTwin, fmt.Sprintf("another live node is called %s", name)
}

func (m *Mesh) twin(name, addr string) {
	m.log.Error("two machines use one node's certificate; each node needs its own: issue another one for this machine (peerstate cert issue)",
		"node", name, "refused", addr)
}

// better says which of two links to the same run of a node stays: of two that were dialled from both
// sides, the one that the smaller name has dialled, otherwise the newer.
func (m *Mesh) better(l, old *link) bool {
	if l.instance != old.instance {
		return false
	}
	if l.dialled == old.dialled {
		return true
	}
	return l.dialled == (m.me < l.peer.Node)
}

// install makes l the link to its node and gives the one that it replaces. m.mu is held.
func (m *Mesh) install(l *link) (old *link) {
	n := m.node(l.peer.Node)
	old, l.node = n.link, n
	for _, d := range m.diallers {
		if d.node == "" && slices.Contains(d.resolved, l.conn.RemoteAddr().String()) {
			d.node = n.name // it was quicker than this node's own dialling
		}
	}
	m.linked(n, l)
	return old
}

// begin serves a link that was installed, until it ends.
func (m *Mesh) begin(l, old *link) {
	if old != nil && old.instance == l.instance {
		m.wg.Go(old.retire)
	} else if old != nil {
		old.close(closeReplaced, "the node has started anew")
	}
	if m.ctx.Err() != nil {
		l.close(closeBye, "the node stops")
	}
	m.log.Info("linked", "peer", l.node.name, "site", l.site, "addr", l.conn.RemoteAddr().String(), "dialled", l.dialled)
	l.ping()
	m.resolve(l.node.name)
	l.run()
}

// logRefusal says in one plain line why a handshake failed, on whichever side.
func (m *Mesh) logRefusal(addr string, err error) string {
	if r, ok := certs.RefusalOf(err); ok {
		m.log.Error("a peer's certificate is refused: "+r.Reason.String(), "addr", addr, "detail", r.Detail, "advice", r.Reason.Advice())
		return "its certificate is refused here: " + r.Error()
	}
	var te *quic.TransportError
	if errors.As(err, &te) && te.Remote && te.ErrorCode.IsCryptoError() {
		if reason, ok := certs.ReasonOfAlert(uint8(te.ErrorCode)); ok {
			m.log.Error("a peer refuses this node's certificate: "+reason.String(), "addr", addr, "advice", reason.Advice())
			return "it refuses this node's certificate: " + reason.String()
		}
	}
	m.log.Debug("a handshake failed", "addr", addr, "error", err)
	return ""
}
