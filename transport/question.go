package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"peerstate/certs"
	"peerstate/store"
)

// stall is how long a transfer may stand still before it is given up. Flowing bytes are an answer,
// however long they flow.
const stall = 5 * time.Second

// said is what one node said to a question, as far as the whole verdict needs it.
type said struct {
	link *link
	kind replyKind
	reply
}

type replyKind uint8

const (
	saidNothing  replyKind = iota // no answer, or "cannot say"
	saidMissing                   // it does not have it
	saidCreating                  // it is about to create it
	saidMoved                     // it gave it to another
	saidHeld                      // it has it and keeps it
	saidBackup                    // it has a backup of another node's
	coming                        // the session is on its way
	broughtIt                     // the session is here now
)

// Ask implements store.Farm.
func (m *Mesh) Ask(ctx context.Context, q store.Question) store.Verdict {
	begun := time.Now()
	v := m.ask(ctx, q)
	m.metrics.asked(v.Outcome, time.Since(begun))
	return v
}

// ask puts a question to all linked nodes at once and gathers what they say. The first that brings
// the session, or says who holds it, decides; otherwise all that are not suspect are waited for.
func (m *Mesh) ask(ctx context.Context, q store.Question) store.Verdict {
	begun := time.Now()
	own, kept := m.store.BackupOf(q.Key)
	if kept && m.vacant(own.Holder) && m.promoteNow(ctx, own) {
		return store.Verdict{Outcome: store.Arrived}
	}
	m.mu.Lock()
	unknown := m.unknowable()
	var links []*link
	var further map[string]bool
	for _, n := range m.byName() {
		switch {
		case n.link != nil:
			links = append(links, n.link)
		case n.far != nil:
			further = also(further, n.name)
		}
	}
	fl := m.flood()
	m.mu.Unlock()

	g := &gathering{mesh: m, question: q, begun: begun, replies: make(chan said), over: make(chan struct{}),
		open: map[*link]int{}, coming: map[*link]bool{}, followed: map[string]note{}, denied: map[string]uint64{}, unknown: unknown, further: further}
	if kept {
		g.holders = append(g.holders, own.Holder)
	}
	defer close(g.over)
	if end, ok := ctx.Deadline(); ok {
		g.end = end
	} else {
		g.end = begun.Add(m.config.FetchTimeout)
	}
	for _, l := range links {
		g.put(l, fl)
	}
	for g.waits() {
		select {
		case r := <-g.replies:
			if v, decided := g.take(r); decided {
				return v
			}
		case <-ctx.Done():
			for l := range g.open {
				if !g.coming[l] {
					m.unanswered(l, begun)
				}
			}
			return store.Verdict{}
		}
	}
	if g.unknown || len(g.open) > 0 || len(g.further) > 0 || g.backed() {
		return store.Verdict{Creating: g.creating}
	}
	if m.cameSince(begun) {
		return store.Verdict{Creating: g.creating} // it was not asked, and may have the session
	}
	return store.Verdict{Outcome: store.Missing, Deleted: g.deleted, Creating: g.creating}
}

// gathering collects the replies to one question. Only the goroutine of ask uses it.
type gathering struct {
	mesh     *Mesh
	question store.Question
	begun    time.Time
	end      time.Time
	replies  chan said
	over     chan struct{}
	open     map[*link]int   // to whom how many questions are still unanswered
	coming   map[*link]bool  // from whom the session is arriving
	followed map[string]note // to which nodes it was asked again, and by which note
	unknown  bool            // a node that may have the session cannot say, or cannot be asked
	further  map[string]bool // nodes without a link that are up, and have not said that they do not have it
	deleted  store.Stamp
	creating []store.Creator
	holders  []store.Peer      // of whose session a node has a backup
	denied   map[string]uint64 // nodes that do not hold it, and in which run they said so
}

// backed tells whether there is a backup of a session of which nobody knows that it has ended. A holder's
// own word counts more than that of its keepers.
func (g *gathering) backed() bool {
	g.denied[g.mesh.me] = g.mesh.config.Instance
	for _, h := range g.holders {
		if g.denied[h.Node] != h.Instance {
			return true
		}
	}
	return false
}

// put asks one node, in a goroutine that goes on when the question is decided by another: a session
// that is on its way is taken in all the same.
func (g *gathering) put(l *link, fl flood) {
	m := g.mesh
	asked := m.start(func() {
		m.askOne(l, g.question, fl, g.end, func(r said) {
			select {
			case g.replies <- r:
			case <-g.over:
			}
		})
	})
	if asked {
		g.open[l]++
	} else {
		g.unknown = true // the mesh has been closed
	}
}

// waits: there is a node that has not answered yet, and is not suspect.
func (g *gathering) waits() bool {
	for l := range g.open {
		if !l.suspect.Load() {
			return true
		}
	}
	return false
}

