package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"peerstate/certs"
	"peerstate/store"
)

// doubt asks a node what became of a hand-over to it.
type doubt struct {
	Giver  uint64 `cbor:"1,keyasint"`
	Number uint64 `cbor:"2,keyasint"`
	Key    string `cbor:"3,keyasint"`
}

// fate answers it. Node is to whom it gave the session on.
type fate struct {
	Kind    store.FateKind `cbor:"1,keyasint"`
	Version *version       `cbor:"2,keyasint,omitempty"`
	Node    string         `cbor:"3,keyasint,omitempty"`
}

// doubted is called after a hand-over to a node came into doubt: the node is asked if it is linked; if
// it is out already the session is served here again.
func (m *Mesh) doubted(name string) {
	m.mu.Lock()
	n := m.nodes[name]
	out := n != nil && (n.state == Out || n.gone())
	m.mu.Unlock()
	if out {
		m.promote(name)
		return
	}
	m.resolve(name)
}

// manyDoubts is how many doubts are looked after at the same time: a node that dies in the middle of a
// thousand hand-overs must not keep the last of them waiting for a thousand round trips.
const manyDoubts = 32

// eachDoubt calls f with each hand-over to a node that is in doubt, and waits.
func (m *Mesh) eachDoubt(name string, f func(h *store.Handover) error) {
	var all errgroup.Group
	all.SetLimit(manyDoubts)
	for _, h := range m.store.Doubts(name) {
		all.Go(func() error {
			if err := f(h); err != nil {
				m.log.Debug("a hand-over stays in doubt", "peer", name, "session", store.KeyHash(h.Record.Key), "error", err)
			}
			return nil
		})
	}
	_ = all.Wait() // nobody gives an error
}

// promote serves those sessions here again that were on their way to a node which is out. But first
// the others are asked: it may have received one and given it on. Those of whom it is not known whether they
// are up are waited for; then it is tried again at the next tick.
func (m *Mesh) promote(name string) {
	m.eachDoubt(name, func(h *store.Handover) error {
		if m.served(h.Record.Key) {
			return nil // already; it is settled when the node comes back
		}
		if m.unsettled() {
			return errAwaited
		}
		f, ok, older, err := m.elsewhere(h)
		if err != nil {
			return err
		}
		if ok {
			if h.Resolve(f, h.To.Instance) != "" {
				h.Received() // served again a moment ago after all, and so still to be settled
			}
			return nil
		}
		if h.Promote(); older {
			m.settleSoon(h.Record.Key)
		}
		return nil
	})
}

// served tells whether a session whose hand-over is in doubt is not frozen any more: this node serves its
// own copy again, or has given it on.
func (m *Mesh) served(key string) bool {
	return m.store.Settle(key, store.Version{}, "").Kind != store.SettleBusy
}

// elsewhere asks all linked nodes whether they hold a session whose hand-over is in doubt, or know that it was
// deleted, or have a backup that its receiver, or somebody after it, has made. What is older than the copy
// here did not come of this hand-over.
// The error says that some could not be asked, and none of the others has it.
func (m *Mesh) elsewhere(hand *store.Handover) (f store.Fate, ok, older bool, err error) {
	all, err := m.holdings(hand.Record.Key)
	for _, h := range all {
		switch {
		case h.Kind == store.SettleMine && h.Version.Compare(hand.Record.Version()) < 0:
			older = true
		case h.Kind == store.SettleMine && h.Version.Tombstone:
			return store.Fate{Kind: store.Buried, Version: h.Version, Node: h.node}, true, false, nil
		case h.Kind == store.SettleMine, h.Kind == store.SettleBusy:
			return store.Fate{Kind: store.PassedOn, Node: h.node}, true, false, nil
		case h.Kind == store.SettleKept && h.Version.Compare(hand.Record.Version()) > 0:
			return store.Fate{Kind: store.PassedOn, Node: h.node}, true, false, nil
		}
	}
	return store.Fate{}, false, older, err
}

// unsettled tells whether there is a node of which it is not known whether it is up or out.
func (m *Mesh) unsettled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.way() == nil && n.state != Out && !n.gone() {
			return true
		}
	}
	return false
}

