package transport

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"peerstate/certs"
	"peerstate/store"
)

// Two nodes tell each other which records of some keys they have, many at a time. What is asked with a zero
// version changes nothing; otherwise the one who is asked drops its own record if that has lost.

const (
	// settleMost and settleBytes bound how many keys are in one frame.
	settleMost  = 128
	settleBytes = 16 << 10
)

// settle tells what records the holder has, or asks.
type settle struct {
	Holder  string        `cbor:"1,keyasint,omitempty"`
	Entries []settleEntry `cbor:"2,keyasint"`
}

type settleEntry struct {
	Key     string   `cbor:"1,keyasint"`
	Version version  `cbor:"2,keyasint"`
	Of      *peerRef `cbor:"3,keyasint,omitempty"` // who is thought to be gone, and to have held it
}

// settlement answers each entry of a settle, in order.
type settlement struct {
	Entries []settled `cbor:"1,keyasint"`
	Started int64     `cbor:"2,keyasint,omitempty"` // of no entry: when this run began, by its own clock (ns since 1970)
}

type settled struct {
	Kind     store.SettleKind `cbor:"1,keyasint"`
	Version  *version         `cbor:"2,keyasint,omitempty"`
	Node     string           `cbor:"3,keyasint,omitempty"` // to which it was given; or of whose session it has a backup
	Instance uint64           `cbor:"4,keyasint,omitempty"` // and in which run
	Up       bool             `cbor:"5,keyasint,omitempty"` // a backup's holder is up, in that run
	OfUp     bool             `cbor:"6,keyasint,omitempty"` // and so is who is thought to be gone
}