// take weighs one reply.
func (g *gathering) take(r said) (v store.Verdict, decided bool) {
	if r.kind == coming {
		g.coming[r.link] = true
		return store.Verdict{}, false
	}
	if g.open[r.link]--; g.open[r.link] == 0 {
		delete(g.open, r.link)
	}
	g.beyond(&r)
	switch r.kind {
	case saidMissing, saidCreating, saidMoved:
		if !r.Seen {
			g.denied[r.link.node.name] = r.link.instance
		}
	}
	switch r.kind {
	case broughtIt:
		return store.Verdict{Outcome: store.Arrived}, true
	case saidHeld:
		return store.Verdict{Outcome: store.Held, Node: cmp.Or(r.Node, r.link.node.name),
			Locked: r.Locked, Cookie: r.Cookie, LockAge: max(r.LockAge, 0)}, true
	case saidMissing:
		g.deleted = max(g.deleted, r.Deleted)
	case saidCreating:
		g.deleted = max(g.deleted, r.Deleted)
	case saidMoved:
		g.follow(r.note())
	case saidBackup: // see beyond
	case saidNothing:
		g.unknown = true
	}
	return store.Verdict{}, false
}

// follow asks the node to which another has given the session a moment ago: it may have said that it
// does not have it just before it came.
func (g *gathering) follow(to note) {
	m, name := g.mesh, to.Node
	if name == m.me {
		if to.Instance != 0 && to.Instance != m.config.Instance {
			g.unknown = true // to an earlier run of this node, which may have given it on
		}
		return // and it has gone on, or ended, since; the others know
	}
	if known, ok := g.followed[name]; ok && !to.newer(known) {
		return
	}
	g.followed[name] = to
	m.mu.Lock()
	n := m.nodes[name]
	var l *link
	if n != nil {
		l = n.way()
	}
	// A run that is over, or may be, may have given the session on, and its note is gone with it. And one that is not up here is there all the same if another node says so,
	// whatever this one has heard last.
	restarted := n == nil || n.since.After(g.begun) || l != nil && to.Instance != 0 && l.instance != to.Instance
	m.mu.Unlock()
	if l == nil || restarted {
		g.unknown = true
	}
	if l != nil {
		g.put(l, flood{})
	}
}

// askOne puts a question to one node and tells what it said. It returns when all that follows from
// the answer is done.
func (m *Mesh) askOne(l *link, q store.Question, fl flood, end time.Time, tell func(said)) {
	nothing := said{link: l}
	ctx, cancel := context.WithDeadline(m.ctx, end)
	defer cancel()
	s, err := l.open(ctx)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			m.silent(l) // it lets no more questions in
		}
		tell(nothing)
		return
	}
	defer s.end()
	// A reply that comes too late for this question still shows that the node is well, and a session
	// that it brings is taken in. The moment more is for silent: by then it has been suspect for
	// the grace time.
	if err = s.SetDeadline(end.Add(m.config.Grace + 100*time.Millisecond)); err == nil {
		err = writeFrame(s, kindQuestion, question{Want: q.Want, Key: q.Key, Wait: q.Wait, Within: max(time.Until(end)*4/5, 0),
			Number: fl.number, Hops: fl.hops, Inquiry: q.Inquiry})
	}
	var rep reply
	if err == nil {
		err = expect(s, kindReply, &rep)
	}
	if err == nil {
		err = rep.check(q.Want, l.instance, fl.number != 0)
	}
	if err != nil {
		switch {
		case errors.Is(err, errFrame):
			l.misbehaved(err)
		case timedOut(err):
			m.silent(l)
		}
		tell(nothing)
		return
	}
	m.answered(l)
	r := said{link: l, reply: rep}
	switch rep.Kind {
	case store.ReplyMissing:
		r.kind = saidMissing
	case store.ReplyCreating:
		r.kind = saidCreating
	case store.ReplyMoved:
		r.kind = saidMoved
	case store.ReplyHeld:
		r.kind = saidHeld
	case store.ReplyBackup:
		r.kind = saidBackup
	case store.ReplyFound:
		m.takeOver(l, s, q, r, tell)
		return
	}
	tell(r)
	m.finish(l, s)
}

// check finds replies that no node gives to a question of that kind. giver is the node's instance; others may
// have been asked by it if the question was to be passed on.
func (r *reply) check(want store.Want, giver uint64, passed bool) error {
	switch {
	case r.Kind > store.ReplyBackup:
		return fmt.Errorf("%w: a reply of kind %d", errFrame, r.Kind)
	case r.Kind == store.ReplyFound && want != store.Move:
		return fmt.Errorf("%w: a session for a question that only asks where it is", errFrame)
	case r.Kind == store.ReplyFound && (!passed || r.Node == "") && r.Giver != giver:
		return fmt.Errorf("%w: a hand-over in another node's name", errFrame)
	case r.Kind == store.ReplyHeld && r.Locked && r.Cookie < 1:
		return fmt.Errorf("%w: a lock with cookie %d", errFrame, r.Cookie)
	case (r.Kind == store.ReplyMoved || r.Kind == store.ReplyBackup) && certs.ValidName(r.Node) != nil:
		return fmt.Errorf("%w: moved to %q", errFrame, plain(r.Node))
	}
	return r.checkNames()
}

// finish ends this side of a conversation and reads the other's end.
func (m *Mesh) finish(l *link, s *stream) {
	if err := s.Close(); err != nil {
		return // the link has ended
	}
	if err := s.SetReadDeadline(time.Now().Add(stall)); err != nil {
		return
	}
	var one [1]byte
	if n, _ := s.Read(one[:]); n > 0 {
		l.misbehaved(fmt.Errorf("%w: bytes behind the last frame", errFrame))
	}
}

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

// forced waits, where writes do, until a session that was received is on disk: the giver lets its own copy go.
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

// timedOut tells a deadline from other errors of a stream.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
