package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"peerstate/certs"
	"peerstate/store"
)

// A question reaches all nodes, linked or not: a node that does not have the session passes it on to those
// of its links that its sender is not linked with (in a full mesh there are none), and answers for all of
// them. Nobody handles a question twice: it has a number, and when it comes again it is answered "seen" at
// once. So nobody waits in a circle, and the first path carries the answer.
//
// Each node gives those that it asks four fifths of its own time and answers in time itself, if only that
// it is not known. So only a node that answers nothing becomes suspect, not those who have waited for it.

// flood is what goes with a question that is to be passed on.
type flood struct {
	number uint64 // 0: it is not
	hops   int
}

// flood numbers a question of this node. m.mu is held.
func (m *Mesh) flood() flood {
	if m.config.MaxHops < 2 {
		return flood{}
	}
	return flood{number: m.asked.Add(1), hops: m.config.MaxHops - 1}
}

func also(names map[string]bool, name string) map[string]bool {
	if names == nil {
		names = map[string]bool{}
	}
	names[name] = true
	return names
}

// checkNames finds names in a reply that no node has.
func (r *reply) checkNames() error {
	bad := func(name string) bool { return certs.ValidName(name) != nil }
	if r.Node != "" && bad(r.Node) || slices.ContainsFunc(r.Creating, func(c creatorRef) bool { return bad(c.Node) }) ||
		slices.ContainsFunc(slices.Concat(r.Asked, r.Holders), func(p peerRef) bool { return bad(p.Node) }) {
		return fmt.Errorf("%w: a reply with names that no node has", errFrame)
	}
	return nil
}

// creators gives the nodes that are about to create the key, by a reply that came over l. There is at least one
// if it says so.
func (r *reply) creators(l *link) []creatorRef {
	if len(r.Creating) == 0 && r.Kind == store.ReplyCreating {
		return []creatorRef{{Node: l.node.name, Instance: l.instance}}
	}
	return r.Creating
}

// creates gives this node where its own reply says that it is about to create the key.
func (m *Mesh) creates(own store.Reply) []creatorRef {
	if own.Creating == 0 {
		return nil
	}
	return []creatorRef{{m.me, m.config.Instance, own.Creating}}
}

// beyond weighs what a node says of those to which it has passed the question on.
func (g *gathering) beyond(r *said) {
	g.unknown = g.unknown || r.Unknown
	for _, c := range r.creators(r.link) {
		g.creating = append(g.creating, c.of())
	}
	for _, p := range r.backups() {
		g.holders = append(g.holders, store.Peer(p))
	}
	for _, p := range r.Asked {
		g.denied[p.Node] = p.Instance
	}
	if len(g.further) == 0 || r.Seen || r.kind == saidNothing {
		return
	}
	delete(g.further, r.link.node.name)
	for _, p := range r.Asked {
		delete(g.further, p.Node)
	}
}

// seen remembers the questions that have come, for as long as they can come again.
type seen struct {
	mu     sync.Mutex
	now    map[questionID]struct{}
	before map[questionID]struct{}
	since  time.Time // of now
}

type questionID struct{ instance, number uint64 }

// maxSeen bounds how many questions are remembered: past it the oldest are forgotten early, and such a
// question may be handled again until its hops are used up.
const maxSeen = 1 << 16

// again tells whether a question has come before. keep is how long it may be under way.
func (s *seen) again(id questionID, keep time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.since) > keep || len(s.now) >= maxSeen {
		if s.before == nil {
			s.before = map[questionID]struct{}{}
		}
		if now.Sub(s.since) > 2*keep {
			clear(s.now)
		}
		clear(s.before)
		s.now, s.before, s.since = s.before, s.now, now
	}
	if _, ok := s.before[id]; ok {
		return true
	}
	n := len(s.now)
	s.now[id] = struct{}{}
	return len(s.now) == n
}

// origin gives a link to whom a question comes from in the first place, the sender if it has not been
// passed on, and tells whether it has come before.
func (l *link) origin(q *question) (origin *link, again bool, err error) {
	if q.Number == 0 {
		return l, false, nil
	}
	if q.Hops < 0 || q.Hops > mostHops || q.Origin != "" && certs.ValidName(q.Origin) != nil {
		return nil, false, fmt.Errorf("%w: a question of %q, %d hops left", errFrame, plain(q.Origin), q.Hops)
	}
	m := l.mesh
	origin = l
	if q.Origin != "" {
		origin = m.farLink(q.Origin, q.Instance)
	}
	again = q.Origin == m.me || m.seen.again(questionID{origin.instance, q.Number}, 2*m.config.FetchTimeout)
	return origin, again, nil
}

// handTo gives a session to whom the question comes from. What that node does wrong is not the fault of
// those between.
func (l *link) handTo(origin *link, s *stream, h *store.Handover) error {
	err := origin.handOver(s, h)
	if err != nil || origin == l {
		return origin.blame(err)
	}
	l.mesh.finish(origin, s)
	return errDone
}

// blame takes the blame off the link that a stream came over, where the fault is that of a node further on.
func (l *link) blame(err error) error {
	if !l.far || !errors.Is(err, errFrame) {
		return err
	}
	l.misbehaved(err)
	return errDone
}

// onward is a question that is being passed on.
type onward struct {
	from    *link
	origin  *link
	links   []*link
	hops    int
	end     time.Time
	replies chan passed
	over    chan struct{}
}

