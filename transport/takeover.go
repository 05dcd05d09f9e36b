package transport

import (
	"errors"
	"fmt"
	"io"
	"time"

	"peerstate/store"
)

// takeOver receives a session that a reply brings, gives the receipt, and waits for the giver's word
// that it has read it.
func (m *Mesh) takeOver(l *link, s *stream, q store.Question, r said, tell func(said)) {
	nothing := said{link: l}
	tell(said{link: l, kind: coming})
	if r.Node != "" && m.checkHead(q.Key, r.Record) == nil {
		l = m.farLink(r.Node, r.Giver) // what follows the head is passed on unread
	}
	rec, err := m.readRecord(s, s, q.Key, r.Record)
	if errors.Is(err, errNoRoom) {
		m.noRoom(r.Record.Size)
		m.leaveThere(l, s, r, tell)
		return
	}
	if err != nil {
		if errors.Is(err, errFrame) {
			l.misbehaved(err)
		}
		m.metrics.handover(incoming, "broken")
		tell(nothing)
		return
	}
	id := store.HandoverID{Giver: r.Giver, N: r.Number}
	back, got := m.takeIn(l, id, rec, m.store.Receive)
	m.store.GiveBack(rec.Counted)
	if got.Full {
		m.leaveThere(l, s, r, tell)
		return
	}
	if got.Accepted || got.Version != (store.Version{}) {
		r.kind = broughtIt // the store knows what the session is now: this record, or a newer one, which may be a deletion
	}
	tell(r)
	m.forced(got)
	if err := s.SetDeadline(time.Now().Add(stall)); err != nil {
		return
	}
	if err := writeFrame(s, kindReceipt, back); err != nil {
		return // the giver is in doubt and asks
	}
	if err := s.Close(); err != nil {
		return
	}
	var one [1]byte
	if _, err := s.Read(one[:]); errors.Is(err, io.EOF) {
		m.store.Settled(id)
	}
}

// leaveThere ends the conversation about a session that was found and that there is no memory for: its holder keeps it,
// and carries out what changes it.
func (m *Mesh) leaveThere(holder *link, s *stream, r said, tell func(said)) {
	r.kind, r.Node = saidHeld, holder.node.name
	tell(r)
	if err := s.SetDeadline(time.Now().Add(stall)); err != nil {
		return
	}
	if err := writeFrame(s, kindReceipt, receipt{Full: true}); err == nil {
		m.finish(r.link, s)
	}
}

// noRoom is the receipt for a session that has come and that there was no memory for.
func (m *Mesh) noRoom(size int64) receipt {
	m.store.Refuse(store.RefusedHandover, size)
	m.metrics.handover(incoming, "no memory")
	return receipt{Full: true}
}

// forced waits, where writes do or nobody else has a copy, until a session that was received is on disk: the giver lets its own copy go.
func (m *Mesh) forced(got store.Receipt) { m.store.Forced(m.ctx, got) }

// takeIn has the store take a session over, by its Receive or Adopt, and gives the receipt and the store's own.
func (m *Mesh) takeIn(l *link, id store.HandoverID, rec store.Record, take func(store.Peer, store.HandoverID, store.Record) store.Receipt) (back receipt, got store.Receipt) {
	gate := l
	if l.far {
		gate = m.wayTo(store.Peer{Node: l.node.name, Instance: l.instance})
	}
	if gate == nil || !gate.enter() {
		m.metrics.handover(incoming, "refused")
		return receipt{}, got
	}
	defer gate.gate.RUnlock()
	got = take(store.Peer{Node: l.node.name, Instance: l.instance}, id, rec)
	switch {
	case got.Accepted:
		m.metrics.handover(incoming, "received")
		return receipt{Accepted: true}, got
	case got.Version != store.Version{}:
		m.metrics.handover(incoming, "declined")
		return receipt{Version: toVersion(got.Version)}, got
	case got.Full:
		m.metrics.handover(incoming, "no memory")
		return receipt{Full: true}, got
	}
	m.metrics.handover(incoming, "refused")
	return receipt{}, got
}

// readRecord reads the body of a session that a stream brings, from r, for as long as bytes arrive. What the record has as
// Counted is to be given back.
func (m *Mesh) readRecord(s *stream, r io.Reader, key string, h *recordHead) (store.Record, error) {
	if err := m.checkHead(key, h); err != nil {
		return store.Record{}, err
	}
	rec := h.record(key)
	done, err := s.link.quota.body(s.Context(), h.Size)
	if err != nil {
		return store.Record{}, err
	}
	defer done()
	var deadline error
	arrived := func() { deadline = errors.Join(deadline, s.SetReadDeadline(time.Now().Add(stall))) }
	arrived()
	if rec.Body, err = m.readContents(r, h.Size, arrived); err == nil {
		rec.Counted = h.Size
	}
	if deadline != nil {
		m.store.GiveBack(rec.Counted)
		return rec, errors.Join(err, deadline)
	}
	return rec, err
}

// checkHead finds sessions that no node sends, before their bodies come.
func (m *Mesh) checkHead(key string, h *recordHead) error {
	switch {
	case h == nil:
		return fmt.Errorf("%w: found, but no record", errFrame)
	case h.Size < 0 || h.Size > m.config.MaxBody:
		return fmt.Errorf("%w: a session of %d bytes, at most %d are allowed (PEERSTATE_MAX_BODY must be the same on all nodes)", errFrame, h.Size, m.config.MaxBody)
	}
	rec := h.record(key)
	if err := rec.Check(); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}
