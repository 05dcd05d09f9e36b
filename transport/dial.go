package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Pauses between tries. A node that is back is found within the longer one.
const (
	dialSoon    = 200 * time.Millisecond
	dialLate    = 2 * time.Second
	dialRefused = 30 * time.Second // when one side does not accept the other
	// steady is how long a link must have lived for the pauses to begin from the shortest again.
	steady = 10 * time.Second
)

// dialler keeps up the link to one configured address.
type dialler struct {
	mesh *Mesh
	addr string
	// guarded by mesh.mu:
	node     string   // who was found there; empty: nobody yet
	resolved []string // what the address stood for when it was last dialled
	good     string   // which of them answered last
	learned  bool     // another node has named it; otherwise it is in the settings
	told     string   // who is said to be there, by the node that this one joined through (see dialUnmet)
	self     bool     // this node itself was found there
	refused  bool     // one side does not accept the other
	reason   string   // why there is no link
	since    time.Time
}

// errSelf says that an address is this node's own.
var errSelf = errors.New("this is the node itself")

// refusedError is an address where a handshake or a hello was turned down.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

// dial starts a dialler. m.mu is held.
func (m *Mesh) dial(d *dialler) {
	m.diallers = append(m.diallers, d)
	m.wg.Go(func() {
		d.run()
		m.mu.Lock()
		defer m.mu.Unlock()
		if d.learned || d.told != "" {
			m.diallers = slices.DeleteFunc(m.diallers, func(o *dialler) bool { return o == d })
		}
	})
}

// run dials whenever the node at the address is not linked, until the mesh is closed.
func (d *dialler) run() {
	pause := dialSoon
	for d.unlinked() {
		begun := time.Now()
		d.mesh.mu.Lock()
		reloaded := d.mesh.reloaded
		d.mesh.mu.Unlock()
		err := d.try()
		var refused *refusedError
		switch {
		case d.mesh.ctx.Err() != nil:
			return
		case err == nil:
			if time.Since(begun) > steady {
				pause = dialSoon
			}
		case errors.Is(err, errSelf):
			d.isSelf()
			return
		case errors.As(err, &refused):
			pause = dialRefused
			d.failed(err, true)
		default:
			d.failed(err, false)
		}
		t := time.NewTimer(d.mesh.store.Jitter(d.addr, pause))
		select {
		case <-t.C:
		case <-reloaded: // whoever was refused may be accepted now
			t.Stop()
		case <-d.mesh.ctx.Done():
			t.Stop()
			return
		}
		pause = min(pause*2, dialLate)
	}
}

// unlinked waits until the node at the address is not linked; false: the mesh is closed.
func (d *dialler) unlinked() bool {
	m := d.mesh
	for {
		m.mu.Lock()
		n, told := m.nodes[d.node], m.nodes[d.told]
		linked, change := n != nil && n.link != nil || told != nil && told.link != nil, m.change
		wanted := m.wanted(d)
		m.mu.Unlock()
		if m.ctx.Err() != nil || !wanted {
			return false
		}
		if !linked {
			return true
		}
		select {
		case <-change:
		case <-m.ctx.Done():
			return false
		}
	}
}

// wanted tells whether there is still somebody to be linked to there. m.mu is held.
func (m *Mesh) wanted(d *dialler) bool {
	switch {
	case d.told != "":
		if d.told == m.anchor.Node && m.anchored() {
			return true
		}
		if n := m.nodes[d.told]; n != nil {
			return !n.gone()
		}
		_, ok := m.unmet[d.told]
		return ok
	case d.learned:
		n := m.nodes[d.node]
		return n != nil && !n.gone()
	}
	return true
}

// unheard tells whether it is not known who is at the dialler's address, or nothing was ever heard of that node.
// m.mu is held.
func (m *Mesh) unheard(d *dialler) bool {
	return d.node == "" && !d.self && m.nodes[d.told] == nil && m.wanted(d)
}

// isSelf notes that the address is this node's own: nobody is waited for there.
func (d *dialler) isSelf() {
	d.mesh.mu.Lock()
	d.self = true
	d.mesh.mu.Unlock()
	d.mesh.log.Info("a configured peer address is this node itself; it is left out", "addr", d.addr)
}

func (d *dialler) failed(err error, refused bool) {
	m := d.mesh
	m.mu.Lock()
	changed := d.reason != err.Error()
	d.reason, d.refused = err.Error(), refused
	m.inVain(d)
	m.mu.Unlock()
	said := &m.repeats
	if d.learned {
		said = &m.alien // others name as many as they like
	}
	if changed && said.first(d.addr+" "+err.Error()) {
		m.log.Warn("a peer cannot be linked; it is tried again and again", "addr", d.addr, "reason", err)
	}
}

// found notes who is at the address, and at which of those that it stands for.
func (d *dialler) found(name string, at *net.UDPAddr) {
	d.mesh.mu.Lock()
	defer d.mesh.mu.Unlock()
	d.node, d.good, d.refused, d.reason = name, at.String(), false, ""
}

