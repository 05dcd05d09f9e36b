package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"peerstate/store"
)

// doubted is called after a hand-over to a node came into doubt: the node is asked if it is linked; if
// it is out already the session is served here again.
func (m *Mesh) doubted(name string) {
	m.mu.Lock()
	n := m.nodes[name]
	out := n != nil && (n.state == Out || n.state == Lost)
	m.mu.Unlock()
	if out {
		m.store.Out(name)
		return
	}
	m.resolve(name)
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
	if n == nil || n.link == nil || m.resolving[name] || m.closed {
		return
	}
	l := n.link
	m.resolving[name] = true
	m.wg.Go(func() {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.resolving, name)
		}()
		for _, h := range m.store.Doubts(name) {
			if err := m.resolveOne(l, h); err != nil {
				m.log.Debug("a hand-over stays in doubt", "peer", name, "session", store.KeyHash(h.Record.Key), "error", err)
				return
			}
		}
	})
}

func (m *Mesh) resolveOne(l *link, h *store.Handover) error {
	var f fate
	err := m.converse(l, kindDoubt, doubt{Giver: h.ID.Giver, Number: h.ID.N, Key: h.Record.Key}, kindFate, &f)
	if err != nil {
		return err
	}
	m.metrics.handover(outgoing, "resolved")
	other := h.Resolve(store.Fate{Kind: f.Kind, Version: f.Version.of(), Node: f.Node}, l.instance)
	if other == "" {
		return nil
	}
	return m.settle(h.Record.Key, other)
}

// settle has this node and another, which may both hold a session, find out which record is the
// session and drop the other one. A node that has given its copy on names the next.
func (m *Mesh) settle(key, other string) error {
	// holder has the record v; who is to compare its own with that.
	holder, v, who := m.me, store.Version{}, other
	for range 16 {
		a, err := m.settleWith(key, v, holder, who)
		if err != nil {
			return err
		}
		switch a.Kind {
		case store.SettleNone, store.SettleDropped:
			return nil
		case store.SettleMine:
			holder, v, who = who, a.Version, holder
		case store.SettleMoved:
			if a.Node == holder {
				return nil
			}
			who = a.Node
		case store.SettleBusy:
			select {
			case <-time.After(50 * time.Millisecond):
			case <-m.ctx.Done():
				return m.ctx.Err()
			}
		}
	}
	return errors.New("the session moves too fast to be settled")
}

// settleWith asks one node, this one or a linked one.
func (m *Mesh) settleWith(key string, v store.Version, holder, who string) (store.Settlement, error) {
	if who == m.me {
		return m.store.Settle(key, v, holder), nil
	}
	l := m.linkTo(who)
	if l == nil {
		return store.Settlement{}, fmt.Errorf("%s is not linked", plain(who))
	}
	var a settlement
	if err := m.converse(l, kindSettle, settle{Key: key, Version: *toVersion(v), Holder: holder}, kindSettlement, &a); err != nil {
		return store.Settlement{}, err
	}
	return store.Settlement{Kind: a.Kind, Version: a.Version.of(), Node: a.Node}, nil
}

// converse sends one frame and reads one back.
func (m *Mesh) converse(l *link, k kind, header any, want kind, back any) error {
	ctx, cancel := context.WithTimeout(m.ctx, m.config.FetchTimeout)
	defer cancel()
	s, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.SetDeadline(time.Now().Add(m.config.FetchTimeout)); err != nil {
		return err
	}
	if err := writeFrame(s, k, header); err != nil {
		return err
	}
	if err := expect(s, want, back); err != nil {
		if errors.Is(err, errFrame) {
			l.misbehaved(err)
		}
		return err
	}
	m.finish(l, s)
	return nil
}

var _ store.Farm = (*Mesh)(nil)
