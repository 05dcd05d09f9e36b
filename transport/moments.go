package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quic-go/quic-go"
)

// A node that starts may not know yet who was revoked while it was off, and a revoked node may be the first to call.
// So in the first moments a link to a node is used only when documents have been exchanged with another node, too. A
// node that knew nobody, or only that one, has nobody to ask and waits for nothing.

// firstMoments is how long a node that starts waits at most for what others know.
const firstMoments = 2 * time.Second

// moments is what happens in the first moments of a run. Mesh.mu guards it.
type moments struct {
	others []string        // who was known at the start, may be linked with, and has not been heard of or dialled in vain yet
	agreed map[string]bool // with whom documents have been exchanged
	word   chan struct{}   // closed when one of these changes, then replaced
}

// consulted notes that documents have been exchanged with a node. It has been judged by the newer one of both.
func (m *Mesh) consulted(l *link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.peer.Node == m.me || m.unjudged(l) != nil || time.Since(m.started) >= firstMoments {
		return
	}
	m.agreed[l.peer.Node] = true
	m.without(l.peer.Node)
}

// inVain notes that a node was dialled without success. m.mu is held.
func (m *Mesh) inVain(d *dialler) {
	for _, name := range slices.Clone(m.others) {
		n := m.nodes[name] // nil: it was forgotten meanwhile
		if n == nil || d.node == name || d.addr == n.addr || slices.Contains(d.resolved, n.addr) {
			m.without(name)
		}
	}
}

// without has nobody wait for a node any more. m.mu is held.
func (m *Mesh) without(name string) {
	m.others = slices.DeleteFunc(m.others, func(o string) bool { return o == name })
	close(m.word)
	m.word = make(chan struct{})
}

// lookAround asks those for their documents whom this node does not dial: it may take seconds until they do.
func (m *Mesh) lookAround() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.others {
		addr := m.nodes[name].addr
		if slices.ContainsFunc(m.diallers, func(d *dialler) bool { return d.node == name || d.addr == addr }) {
			continue
		}
		m.wg.Go(func() {
			if err := m.consult(name, addr); err != nil {
				m.log.Debug("a node could not be asked for the farm's document", "peer", name, "error", err)
				m.mu.Lock()
				defer m.mu.Unlock()
				m.without(name)
			}
		})
	}
}

// consult exchanges documents with a node, without linking with it.
func (m *Mesh) consult(name, addr string) error {
	ctx, cancel := context.WithTimeout(m.ctx, firstMoments)
	defer cancel()
	to, err := resolve(ctx, addr)
	if err != nil {
		return err
	}
	config, mine := m.dialTLS()
	conn, err := m.quic.Dial(ctx, to[0], config, quicConfig())
	if err != nil {
		return err
	}
	l, err := m.admit(conn, mine)
	defer m.dismiss(l)
	defer l.close(closeBye, "only a look")
	if err == nil && l.peer.Node != name {
		err = fmt.Errorf("%s is at its address now", l.peer.Node)
	}
	if err != nil {
		return err
	}
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	if err := s.SetDeadline(time.Now().Add(firstMoments)); err != nil {
		return err
	}
	if err := writeFrame(s, kindWant, want{Number: m.Certs().DocumentNumber(), Issuer: m.config.Issuer != nil}); err != nil {
		return err
	}
	k, _, err := m.exchanged(l, s)
	if err == nil && k != kindDone {
		err = fmt.Errorf("%w: kind %d instead of %d", errFrame, k, kindDone)
	}
	return err
}

// consultedBy exchanges documents with a node that does not want a link.
func (m *Mesh) consultedBy(ctx context.Context, l *link, control *quic.Stream, data []byte) error {
	var w want
	if err := decode(data, &w); err != nil {
		return err
	}
	if err := m.exchange(l, control, &hello{Number: w.Number, Issuer: w.Issuer}); err != nil {
		return err
	}
	if err := writeFrame(control, kindDone, bye{}); err != nil {
		return err
	}
	select {
	case <-l.conn.Context().Done():
	case <-ctx.Done():
	}
	return errors.New("it only looked")
}

// hearOthers waits until a link may be used. The error says that it has ended.
func (m *Mesh) hearOthers(ctx context.Context, l *link) error {
	return m.untilHeard(ctx, l.conn.Context(), func() bool {
		if l.peer.Node == m.me {
			return true // it gets no link
		}
		for name := range m.agreed {
			if name != l.peer.Node {
				return true
			}
		}
		return !slices.ContainsFunc(m.others, func(o string) bool { return o != l.peer.Node })
	})
}

// Consulted waits until documents have been exchanged with all nodes that were known at the start and can be reached,
// but at most for the first moments of this run. The error is that of ctx, or says that the mesh is closed.
func (m *Mesh) Consulted(ctx context.Context) error {
	return m.untilHeard(ctx, ctx, func() bool { return len(m.others) == 0 })
}

// untilHeard waits until enough is known, or the first moments are over. enough is called with m.mu held.
func (m *Mesh) untilHeard(ctx, other context.Context, enough func() bool) error {
	t := time.NewTimer(max(time.Until(m.started.Add(firstMoments)), 0))
	defer t.Stop()
	for {
		m.mu.Lock()
		ok, word := enough(), m.word
		m.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-word:
		case <-t.C:
			return nil
		case <-other.Done():
			return context.Cause(other)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.ctx.Done():
			return context.Cause(m.ctx)
		}
	}
}