// try dials the addresses that the name has at this moment, one after the other, and serves the link
// until it ends. An error says why there was none.
func (d *dialler) try() error {
	ctx, cancel := context.WithTimeout(d.mesh.ctx, helloTimeout)
	addrs, err := resolve(ctx, d.addr)
	cancel()
	if err != nil {
		return err
	}
	d.mesh.mu.Lock()
	d.resolved = d.resolved[:0]
	for i, a := range addrs {
		d.resolved = append(d.resolved, a.String())
		if a.String() == d.good {
			addrs[0], addrs[i] = addrs[i], addrs[0] // the others may cost some seconds each
		}
	}
	d.mesh.mu.Unlock()
	for _, a := range addrs {
		if err = d.dial(a); err == nil || errors.Is(err, errSelf) || d.mesh.ctx.Err() != nil {
			break
		}
	}
	return err
}

// resolve gives the UDP addresses of host:port, asking the system's resolver each time.
func resolve(ctx context.Context, addr string) ([]*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("peer address %q: %w", addr, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("peer address %q: the port is not a number from 1 to 65535", addr)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []*net.UDPAddr{net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port)))}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolving the name of the peer: %w", err)
	}
	all := make([]*net.UDPAddr, len(ips))
	for i, ip := range ips {
		all[i] = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return all, nil
}

// dial makes one connection and says hello.
func (d *dialler) dial(to *net.UDPAddr) error {
	m := d.mesh
	ctx, cancel := context.WithTimeout(m.ctx, 2*helloTimeout)
	defer cancel()
	l, err := m.call(ctx, to, 0)
	if errors.Is(err, errLinked) {
		d.found(l.peer.Node, to)
		return nil // the other way round
	}
	if err != nil {
		return err
	}
	defer m.dismiss(l)
	code, text := m.contest(ctx, l)
	if l.peer.Node == m.me {
		m.twin(m.me, to.String()) // it should have refused
		code, text = refusedTwin, "this node is called "+m.me+" itself"
	}
	if code == refusedTwin {
		l.close(closeTwin, text)
		return &refusedError{text}
	}
	d.found(l.peer.Node, to)
	if err := m.hearOthers(ctx, l); err != nil {
		l.close(closeRefused, "it has ended")
		return err
	}
	cancel()
	return m.useDialled(l)
}

// call makes a connection on which a hello was answered. The caller dismisses it. With errLinked, the other side
// says that the two are linked already, and the connection has ended.
func (m *Mesh) call(ctx context.Context, to net.Addr, generation uint64) (*link, error) {
	config, mine := m.dialTLS()
	conn, err := m.quic.Dial(ctx, to, config, m.quicConfig())
	if err != nil {
		return nil, m.dialError(to, err)
	}
	l, err := m.admit(conn, mine)
	if err == nil {
		l.generation = generation
		err = m.introduce(ctx, l)
	}
	if err == nil {
		return l, nil
	}
	defer m.dismiss(l)
	code := closeRefused
	if errors.Is(err, errFrame) {
		m.metrics.misbehaved.Inc()
		code = closeMisbehaved
	}
	if cause := context.Cause(conn.Context()); cause != nil && !errors.Is(err, errLinked) {
		err = cause
	}
	// The listener hears of it; an error would be that it is closed already.
	_ = conn.CloseWithError(code, "no link")
	if errors.Is(err, errLinked) {
		return l, err
	}
	return nil, m.dialError(to, err)
}

// dialError makes of a failed handshake what an operator can read.
func (m *Mesh) dialError(to net.Addr, err error) error {
	if reason := m.logRefusal(to.String(), err); reason != "" {
		return &refusedError{reason}
	}
	return explain(err)
}

// introduce says hello on a new connection. errLinked: the other side says that the two are linked already.
func (m *Mesh) introduce(ctx context.Context, l *link) error {
	control, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	if err := control.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	err = writeFrame(control, kindHello, hello{Min: minVersion, Max: maxVersion, Instance: m.config.Instance, Holds: m.store.Stats().Active > 0,
		Site: m.config.Site, Clock: time.Now().UnixNano(), Program: m.config.Program, Generation: l.generation,
		Number: m.Certs().DocumentNumber(), Issuer: m.config.Issuer != nil, Aliases: m.config.Aliases})
	if err != nil {
		return err
	}
	k, data, err := m.exchanged(l, control)
	if err != nil {
		return err
	}
	l.dialled, l.control = true, control
	switch k {
	case kindWelcome:
		var w welcome
		if err := decode(data, &w); err != nil {
			return err
		}
		if w.Version < minVersion || w.Version > maxVersion {
			return fmt.Errorf("%w: it chose version %d of the protocol", errFrame, w.Version)
		}
		if err := checkAliases(w.Aliases); err != nil {
			return err
		}
		l.its.Store(w.Number)
		l.aliases = w.Aliases
		l.instance, l.holds, l.site, l.program, l.version = w.Instance, w.Holds, plain(w.Site), plain(w.Program), w.Version
		return control.SetDeadline(time.Time{})
	case kindRefuse:
		var r refuse
		if err := decode(data, &r); err != nil {
			return err
		}
		return m.refusedBy(l, r)
	}
	return fmt.Errorf("%w: kind %d in answer to a hello", errFrame, k)
}

func (m *Mesh) refusedBy(l *link, r refuse) error {
	switch r.Code {
	case refusedDuplicate:
		return errLinked
	case refusedSelf:
		return errSelf
	case refusedTwin:
		m.twin(m.me, l.conn.RemoteAddr().String())
	}
	return &refusedError{fmt.Sprintf("%s refuses: %s", l.peer.Node, plain(r.Text))}
}
