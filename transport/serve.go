package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"peerstate/store"
)

// serve answers the one thing that a peer has opened a stream for.
func (l *link) serve(s *stream) {
	err := s.SetDeadline(time.Now().Add(stall))
	if err != nil {
		return
	}
	k, header, err := readFrame(s)
	if err == nil {
		switch k {
		case kindQuestion:
			err = l.serveQuestion(s, header)
		case kindForward:
			err = l.serveForward(s, header)
		case kindGive:
			err = l.serveGives(s, header)
		case kindDoubt:
			err = l.serveDoubt(s, header)
		case kindSettle:
			err = l.serveSettle(s, header)
		case kindKeep:
			err = l.serveKeep(s, header)
		case kindLinks:
			err = l.serveLists(s, header)
		case kindCertify:
			err = l.serveCertify(s, header)
		case kindConfirm:
			err = l.serveConfirm(s, header)
		case kindExplain:
			err = l.serveExplain(s, header)
		case kindUse:
			err = l.serveUse(s, header)
		case kindVia:
			err = l.serveVia(s, header)
		case kindDocument:
			err = l.serveDocument(s, header)
		case kindWant:
			err = l.serveWant(s)
		default:
			if !k.known() && k != 0 {
				err = s.notKnown(fmt.Sprintf("a frame of kind %d", k))
				break
			}
			err = fmt.Errorf("%w: kind %d at the beginning of a stream", errFrame, k)
		}
	}
	switch {
	case err == nil:
		l.mesh.finish(l, s)
	case errors.Is(err, errDone):
	case errors.Is(err, errFrame):
		l.misbehaved(err)
	default:
		l.mesh.log.Debug("a peer's request could not be served", "peer", l.node.name, "error", err)
	}
}

// within bounds how long a peer may have its answer prepared.
func (l *link) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(l.mesh.ctx, min(max(d, 0), l.mesh.config.FetchTimeout))
}

func checkKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("%w: a key of %d bytes", errFrame, len(key))
	}
	return nil
}

func (l *link) serveQuestion(s *stream, header []byte) error {
	var q question
	if err := decode(header, &q); err != nil {
		return err
	}
	if err := checkKey(q.Key); err != nil {
		return err
	}
	switch {
	case q.Want < store.Move:
		return fmt.Errorf("%w: a question of kind %d", errFrame, q.Want)
	case q.Want > store.Create:
		return s.notKnown(fmt.Sprintf("a question of kind %d", q.Want))
	}
	origin, again, err := l.origin(&q)
	if err != nil {
		return err
	}
	if origin.far && l.mesh.turnsAway(origin.node.name) {
		return writeFrame(s, kindReply, reply{Kind: store.ReplyMissing, Unknown: true})
	}
	if again {
		l.mesh.metrics.seen.Inc()
		return writeFrame(s, kindReply, reply{Kind: store.ReplyMissing, Seen: true})
	}
	paid := s.link.quota
	if !paid.allow(paid.questions, refusedQuestion) {
		paid.unknown.Inc()
		return writeFrame(s, kindReply, reply{Kind: store.ReplyMissing, Unknown: true})
	}
	if q.Number == 0 {
		l.mesh.metrics.followed.Inc()
	} else {
		l.mesh.metrics.handled.Inc()
	}
	if q.Origin != "" {
		q.Wait = min(q.Wait, q.Within/2) // its time is shorter with each hop, and it has to be answered
	}
	ctx, cancel := l.within(q.Within)
	defer cancel()
	rep := l.mesh.answer(ctx, store.Peer{Node: origin.node.name, Instance: origin.instance}, store.Question{Key: q.Key, Want: q.Want, Inquiry: q.Inquiry,
		Wait: min(max(q.Wait, 0), l.mesh.config.FetchTimeout/2)})
	paid.answered(q.Want, &rep)
	if rep.TooMuch {
		paid.refuse(refusedQuestion)
	}
	if rep.Kind == store.ReplyMissing {
		l.mesh.compareIDs(origin.node.name, q.Key)
	}
	if rep.Kind == store.ReplyFound {
		return l.handTo(origin, s, rep.Handover)
	}
	next := l.onward(&q, origin, rep.Kind)
	if len(next.links) > 0 {
		if !paid.allow(paid.onward, refusedOnward) {
			next.hops = 0 // as if it had come as far as it may: not known
		}
		return next.passOn(ctx, s, &q, rep)
	}
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	return writeFrame(s, kindReply, reply{Kind: rep.Kind, Locked: rep.Locked, Cookie: rep.Cookie, LockAge: rep.LockAge,
		Node: rep.Node, Instance: rep.Instance, Epoch: rep.Epoch, Stamp: rep.Stamp, Deleted: rep.Deleted, Creating: l.mesh.creates(rep)})
}

