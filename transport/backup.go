package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"peerstate/store"
)

// Placement says on which nodes backups should be.
type Placement string

// The placements. Where there are too few such nodes, others are taken.
const (
	AnyNode   Placement = "any"
	OtherSite Placement = "other-site"
	SameSite  Placement = "same-site"
)

// keep is one thing for a node that keeps backups of the sender's sessions; the body follows. Any number of
// them come on one stream.
type keep struct {
	Kind   store.ParcelKind `cbor:"1,keyasint"`
	Key    string           `cbor:"2,keyasint"`
	Record *recordHead      `cbor:"3,keyasint"`
}

// kept answers the next keeps of its stream, in order.
type kept struct {
	Count int       `cbor:"1,keyasint"`
	But   []keptBut `cbor:"2,keyasint,omitempty"` // those that were not simply done
}

type keptBut struct {
	Index int            `cbor:"1,keyasint"` // from 0
	Kind  store.KeepKind `cbor:"2,keyasint"`
}

const (
	// keepBatch is how many changes are taken at a time, and keepWindow how many may be unanswered.
	keepBatch  = 64
	keepWindow = 512
	// keepAnswers bounds how many are answered at once.
	keepAnswers = 256
	// keepBuffer is how many bytes of small sessions go into one write.
	keepBuffer = 32 << 10
	// busyPause is how long a keeper is let alone with a session that it is just giving away itself.
	busyPause = 50 * time.Millisecond
)

// backUp tells the store who can keep backups, whenever that changes, and sends them what it has for them.
func (m *Mesh) backUp() {
	senders := map[*standing]context.CancelFunc{}
	var before []store.Keeper
	for {
		m.mu.Lock()
		change := m.change
		var keepers []store.Keeper
		links := map[*standing]*link{}
		for _, n := range m.nodes {
			k := store.Keeper{Peer: store.Peer{Node: n.name, Instance: n.instance}, Preferred: m.prefers(n)}
			switch {
			case n.link != nil && n.link.leaving.Load():
				continue
			case n.link != nil:
				// Not before both know what both hold, or each double would show here, one by one.
				k.Linked = n.suspect.IsZero() && n.met
				links[n.link.standing] = n.link
			case n.way() == nil && n.state != Connecting || n.instance == 0:
				continue
			}
			keepers = append(keepers, k)
		}
		m.mu.Unlock()
		slices.SortFunc(keepers, func(a, b store.Keeper) int { return cmp.Compare(a.Node, b.Node) })
		if !slices.Equal(keepers, before) {
			m.store.SetKeepers(keepers)
			before = keepers
		}
		for s, stop := range senders {
			if links[s] == nil {
				stop()
				delete(senders, s)
			}
		}
		for s, l := range links {
			if senders[s] == nil {
				ctx, stop := context.WithCancel(m.ctx)
				senders[s] = stop
				m.start(func() { l.sendBackups(ctx) })
			}
		}
		select {
		case <-change:
		case <-m.ctx.Done():
			for _, stop := range senders {
				stop()
			}
			m.store.SetKeepers(nil)
			return
		}
	}
}

// Keepers is how many nodes can keep backups of this node's sessions at the moment.
func (m *Mesh) Keepers() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.nodes {
		if o.link != nil && !o.link.leaving.Load() && o.suspect.IsZero() {
			n++
		}
	}
	return n
}

// prefers tells whether a node stands where backups should be. m.mu is held.
func (m *Mesh) prefers(n *node) bool {
	switch m.config.Placement {
	case OtherSite:
		return n.site != m.config.Site
	case SameSite:
		return n.site == m.config.Site
	}
	return true
}

