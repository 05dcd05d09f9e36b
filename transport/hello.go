package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// helloTimeout is how long a connection has to become a link.
const helloTimeout = 5 * time.Second

// listen takes connections until the mesh is closed. They come before their handshake is complete,
// so that one which fails is heard of, too.
func (m *Mesh) listen(listener *quic.EarlyListener) {
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
	if conn.ConnectionState().TLS.NegotiatedProtocol == certs.JoinALPN {
		m.visit(conn)
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
	mine := presented(conn)
	if mine == nil {
		return errors.New("a handshake without a hello")
	}
	l, err := m.admit(conn, mine)
	defer m.dismiss(l)
	if err != nil {
		l.unwanted(err, false) // crypto/tls has asked the same before
		return err
	}
	arrivalOf(conn.Context()).leave()
	in, ok := l.quota.knock()
	if !ok {
		return errTooMuch
	}
	defer in()
	control, err := conn.AcceptStream(ctx)
	if err != nil {
		return fmt.Errorf("waiting for its hello: %w", err)
	}
	if err := control.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	k, data, err := readFrame(control)
	if err != nil {
		return fmt.Errorf("reading its hello: %w", err)
	}
	var h hello
	switch k {
	case kindHello:
		err = decode(data, &h)
	case kindPing:
		return m.lookedAt(ctx, conn, control, data)
	case kindWant:
		return m.consultedBy(ctx, l, control, data)
	default:
		err = fmt.Errorf("%w: kind %d instead of a hello", errFrame, k)
	}
	if err == nil {
		err = checkAliases(h.Aliases)
	}
	if err == nil && h.Generation > maxGeneration {
		err = fmt.Errorf("%w: a link of generation %d", errFrame, h.Generation)
	}
	if err != nil {
		return err
	}
	if err := m.exchange(l, control, &h); err != nil {
		return err
	}
	if err := m.hearOthers(ctx, l); err != nil {
		return err
	}
	l.control, l.instance, l.holds, l.site, l.program, l.generation = control, h.Instance, h.Holds, plain(h.Site), plain(h.Program), h.Generation
	l.aliases = h.Aliases
	l.version = min(h.Max, maxVersion)
	code, text := m.judge(ctx, l, h)
	var old *link
	if code == 0 {
		old, err = m.accept(l)
		switch {
		case errors.Is(err, errLinked):
			code, text = refusedDuplicate, linkedAlready
		case err != nil && !errors.Is(err, errUnconfirmed):
			l.unwanted(err, false)
			return err
		}
	}
	if code != 0 {
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
	// quic-go gives no error here; a deadline left over would only end the link.
	_ = control.SetDeadline(time.Time{})
	if err == nil {
		m.begin(l, old)
	} else {
		defer time.AfterFunc(helloTimeout, l.giveUpWaiting).Stop()
	}
	in()
	l.run()
	return nil
}

// accept installs a link that was dialled by the other side, and says welcome. The link stands before it
// is answered: who reads the answer may ask at once. No ping gets in front of the welcome.
func (m *Mesh) accept(l *link) (old *link, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, err = m.install(l); err == nil || errors.Is(err, errUnconfirmed) {
		l.send(kindWelcome, welcome{Version: l.version, Instance: m.config.Instance, Holds: m.store.Stats().Active > 0,
			Site: m.config.Site, Clock: time.Now().UnixNano(), Program: m.config.Program, Number: m.Certs().DocumentNumber(), Aliases: m.config.Aliases})
	}
	return old, err
}

// lookedAt answers a node that only wants to know whether it would be let in (see Probe).
func (m *Mesh) lookedAt(ctx context.Context, conn *quic.Conn, control *quic.Stream, data []byte) error {
	var p ping
	if err := decode(data, &p); err != nil {
		return err
	}
	if err := writeFrame(control, kindPong, ping{N: p.N, Clock: time.Now().UnixNano(),
		Program: m.config.Program, Reach: m.reaches(), Hops: m.config.MaxHops, Aliases: m.config.Aliases}); err != nil {
		return err
	}
	select {
	case <-conn.Context().Done():
	case <-ctx.Done():
	}
	return errors.New("it only looked")
}

const linkedAlready = "the two nodes are linked already"

// judge decides whether a hello is accepted: 0, or why not.
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
	return m.contest(ctx, l)
}

// contest decides whether a link may be used where there may be another to the same node: 0, or why
// not. The other one is asked for a sign of life, and closed if there is none.
func (m *Mesh) contest(ctx context.Context, l *link) (refusalCode, string) {
	name := l.peer.Node
	old := m.direct(name)
	if old == nil && m.livesElsewhere(ctx, l) {
		m.twin(name, l.conn.RemoteAddr().String())
		return refusedTwin, fmt.Sprintf("another live node is called %s", name)
	}
	if old == nil || old.conn.Context().Err() != nil || m.better(l, old) {
		return 0, ""
	}
	if !old.alive(ctx) {
		old.closeAll(closeReplaced, "it gives no sign of life")
		return 0, ""
	}
	if old.instance == l.instance {
		return refusedDuplicate, linkedAlready
	}
	m.twin(name, l.conn.RemoteAddr().String())
	return refusedTwin, fmt.Sprintf("another live node is called %s", name)
}

// livesElsewhere tells whether another run of l's node is reached through others, and answers. A node that
// has started anew gets there under its new run, or nobody answers.
func (m *Mesh) livesElsewhere(ctx context.Context, l *link) bool {
	m.mu.Lock()
	var far *link
	if n := m.nodes[l.peer.Node]; n != nil {
		far = n.far
	}
	m.mu.Unlock()
	if far == nil || far.instance == l.instance {
		return false
	}
	_, lives := m.signOfLife(ctx, far)
	return lives
}

// twin says that there are two nodes of one name, and which one is refused.
func (m *Mesh) twin(name, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if !m.repeats.first("twin " + name + " " + host) { // at how many ports soever it is
		return
	}
	m.log.Error("two machines use one node's certificate; each node needs its own: issue another one for this machine (peerstate cert issue)",
		"name", name, "refused", addr)
}

// better says whether a link takes the place of another that lives: one of a later generation does. Of two
// that were dialled from both sides, the one that the smaller name has dialled is used. Of two from one side
// it is the first.
func (m *Mesh) better(l, old *link) bool {
	if l.instance != old.instance || l.generation != old.generation {
		return l.instance == old.instance && l.generation > old.generation
	}
	return l.dialled != old.dialled && l.dialled == (m.me < l.peer.Node)
}

// install makes l the link to its node and gives the one that it replaces. The error is errLinked when
// there is one already that stays, errUnconfirmed when it has to wait for its dialler (renew.go), or says why the
// other side's certificate is not accepted any more.
func (m *Mesh) install(l *link) (old *link, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[l.peer.Node]
	if n == nil || n.link == nil || l.dialled || l.generation == 0 || !n.link.lives(l.instance) || !m.better(l, n.link) {
		return m.take(l)
	}
	if err := m.unjudged(l); err != nil {
		return nil, err
	}
	if len(m.linksTo(n)) > maxSpare {
		return nil, errLinked
	}
	l.node, l.standing, l.waits, l.waited = n, n.link.standing, true, true
	return nil, errUnconfirmed
}

// lives tells whether a link has not ended, and is with that run of its node.
func (l *link) lives(instance uint64) bool {
	return l.instance == instance && l.conn.Context().Err() == nil
}

// take is install without waiting. m.mu is held.
func (m *Mesh) take(l *link) (old *link, err error) {
	if err := m.unjudged(l); err != nil {
		return nil, err
	}
	if l.waited && m.nodes[l.peer.Node] != l.node {
		l.close(closeReplaced, "the node was forgotten") // it dials anew
		return nil, errLinked
	}
	if !l.waited { // it is being served otherwise, and its node is known
		l.node = m.node(l.peer.Node)
	}
	n := l.node
	old = n.link
	live := old != nil && old.lives(l.instance)
	if live && !m.better(l, old) {
		l.replacedBy(old)
		return nil, errLinked
	}
	l.begun = time.Now()
	l.since = l.begun
	if live && !l.waited {
		l.standing = old.standing
	}
	if old != nil && old.standing == l.standing {
		l.since = old.since
		old.replacedBy(l)
	}
	for _, d := range m.diallers {
		if d.node == "" && slices.Contains(d.resolved, l.conn.RemoteAddr().String()) {
			d.node = n.name // it was quicker than this node's own dialling
		}
	}
	m.linked(n, l)
	return old, nil
}

// begin says on a link that was installed what is to be said first, and drains the one that it replaces.
func (m *Mesh) begin(l, old *link) {
	if old != nil && old.instance == l.instance {
		m.wg.Go(old.retire)
	} else if old != nil {
		m.mu.Lock()
		all := m.linksTo(l.node)
		m.mu.Unlock()
		for _, o := range all {
			if o.instance != l.instance {
				o.close(closeReplaced, "the node has started anew")
			}
		}
	}
	if m.ctx.Err() != nil {
		l.close(closeBye, "the node stops")
	}
	level := slog.LevelInfo
	if old != nil && old.instance == l.instance {
		level = slog.LevelDebug // one link has taken another's place
	}
	by := l.node.name
	if l.dialled {
		by = m.me
	}
	m.log.Log(m.ctx, level, "linked", "peer", l.node.name, "site", l.site, "addr", l.conn.RemoteAddr().String(), "dialled_by", by)
	l.ping()
	m.tell(l)
	m.resolve(l.node.name)
	m.wg.Go(func() { m.meet(l) })
	m.refresh(l)
}

// logRefusal says in one plain line why a handshake failed, on whichever side, and gives that line; "" if
// it was not about a certificate.
func (m *Mesh) logRefusal(addr string, err error) string {
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		host = addr
	}
	if r, ok := certs.RefusalOf(err); ok {
		if m.alien.first(host + " is refused: " + r.Reason.String()) {
			m.log.Error("a peer's certificate is refused: "+r.Reason.String(), "addr", addr, "detail", r.Detail, "advice", r.Reason.Advice())
		}
		return "its certificate is refused here: " + r.Error()
	}
	if reason, ok := refusedUs(err); ok {
		if m.repeats.first(host + " refuses: " + reason.String()) {
			m.log.Error("a peer refuses this node's certificate: "+reason.String(), "addr", addr, "advice", reason.Advice())
		}
		if reason == certs.Revoked {
			m.castOut("a peer at " + addr + " refuses its certificate")
		}
		return "it refuses this node's certificate: " + reason.String()
	}
	m.log.Debug("a handshake failed", "addr", addr, "error", err)
	return ""
}