// answer has the store answer a question. Where it has only a backup, and nobody can hold the session any
// more, this node becomes the holder first.
func (m *Mesh) answer(ctx context.Context, asker store.Peer, q store.Question) store.Reply {
	rep := m.store.Asked(ctx, asker, q)
	if rep.Kind != store.ReplyBackup && rep.Kind != store.ReplyMoved {
		return rep
	}
	b, ok := m.store.BackupOf(q.Key)
	switch {
	case !ok && rep.Kind == store.ReplyMoved && m.longGone(rep.Node): // it is not there any more; if it went on, it is elsewhere
		if rep.Creating != 0 {
			return store.Reply{Kind: store.ReplyCreating, Creating: rep.Creating}
		}
		return store.Reply{Kind: store.ReplyMissing}
	case !ok:
		return rep
	case m.vacant(b.Holder) && m.promoteNow(ctx, b):
		return m.store.Asked(ctx, asker, q)
	case m.wayTo(b.Holder) == nil:
		// Nobody can be asked where it was given to, and this node may yet serve it.
		return store.Reply{Kind: store.ReplyBackup, Node: b.Holder.Node, Instance: b.Holder.Instance, Creating: rep.Creating}
	}
	return rep
}

// handOver sends a frozen session and gives it up, or not, by the receiver's word. Where that does
// not come the node is in doubt. Only without an error may the stream end in good order, which tells
// the receiver that it need not remember the hand-over.
func (l *link) handOver(s *stream, h *store.Handover) error {
	m := l.mesh
	if err := l.give(s, h); err != nil {
		// The end of it was never sent: the receiver cannot have it.
		m.metrics.handover(outgoing, "broken")
		h.Declined(store.Version{})
		return fmt.Errorf("sending a session: %w", err)
	}
	back, err := l.receipt(s, h)
	switch {
	case err != nil:
		m.metrics.handover(outgoing, "doubt")
		level := slog.LevelDebug
		if m.repeats.first("no receipt from " + l.node.name) {
			level = slog.LevelWarn
		}
		m.log.Log(m.ctx, level, "a session was sent and no receipt came; it is served by nobody until the receiver has been asked",
			"peer", l.node.name, "session", store.KeyHash(h.Record.Key), "error", err)
		h.Doubt()
		m.doubted(l.node.name)
		return err
	case back.Accepted:
		m.metrics.handover(outgoing, "received")
		if !h.Received() {
			m.resolve(l.node.name)
			return errors.New("the receipt came after this node had begun to serve its own copy again")
		}
	default:
		m.metrics.handover(outgoing, "declined")
		h.Declined(back.Version.of())
	}
	return nil
}

// give sends a session. After an error the receiver has not got all of it.
func (l *link) give(s *stream, h *store.Handover) error {
	r := &h.Record
	head, err := appendFrame(make([]byte, 0, 512), kindReply, reply{Kind: store.ReplyFound, Giver: h.ID.Giver, Number: h.ID.N,
		Record: headOf(r)})
	if err != nil {
		return err
	}
	return writeSlowly(s, head, r.Body)
}

// receipt reads what the receiver says to a session that was sent.
func (l *link) receipt(s *stream, h *store.Handover) (back receipt, err error) {
	if err := s.SetReadDeadline(time.Now().Add(stall + underWay(len(h.Record.Body)))); err != nil {
		return back, err
	}
	return back, expect(s, kindReceipt, &back)
}