// sendBackups sends over a link, and over those that take its place, what the store has for its node, until
// ctx ends, which says that the node is not linked without a gap any more.
func (l *link) sendBackups(ctx context.Context) {
	m := l.mesh
	out := m.store.Outbox(store.Peer{Node: l.node.name, Instance: l.instance})
	for out != nil && ctx.Err() == nil {
		l = l.latest()
		if err := l.sendFrom(ctx, out); err != nil && ctx.Err() == nil {
			m.log.Debug("backups could not be sent; they are sent again", "peer", l.node.name, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// sendFrom sends what is in an outbox on one stream, until something goes wrong, or another link takes this
// one's place. Then it takes no more and waits for what the keeper says to what was sent, so that nothing is
// sent twice, or in another order.
func (l *link) sendFrom(ctx context.Context, out *store.Outbox) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	taking, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(l.used, stop)()
	window := make(chan *store.Parcel, keepWindow)
	batch, err := out.Take(taking, keepBatch) // a stream that nothing is sent on does not exist for the other side
	if err != nil {
		return context.Cause(ctx) // nil: the link has been replaced
	}
	s, err := l.open(ctx)
	if err != nil {
		failed(batch)
		return err
	}
	l = s.link
	defer context.AfterFunc(l.conn.Context(), func() { cancel(context.Cause(l.conn.Context())) })()
	defer s.end()
	defer context.AfterFunc(ctx, func() { s.CancelRead(streamGivenUp) })()
	answers := make(chan struct{})
	started := l.mesh.start(func() {
		defer close(answers)
		cancel(l.readKept(s, window))
	})
	if !started {
		failed(batch)
		return errors.New("the mesh has been closed")
	}
	for err == nil {
		if err = l.sendBatch(s, batch); err != nil {
			failed(batch)
			break
		}
		for i, p := range batch {
			select {
			case window <- p:
				continue
			case <-ctx.Done():
			}
			failed(batch[i:])
			break
		}
		if batch = nil; taking.Err() == nil { // Take gives what there is even if its context has ended
			batch, err = out.Take(taking, keepBatch)
		}
		if batch == nil {
			if ctx.Err() == nil {
				err = s.Close() // the keeper answers what it has got, and ends the stream
			}
			break
		}
	}
	cause := context.Cause(ctx)
	if batch != nil || err != nil || cause != nil {
		cancel(err)
	}
	<-answers
	close(window)
	if batch == nil && err == nil && cause == nil && len(window) == 0 {
		return nil
	}
	for p := range window {
		p.Failed()
	}
	return errors.Join(err, cause)
}

func failed(batch []*store.Parcel) {
	for _, p := range batch {
		p.Failed()
	}
}

// sendBatch writes parcels, small ones together.
func (l *link) sendBatch(s *stream, batch []*store.Parcel) (err error) {
	buf := make([]byte, 0, keepBuffer)
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		err := writeSlowly(s, nil, buf)
		buf = buf[:0]
		return err
	}
	for _, p := range batch {
		if buf, err = appendFrame(buf, kindKeep, keep{Kind: p.Kind, Key: p.Record.Key, Record: headOf(&p.Record)}); err != nil {
			return err
		}
		body := p.Record.Body
		if len(buf)+len(body) <= keepBuffer {
			buf = append(buf, body...)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if err := writeSlowly(s, nil, body); err != nil {
			return err
		}
	}
	return flush()
}

// readKept reads what the keeper says, until an error, and reports on the parcels in the window.
func (l *link) readKept(s *stream, window <-chan *store.Parcel) error {
	m := l.mesh
	for {
		var k kept
		err := expect(s, kindKept, &k)
		if err == nil && (k.Count < 1 || k.Count > keepAnswers || len(k.But) > k.Count) {
			err = fmt.Errorf("%w: %d backups answered", errFrame, k.Count)
		}
		if err != nil {
			if errors.Is(err, errFrame) {
				l.misbehaved(err)
			}
			return err
		}
		for i := range k.Count {
			var p *store.Parcel
			select {
			case p = <-window:
			case <-l.conn.Context().Done():
				return context.Cause(l.conn.Context())
			case <-time.After(stall): // what is answered was sent, and is put there at once
				err := fmt.Errorf("%w: more backups answered than were sent", errFrame)
				l.misbehaved(err)
				return err
			}
			kind := store.KeepDone
			if len(k.But) > 0 && k.But[0].Index == i {
				kind, k.But = k.But[0].Kind, k.But[1:]
			}
			m.reported(p, kind)
		}
		if len(k.But) > 0 {
			err := fmt.Errorf("%w: answers to backups out of order", errFrame)
			l.misbehaved(err)
			return err
		}
	}
}

// reported tells the store what a keeper has said.
func (m *Mesh) reported(p *store.Parcel, kind store.KeepKind) {
	switch kind {
	case store.KeepDone:
		m.metrics.backup(outgoing, "kept")
		p.Kept()
	case store.KeepLacking:
		m.metrics.backup(outgoing, "lacking")
		p.Lacking()
	case store.KeepBusy:
		m.metrics.backup(outgoing, "busy")
		later := m.start(func() {
			select {
			case <-m.ctx.Done():
			case <-time.After(busyPause):
			}
			p.Failed()
		})
		if !later {
			p.Failed()
		}
	case store.KeepNewer:
		// Two nodes have the session. Which of them drops its own is found out with all nodes.
		m.metrics.backup(outgoing, "newer")
		p.Refused()
		m.start(func() { m.settleSoon(p.Record.Key) })
	default:
		m.metrics.backup(outgoing, "refused")
		p.Refused()
	}
}
