package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"peerstate/certs"
	"peerstate/store"
)

// stall is how long a transfer may stand still before it is given up. Flowing bytes are an answer,
// however long they flow.
const stall = 5 * time.Second

// question asks a node for a session, or where it is.
type question struct {
	Want   store.Want    `cbor:"1,keyasint"`
	Key    string        `cbor:"2,keyasint"`
	Within time.Duration `cbor:"3,keyasint"`           // how long the asker waits for the reply
	Wait   time.Duration `cbor:"4,keyasint,omitempty"` // how much of that for a lock
	// For a question that is passed on to further nodes (flood.go):
	Number   uint64 `cbor:"5,keyasint,omitempty"` // its number at its origin; 0: it is not passed on
	Hops     int    `cbor:"6,keyasint,omitempty"` // over how many more links it may go
	Origin   string `cbor:"8,keyasint,omitempty"` // who wants to know; empty: the sender
	Instance uint64 `cbor:"9,keyasint,omitempty"` // of Origin
	// Inquiry is the number of the question in the store that asks it.
	Inquiry uint64 `cbor:"10,keyasint,omitempty"`
}

// reply answers it.
type reply struct {
	Kind    store.ReplyKind `cbor:"1,keyasint"`
	Locked  bool            `cbor:"2,keyasint,omitempty"`
	Cookie  int32           `cbor:"3,keyasint,omitempty"`
	LockAge time.Duration   `cbor:"4,keyasint,omitempty"`
	Node    string          `cbor:"5,keyasint,omitempty"`
	Epoch   uint64          `cbor:"6,keyasint,omitempty"`
	Deleted store.Stamp     `cbor:"7,keyasint,omitempty"`
	// Backup: of a session of Node, in this run. Moved: to Node, in this run; 0: that is not known.
	Instance uint64      `cbor:"15,keyasint,omitempty"`
	Stamp    store.Stamp `cbor:"18,keyasint,omitempty"` // Moved: that it had then
	// Found:
	Giver  uint64      `cbor:"8,keyasint,omitempty"`
	Number uint64      `cbor:"9,keyasint,omitempty"`
	Record *recordHead `cbor:"10,keyasint,omitempty"`
	// From a node that has passed the question on. Node is the holder then, or the giver.
	Unknown  bool         `cbor:"11,keyasint,omitempty"` // somebody there could not say
	Creating []creatorRef `cbor:"17,keyasint,omitempty"` // who is about to create it, the sender among them
	Asked    []peerRef    `cbor:"13,keyasint,omitempty"` // who has said that it does not have it, beside the sender
	Seen     bool         `cbor:"14,keyasint,omitempty"` // missing: the question has come before, and is answered there
	Holders  []peerRef    `cbor:"16,keyasint,omitempty"` // of whose session somebody there has a backup
}

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

// timedOut tells a deadline from other errors of a stream.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