// inFrames puts what each gives, some at a time, into pieces whose keys fit into a frame, and calls f with them, meetAtOnce
// at a time: else each few of a million keys would cost a round trip. After an error of f it begins no more, and gives it.
func inFrames[T any](each func(func([]T) bool), key func(T) string, f func([]T) error) error {
	var all errgroup.Group
	all.SetLimit(meetAtOnce)
	var failed atomic.Bool
	var piece []T
	size := 0
	send := func() {
		some := piece
		piece, size = nil, 0
		all.Go(func() error {
			err := f(some)
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	each(func(some []T) bool {
		for _, x := range some {
			if n := len(key(x)); len(piece) == settleMost || len(piece) > 0 && size+n > settleBytes {
				send()
			}
			piece, size = append(piece, x), size+len(key(x))
		}
		return !failed.Load()
	})
	if len(piece) > 0 && !failed.Load() {
		send()
	}
	return all.Wait()
}

// compared is what a node has of a key.
type compared struct {
	store.Settlement
	up   bool // of a backup: its holder is up for that node
	ofUp bool // so is who was thought to be gone
}

// compare tells a linked node which records holder has, or asks with zero versions. There are no more of
// them than fit into a frame. The answers are in the same order. of, if it is not nil, says for each who is
// thought to be gone and to have held it.
func (m *Mesh) compare(ctx context.Context, l *link, holder string, all []store.Holding, of []peerRef) ([]compared, error) {
	q := settle{Holder: holder}
	for i, h := range all {
		e := settleEntry{Key: h.Key, Version: *toVersion(h.Version)}
		if of != nil {
			e.Of = &of[i]
		}
		q.Entries = append(q.Entries, e)
	}
	var back settlement
	if err := m.converse(ctx, l, kindSettle, q, kindSettlement, &back); err != nil {
		return nil, err
	}
	if err := back.check(len(all)); err != nil {
		l.misbehaved(err)
		return nil, err
	}
	out := make([]compared, len(all))
	for i, e := range back.Entries {
		out[i] = compared{store.Settlement{Kind: e.Kind, Version: e.Version.of()}, e.Up, e.OfUp}
		if e.Kind == store.SettleKept || e.Kind == store.SettleMoved {
			out[i].Holder = store.Peer{Node: e.Node, Instance: e.Instance}
		}
		if e.Kind == store.SettleMoved {
			out[i].Node = e.Node
		}
	}
	return out, nil
}

// check finds answers that no node gives.
func (s *settlement) check(want int) error {
	if len(s.Entries) != want {
		return fmt.Errorf("%w: %d settlements of %d", errFrame, len(s.Entries), want)
	}
	for _, e := range s.Entries {
		if e.Kind > store.SettleKept || (e.Kind == store.SettleMoved || e.Kind == store.SettleKept) && certs.ValidName(e.Node) != nil {
			return fmt.Errorf("%w: settlement %d of %q", errFrame, e.Kind, plain(e.Node))
		}
	}
	return nil
}

// compareHere is compare with this node itself.
func (m *Mesh) compareHere(holder string, h store.Holding) compared {
	a := compared{Settlement: m.store.Settle(h.Key, h.Version, holder)}
	if a.Kind == store.SettleKept {
		a.up = m.wayTo(a.Holder) != nil
	}
	return a
}

func (l *link) serveSettle(s *stream, header []byte) error {
	var q settle
	if err := decode(header, &q); err != nil {
		return err
	}
	if q.Holder != "" && certs.ValidName(q.Holder) != nil {
		return fmt.Errorf("%w: a session on %q", errFrame, plain(q.Holder))
	}
	if len(q.Entries) > settleMost {
		return fmt.Errorf("%w: %d keys to settle", errFrame, len(q.Entries))
	}
	if err := s.link.quota.records.WaitN(s.Context(), len(q.Entries)); err != nil {
		return err
	}
	var back settlement
	if len(q.Entries) == 0 {
		back.Started = l.mesh.started.UnixNano()
	}
	for _, e := range q.Entries {
		if err := checkKey(e.Key); err != nil {
			return err
		}
		a := l.mesh.compareHere(q.Holder, store.Holding{Key: e.Key, Version: e.Version.of()})
		x := settled{Kind: a.Kind, Node: a.Holder.Node, Instance: a.Holder.Instance, Up: a.up}
		if e.Of != nil {
			x.OfUp = l.mesh.wayTo(store.Peer(*e.Of)) != nil
		}
		if a.Version != (store.Version{}) {
			x.Version = toVersion(a.Version)
		}
		back.Entries = append(back.Entries, x)
	}
	return writeFrame(s, kindSettlement, back)
}

// holding is what one node has of a key.
type holding struct {
	node string
	store.Settlement
}

// holdings asks all nodes that are up at once what they have of a key. The error says that some did not answer.
func (m *Mesh) holdings(key string) ([]holding, error) {
	m.mu.Lock()
	var all []holding
	for _, name := range m.ways() {
		all = append(all, holding{node: name})
	}
	m.mu.Unlock()
	var asked errgroup.Group
	for i := range all {
		asked.Go(func() (err error) {
			all[i].Settlement, err = m.settleWith(key, store.Version{}, "", all[i].node)
			return err
		})
	}
	return all, asked.Wait()
}

// settle finds out who holds a session, and if several do, has the one with the session keep it and the
// others drop theirs.
func (m *Mesh) settle(key string) error {
	all, err := m.holdings(key)
	if err != nil {
		return err
	}
	all = append(all, holding{m.me, m.store.Settle(key, store.Version{}, "")})
	var best *holding
	for i := range all {
		h := &all[i]
		switch h.Kind {
		case store.SettleBusy:
			return fmt.Errorf("%s is just giving the session away", h.node)
		case store.SettleMine:
			// Of two equal ones that of the smaller name stays, as in Store.Settle.
			if best == nil || cmp.Or(h.Version.Compare(best.Version), cmp.Compare(best.node, h.node)) > 0 {
				best = h
			}
		}
	}
	for _, h := range all {
		if h.Kind != store.SettleMine || h.node == best.node {
			continue
		}
		a, err := m.settleWith(key, best.Version, best.node, h.node)
		if err != nil {
			return err
		}
		if a.Kind == store.SettleMine || a.Kind == store.SettleBusy {
			return fmt.Errorf("%s has changed the session meanwhile", h.node)
		}
	}
	return nil
}

// settleSoon is settle for a session that several nodes seem to hold. It tries again for a while when one of them
// is just giving it away, or does not answer.
func (m *Mesh) settleSoon(key string) {
	var err error
	for range 10 {
		if err = m.settle(key); err == nil {
			return
		}
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(m.config.FetchTimeout / 10):
		}
	}
	m.log.Debug("two copies of a session were not settled", "session", store.KeyHash(key), "error", err)
}

// settleWith asks one node, this one or a linked one.
func (m *Mesh) settleWith(key string, v store.Version, holder, who string) (store.Settlement, error) {
	one := store.Holding{Key: key, Version: v}
	if who == m.me {
		return m.compareHere(holder, one).Settlement, nil
	}
	l := m.linkTo(who)
	if l == nil {
		return store.Settlement{}, fmt.Errorf("%s is not linked", plain(who))
	}
	all, err := m.compare(m.ctx, l, holder, []store.Holding{one}, nil)
	if err != nil {
		return store.Settlement{}, err
	}
	return all[0].Settlement, nil
}
