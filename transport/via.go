package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// A conversation with a node that has no link of its own goes over a stream to the first node of a
// shortest path. Its first frame says for whom it is; each node on the way opens a stream to the next and
// passes bytes on, both ways, with their end, and keeps nothing. The last one serves it as if it had
// come over a link of the sender's.

// via is the first frame of a stream to a node without a link of its own.
type via struct {
	To       string `cbor:"1,keyasint"`
	ToRun    uint64 `cbor:"2,keyasint"` // the run of it that is meant
	From     string `cbor:"3,keyasint"`
	Instance uint64 `cbor:"4,keyasint"` // of From
	Hops     int    `cbor:"5,keyasint"` // how many more nodes may pass it on
}

const (
	// mostHops bounds what others may say of hops.
	mostHops = 255
	// maxRelayed is how many streams of one link are passed on at a time.
	maxRelayed = 512
	// relayIdle is how long a stream that is passed on may stand still. Both ends have shorter times for
	// what they wait for.
	relayIdle = 3 * time.Minute
	relayStep = 16 << 10
	// defaultHops is over how many links a question goes where nothing else is set.
	defaultHops = 16
)

var (
	errNoPath = errors.New("no path of links leads to the node")
	// errDone ends the serving of a stream of which nothing is left to be done.
	errDone = errors.New("the stream has been served to its end")
)

// noPath tells whether a stream was turned back before anybody has read what was sent on it.
func noPath(err error) bool {
	s, ok := errors.AsType[*quic.StreamError](err)
	return ok && s.Remote && s.ErrorCode == streamNoPath || errors.Is(err, errNoPath)
}

// openVia opens a stream to a node that has no link of its own.
func (l *link) openVia(ctx context.Context) (*stream, error) {
	m := l.mesh
	m.mu.Lock()
	first := l.first
	if n := m.nodes[l.node.name]; n != nil && first == nil {
		first = n.first
		if n.link != nil && n.link.instance == l.instance {
			m.mu.Unlock()
			return n.link.open(ctx) // it has one by now
		}
	}
	m.mu.Unlock()
	if first == nil {
		return nil, errNoPath
	}
	s, err := first.open(ctx)
	if err != nil {
		return nil, err
	}
	if err = s.SetWriteDeadline(time.Now().Add(stall)); err == nil {
		err = writeFrame(s, kindVia, via{To: l.node.name, ToRun: l.instance, From: m.me, Instance: m.config.Instance, Hops: m.config.MaxHops - 1})
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (v *via) check() error {
	if certs.ValidName(v.To) != nil || certs.ValidName(v.From) != nil || v.To == v.From || v.Hops < 0 || v.Hops > mostHops {
		return fmt.Errorf("%w: from %q to %q, %d hops left", errFrame, plain(v.From), plain(v.To), v.Hops)
	}
	return nil
}

// serveVia serves a stream that came through others, or passes it on.
func (l *link) serveVia(s *stream, header []byte) error {
	var v via
	if err := decode(header, &v); err != nil {
		return err
	}
	if err := v.check(); err != nil {
		return err
	}
	m := l.mesh
	if l.far {
		return fmt.Errorf("%w: a stream for %q in one that came through others", errFrame, v.To)
	}
	if m.turnsAway(v.From) {
		return s.turnBack()
	}
	if v.To == m.me && v.ToRun == m.config.Instance {
		m.farLink(v.From, v.Instance).serve(s)
		return errDone
	}
	if v.To == m.me || v.From == m.me || v.Hops == 0 {
		return s.turnBack()
	}
	v.Hops = min(v.Hops, m.config.MaxHops) - 1
	return l.relay(s, v)
}

// turnBack ends a stream of which nothing was passed on.
func (s *stream) turnBack() error {
	s.CancelRead(streamNoPath)
	s.CancelWrite(streamNoPath)
	return errDone
}

// relay passes a stream on to the next node, never back.
func (l *link) relay(s *stream, v via) error {
	m := l.mesh
	next := m.nextTo(v.To)
	defer l.relayed.Add(-1)
	if l.relayed.Add(1) > maxRelayed || next == nil || next == l {
		return s.turnBack()
	}
	ctx, cancel := context.WithTimeout(m.ctx, stall)
	defer cancel()
	on, err := next.open(ctx)
	if err != nil {
		return s.turnBack()
	}
	defer on.end()
	if err := on.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return s.turnBack()
	}
	if err := writeFrame(on, kindVia, v); err != nil {
		return s.turnBack()
	}
	splice(s, on)
	return errDone
}

// nextTo is the first link on the way to a node; nil: there is no way.
func (m *Mesh) nextTo(name string) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	switch {
	case n == nil:
		return nil
	case n.link != nil:
		return n.link
	}
	return n.first
}

// splice passes bytes on between two streams, and how they end, until both directions have ended. What
// one side does not take, the other cannot send.
func splice(a, b *stream) {
	// These fail when a link has ended; so does what follows.
	_ = a.SetDeadline(time.Time{})
	_ = b.SetDeadline(time.Time{})
	idle := time.AfterFunc(relayIdle, func() {
		a.CancelRead(streamGivenUp)
		b.CancelRead(streamGivenUp)
	})
	defer idle.Stop()
	var both sync.WaitGroup
	both.Go(func() { passBytes(a, b, idle) })
	passBytes(b, a, idle)
	both.Wait()
}

// passBytes passes on what comes from one stream to another until it ends.
func passBytes(to, from *stream, idle *time.Timer) {
	// A reader that gives up, gives up the writer.
	stop := context.AfterFunc(to.Context(), func() { from.CancelRead(endCode(context.Cause(to.Context()))) })
	defer stop()
	buf := make([]byte, relayStep)
	for {
		n, err := from.Read(buf)
		idle.Reset(relayIdle)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				from.CancelRead(endCode(werr))
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			stop()
			_ = to.Close() // it fails when its reader has given up
			return
		default:
			to.CancelWrite(endCode(err))
			return
		}
	}
}

// endCode is the code with which an end is passed on.
func endCode(err error) quic.StreamErrorCode {
	switch {
	case noPath(err):
		return streamNoPath
	case errors.Is(unsupported(err), errNotSupported):
		return streamNotKnown
	}
	return streamGivenUp
}