// underWay is how long what was written last of a body may be on its way, on the slowest path that is
// reckoned with: a write returns when QUIC has the bytes, and up to a window of them have not arrived then.
func underWay(size int) time.Duration {
	const slowest = 64 << 10 // bytes a second
	return time.Duration(min(size, streamWindow)) * time.Second / slowest
}

// writeStep is how much of a body has to move within stall.
const writeStep = 16 << 10

// writeSlowly writes a header and a body and gives up only when nothing moves for a while.
func writeSlowly(s *stream, head, body []byte) error {
	const small = 1 << 10
	if len(body) <= small {
		head, body = append(head, body...), nil
	}
	if _, err := writeSteps(s, head); err != nil {
		return err
	}
	_, err := writeSteps(s, body)
	return err
}

// writeSteps writes b, gives up only when nothing moves for a while, and tells how much may have been sent.
// Without an error that is all; but a deadline can end just when the last byte has gone out, so all of it is
// never an error: an answer, or none, tells the rest.
func writeSteps(s *stream, b []byte) (n int, err error) {
	for n < len(b) {
		if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return n, err
		}
		step, err := s.Write(b[n:min(n+writeStep, len(b))])
		if n += step; err != nil && n < len(b) {
			return n, err
		}
	}
	return n, nil
}

func (l *link) serveForward(s *stream, header []byte) error {
	m := l.mesh
	var f forward
	if err := decode(header, &f); err != nil {
		return err
	}
	if err := checkKey(f.Key); err != nil {
		return err
	}
	switch {
	case f.Op != store.Put && f.Op != store.Release && f.Op != store.Delete:
		return fmt.Errorf("%w: operation %d is not passed on", errFrame, f.Op)
	case f.Size < 0 || f.Size > m.config.MaxBody || f.Size > 0 && f.Op != store.Put:
		return fmt.Errorf("%w: a body of %d bytes", errFrame, f.Size)
	case f.Timeout < 0 || f.Timeout > store.MaxTimeout || f.Cookie < store.BadCookie:
		return fmt.Errorf("%w: a timeout of %d minutes, cookie %d", errFrame, f.Timeout, f.Cookie)
	}
	if err := s.link.quota.records.Wait(s.Context()); err != nil {
		return err
	}
	arrived, err := s.link.quota.body(s.Context(), f.Size)
	if err != nil {
		return err // nothing was stored
	}
	defer arrived()
	var deadline error
	r := &store.Request{Op: f.Op, Key: []byte(f.Key), Cookie: f.Cookie, Timeout: f.Timeout, Flags: f.Flags}
	r.Body, err = m.readContents(s, f.Size, func() { deadline = errors.Join(deadline, s.SetReadDeadline(time.Now().Add(stall))) })
	if errors.Is(err, errNoRoom) {
		m.store.Refuse(store.RefusedWrite, f.Size)
		return writeFrame(s, kindAnswer, answer{Status: store.Unknown})
	}
	if err != nil {
		return err // nothing was stored
	}
	r.Counted = f.Size
	defer func() { m.store.GiveBack(r.Counted) }()
	if deadline != nil {
		return deadline // nor here
	}
	ctx, cancel := l.within(f.Within)
	defer cancel()
	a, err := m.store.Forwarded(ctx, r)
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	return writeFrame(s, kindAnswer, answer{NotHere: err != nil, Status: a.Status, Init: a.Init, Cookie: a.Cookie, LockAge: a.LockAge})
}

func (l *link) serveDoubt(s *stream, header []byte) error {
	var d doubt
	if err := decode(header, &d); err != nil {
		return err
	}
	if err := checkKey(d.Key); err != nil {
		return err
	}
	if d.Giver != l.instance {
		return fmt.Errorf("%w: a doubt about another node's hand-over", errFrame)
	}
	if err := s.link.quota.records.Wait(s.Context()); err != nil {
		return err
	}
	f := l.mesh.store.FateOf(store.HandoverID{Giver: d.Giver, N: d.Number}, d.Key)
	if f.Kind == store.Unsaid {
		s.link.quota.refuse(refusedDoubt)
		return errTooMuch
	}
	return writeFrame(s, kindFate, fate{Kind: f.Kind, Version: toVersion(f.Version), Node: f.Node})
}