// passed is what came of passing a question on over one link.
type passed struct {
	link *link
	ok   bool // it was answered
	reply
	stream *stream // ok: found, and the session follows, or to be ended
}

// onward finds out to whom a question has to be passed on: nobody who hears it from its sender.
func (l *link) onward(q *question, origin *link, own store.ReplyKind) (o onward) {
	m := l.mesh
	if q.Number == 0 || own == store.ReplyHeld {
		return o
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The sender's list may be a moment old. Who is asked twice for that has seen the question; who is not asked
	// at all is missed by the asker, who knows who is up.
	linked := m.atlas.lists[l.node.name]
	for _, n := range m.byName() {
		if n.link != nil && n.link != l && n.name != l.node.name && n.name != origin.node.name && !linked.has(n.name) {
			o.links = append(o.links, n.link)
		}
	}
	o.from, o.origin, o.hops = l, origin, min(q.Hops, m.config.MaxHops)
	return o
}

// passOn asks those links and answers for all. A session that one of them has found comes back on the same
// stream, and so does the receipt for it; nothing of it is kept here.
func (o *onward) passOn(ctx context.Context, s *stream, q *question, own store.Reply) error {
	m := o.from.mesh
	all := m.sum(own)
	pending := map[*link]bool{}
	if o.hops == 0 {
		all.Unknown = true
		o.links = nil
	}
	o.end, _ = ctx.Deadline()
	o.replies, o.over = make(chan passed), make(chan struct{})
	over := sync.OnceFunc(func() { close(o.over) })
	defer over()
	for _, l := range o.links {
		if m.start(func() { o.askOne(l, q) }) {
			pending[l] = true
		} else {
			all.Unknown = true // the mesh has been closed
		}
	}
	for waitsFor(pending) {
		select {
		case r := <-o.replies:
			delete(pending, r.link)
			switch {
			case r.Kind == store.ReplyFound:
				over()
				if err := s.answer(r.reply); err != nil {
					r.decline()
					return err
				}
				splice(s, r.stream)
				r.stream.end()
				return errDone
			case r.Kind == store.ReplyHeld:
				return s.answer(r.reply)
			}
			all.add(&r)
			continue
		case <-ctx.Done():
		}
		break
	}
	all.Unknown = all.Unknown || len(pending) > 0
	return s.answer(all.reply())
}

// answer writes a reply.
func (s *stream) answer(r reply) error {
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	return writeFrame(s, kindReply, r)
}

// waitsFor: there is one among them that is not suspect.
func waitsFor(pending map[*link]bool) bool {
	for l := range pending {
		if !l.suspect.Load() {
			return true
		}
	}
	return false
}

// askOne puts the question to one node. A session that comes when the question is decided already is
// declined: this node keeps nothing.
func (o *onward) askOne(l *link, q *question) {
	m := l.mesh
	r, err := o.put(l, q)
	if err != nil {
		switch {
		case errors.Is(err, errFrame):
			l.misbehaved(err)
		case errors.Is(err, context.DeadlineExceeded), timedOut(err):
			m.silent(l)
		}
		r = passed{link: l}
	}
	if r.ok {
		m.answered(l)
	}
	found := r.Kind == store.ReplyFound
	select {
	case o.replies <- r:
	case <-o.over:
		if found {
			r.decline()
		}
	}
	if r.ok && !found {
		m.finish(l, r.stream)
		r.stream.end()
	}
}

// decline turns down a session that cannot be passed on any more. The asker has not heard of it.
func (r *passed) decline() {
	defer r.stream.end() // the giver stops sending, or reads the receipt when it has sent all
	if err := writeFrame(r.stream, kindReceipt, receipt{}); err == nil {
		_ = r.stream.Close() // it fails when the link has ended
	}
}

// put sends the question and reads the reply. Without an error the stream is the caller's to end.
func (o *onward) put(l *link, q *question) (passed, error) {
	m := l.mesh
	r := passed{link: l}
	ctx, cancel := context.WithDeadline(m.ctx, o.end)
	defer cancel()
	s, err := l.open(ctx)
	if err != nil {
		return r, err
	}
	// A node that leaves a question unanswered is suspect, however little of its time was left here.
	begun := time.Now()
	late := time.AfterFunc(m.config.FetchTimeout, func() { m.unanswered(l, begun) })
	defer late.Stop()
	if err = s.SetDeadline(o.end.Add(m.config.FetchTimeout + m.config.Grace)); err == nil {
		err = writeFrame(s, kindQuestion, question{Want: q.Want, Key: q.Key, Wait: q.Wait, Within: max(time.Until(o.end)*4/5, 0),
			Number: q.Number, Hops: o.hops - 1, Origin: o.origin.node.name, Instance: o.origin.instance, Inquiry: q.Inquiry})
	}
	if err == nil {
		err = expect(s, kindReply, &r.reply)
	}
	if err == nil {
		err = r.check(q.Want, l.instance, true)
	}
	if err == nil && r.Kind == store.ReplyFound {
		err = m.checkHead(q.Key, r.Record)
	}
	if err != nil {
		s.end()
		return r, err
	}
	r.ok, r.stream = true, s
	if r.Node == "" && (r.Kind == store.ReplyFound || r.Kind == store.ReplyHeld) {
		r.Node = l.node.name
	}
	return r, nil
}