// promoteOpen tries again to promote what could not be when its receiver went.
func (m *Mesh) promoteOpen() {
	for _, name := range m.store.InDoubt() {
		m.mu.Lock()
		n := m.nodes[name]
		open := (n == nil || n.way() == nil && (n.state == Out || n.gone())) && !m.resolving[name] && !m.closed
		if open {
			m.resolving[name] = true
			m.wg.Go(func() {
				m.promote(name)
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.resolving, name)
			})
		}
		m.mu.Unlock()
	}
}

// resolve asks a node about the hand-overs to it that are in doubt, if it is linked and nobody else is
// at it. What stays open is tried again at the next tick.
func (m *Mesh) resolve(name string) {
	if len(m.store.Doubts(name)) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	if n == nil || n.way() == nil || m.resolving[name] || m.closed {
		return
	}
	m.resolving[name] = true
	m.wg.Go(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		defer delete(m.resolving, name)
		for l := n.way(); l != nil; {
			m.mu.Unlock()
			m.eachDoubt(name, func(h *store.Handover) error { return m.resolveOne(l, h) })
			open := len(m.store.Doubts(name)) > 0
			m.mu.Lock()
			if !open || n.way() == l {
				return
			}
			l = n.way() // it broke while it was used for asking, and another has taken its place
		}
	})
}

func (m *Mesh) resolveOne(l *link, h *store.Handover) error {
	var f fate
	err := m.converse(m.ctx, l, kindDoubt, doubt{Giver: h.ID.Giver, Number: h.ID.N, Key: h.Record.Key}, kindFate, &f)
	if err != nil {
		return err
	}
	if f.Kind > store.Lost || f.Kind == store.PassedOn && certs.ValidName(f.Node) != nil {
		err := fmt.Errorf("%w: fate %d, passed on to %q", errFrame, f.Kind, plain(f.Node))
		l.misbehaved(err)
		return err
	}
	older := false
	became := store.Fate{Kind: f.Kind, Version: f.Version.of(), Node: f.Node}
	if f.Kind == store.Lost || f.Kind == store.NotReceived && l.instance != h.To.Instance {
		// It may have received the session in an earlier run, or long ago, and given it on.
		awaited := m.awaited(l, m.served(h.Record.Key))
		e, ok, double, err := m.elsewhere(h)
		older = double && !ok
		if ok {
			became = e
		} else if err != nil {
			return err
		} else if awaited {
			return errAwaited
		}
	}
	if h.Resolve(became, l.instance) != "" {
		// This node has served its own copy meanwhile.
		awaited := m.awaited(l, true) // before the others are asked: one may come while they are
		err := m.settle(h.Record.Key)
		if err == nil && awaited {
			err = errAwaited
		}
		if err != nil {
			h.Received() // too late, and so among the doubts again, to be looked after at the next tick
			return err
		}
	}
	if older {
		m.settleSoon(h.Record.Key)
	}
	m.metrics.handover(outgoing, "resolved")
	return nil
}

var errAwaited = errors.New("nodes that may have the session are not linked yet")

// meeting is how long after the link to a receiver the others are waited for when two copies of a session
// may have to be settled: links that were cut together come back within some seconds.
const meeting = 15 * time.Second

// awaited tells whether a node that may have a session is not linked. Where this node serves its own copy,
// and nobody has to wait for the session, that may be one that was lost, too, and is just coming back.
func (m *Mesh) awaited(l *link, served bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.way() == nil && (!n.gone() || served && time.Since(l.since) < meeting) {
			return true
		}
	}
	return false
}

// converse sends one frame and reads one back, within the fetch time-out. The error is errNotSupported if the node's version
// does not know what is asked.
func (m *Mesh) converse(ctx context.Context, l *link, k kind, header any, want kind, back any) error {
	ctx, cancel := context.WithTimeout(ctx, m.config.FetchTimeout)
	defer cancel()
	if l.speaks() < k.since() {
		return errNotSupported
	}
	s, err := l.openUntil(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	if err := writeFrame(s, k, header); err != nil {
		return unsupported(err)
	}
	if err := expect(s, want, back); err != nil {
		if errors.Is(err, errFrame) {
			l.misbehaved(err)
		}
		return unsupported(err)
	}
	m.finish(l, s)
	return nil
}

var _ store.Farm = (*Mesh)(nil)
