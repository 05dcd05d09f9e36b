package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// Codes with which a connection is closed, and streams are given up.
const (
	closeBye        quic.ApplicationErrorCode = iota + 1 // the node stops
	closeReplaced                                        // another link to the same node is used
	closeRefused                                         // the hello was turned down
	closeMisbehaved                                      // bytes that no node sends
	closeSuspect                                         // no question answered for the grace time
	closeUnwanted                                        // its certificate is no longer accepted
	closeTwin                                            // another live node has this name
	streamGivenUp   quic.StreamErrorCode      = 1
	streamNoPath    quic.StreamErrorCode      = 2 // nothing of it was passed on, or read
	streamNotKnown  quic.StreamErrorCode      = 3 // it begins with something of a later version
)

// link is a live connection to another node whose hello was answered, or, where far is set, a way to one
// that leads through others: then it has no connection of its own.
type link struct {
	mesh     *Mesh
	conn     *quic.Conn
	node     *node
	peer     certs.Peer
	instance uint64
	site     string
	program  string
	version  int    // of the protocol; see speaks
	aliases  string // digest of its aliases of application ids
	holds    bool   // it held sessions when it was linked
	dialled  bool   // by this node
	since    time.Time
	control  *quic.Stream
	streams  atomic.Int64 // that are open, in both directions
	moved    atomic.Int64 // how often something was read or written on one of them
	quota    *quota       // of the node at the other end; nil where far is set: that of the link which its streams come over counts
	*standing
	renewal
	// gate keeps a session from being taken in over a link after others were told that the run at its
	// other end is over. It may be locked while Mesh.mu is, and nothing but the store while it is.
	gate    sync.RWMutex
	over    bool // under gate
	far     bool
	first   *link           // where far is set: the link that it leads over; nil: the first of a shortest path
	relayed atomic.Int64    // streams that came over it and are passed on
	bulk    atomic.Int64    // streams that bring many sessions over it, each with a buffer
	untold  map[string]bool // under Mesh.mu: whose lists of links the other side has not been told
	told    chan struct{}   // under Mesh.mu: closed when it has; nil: nothing is being told

	mu    sync.Mutex
	sent  uint64              // number of the last ping
	pongs map[uint64]pingSent // pings without a pong yet
}

// standing is what is known of the node at the other end for as long as links to one run of it take each
// other's place without a gap. They share it.
type standing struct {
	suspect atomic.Bool
	listed  atomic.Bool // it has told whom it knows
	leaving atomic.Bool // it hands its sessions over and takes nothing in
	drained atomic.Bool // it has said good-bye with nothing left over
	bad     sync.Once   // it has been closed for misbehaviour
	offers
}

type pingSent struct {
	at   time.Time
	pong chan struct{}
}

// ended is closed when the link has ended. One that leads through others has no end of its own.
func (l *link) ended() <-chan struct{} {
	if l.far {
		return l.mesh.ctx.Done()
	}
	return l.conn.Context().Done()
}

// shut takes no session in over this link from now on.
func (l *link) shut() {
	l.gate.Lock()
	defer l.gate.Unlock()
	l.over = true
}

// enter locks the gate for taking a session in; false: the link is over, and the gate is not locked.
func (l *link) enter() bool {
	l.gate.RLock()
	if l.over {
		l.gate.RUnlock()
		return false
	}
	return true
}

// close ends the link at once.
func (l *link) close(code quic.ApplicationErrorCode, reason string) {
	if l.far {
		return // the nodes on the way have done nothing
	}
	// Its error would be that the connection is closed already.
	_ = l.conn.CloseWithError(code, reason)
}

// closeAll ends all links to the node at once, also those that have been replaced.
func (l *link) closeAll(code quic.ApplicationErrorCode, reason string) {
	l.close(code, reason)
	if l.far {
		return
	}
	l.mesh.mu.Lock()
	all := l.mesh.linksTo(l.node)
	l.mesh.mu.Unlock()
	for _, o := range all {
		o.close(code, reason)
	}
}

// run serves a link until it ends. The node has been made up before.
func (l *link) run() {
	m := l.mesh
	m.wg.Go(l.readControl)
	for {
		s, err := l.conn.AcceptStream(m.ctx)
		if err != nil {
			break
		}
		st := l.stream(s)
		m.wg.Go(func() {
			defer st.end()
			l.serve(st)
		})
	}
	<-l.conn.Context().Done()
	cause := context.Cause(l.conn.Context())
	if app, ok := errors.AsType[*quic.ApplicationError](cause); ok && app.Remote && app.ErrorCode == closeTwin {
		m.twin(m.me, l.conn.RemoteAddr().String())
	}
	reason := closeReason(cause)
	l.shut()
	m.mu.Lock()
	if l.node.link != l || m.closed {
		m.mu.Unlock()
		return // another link has taken its place
	}
	if next, err := m.standIn(l); err == nil {
		m.mu.Unlock()
		m.begin(next, l)
		return
	}
	defer m.mu.Unlock()
	for _, old := range m.linksTo(l.node) {
		old.shut() // replaced links take nothing in either when the node is said to be gone
		m.wg.Go(func() { old.close(closeReplaced, "the link that was used instead has ended") })
	}
	m.unlinked(l.node, reason)
	if l.drained.Load() {
		m.log.Info("a node has left, and nobody waits for it: it has handed over all its sessions", "peer", l.node.name)
		return
	}
	m.log.Warn("a link has ended", "peer", l.node.name, "addr", l.conn.RemoteAddr().String(), "reason", reason)
}

// closeReason says in plain words why a connection ended.
func closeReason(err error) string {
	var app *quic.ApplicationError
	var idle *quic.IdleTimeoutError
	var reset *quic.StatelessResetError
	switch {
	case errors.As(err, &app) && app.Remote:
		return "closed by the other side: " + plain(app.ErrorMessage)
	case errors.As(err, &app):
		return plain(app.ErrorMessage)
	case errors.As(err, &idle):
		return "nothing was heard from it for 5 s"
	case errors.As(err, &reset):
		return "the other side has started anew"
	case err == nil:
		return "closed"
	}
	return plain(err.Error()) // it may quote the other side
}

// plain makes a text from a peer fit for a log line.
func plain(s string) string {
	const most = 200
	b := []byte(s[:min(len(s), most)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// misbehaved closes a link over which came what no node sends, and counts it. What came through others
// is only counted.
func (l *link) misbehaved(err error) {
	l.bad.Do(func() {
		l.mesh.metrics.misbehaved.Inc()
		if l.far {
			if l.mesh.repeats.first("misbehaved " + l.node.name) {
				l.mesh.log.Error("a node sent through others what no node sends", "peer", l.node.name, "error", err)
			}
			return
		}
		l.mesh.log.Error("a peer sent what no peer sends; its link is closed", "peer", l.node.name, "error", err)
		l.closeAll(closeMisbehaved, "malformed frames")
	})
}

// ping sends a ping; the returned channel is closed when its pong is here.
func (l *link) ping() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pongs) > 16 {
		clear(l.pongs) // a peer that answers none; the link's own time-out deals with it
	}
	l.sent++
	p := pingSent{at: time.Now(), pong: make(chan struct{})}
	l.pongs[l.sent] = p
	l.send(kindPing, ping{N: l.sent, Clock: p.at.UnixNano(), Sessions: l.mesh.sessions.Load(), Number: l.mesh.Certs().DocumentNumber()})
	return p.pong
}

// say sends a frame to the node, on the link that is in use.
func (l *link) say(k kind, header any) {
	l = l.latest()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send(k, header)
}

// send writes a frame to the control stream, without waiting: when there is no room the other side has
// long not read it. A failure shows in the link's end. l.mu is held.
func (l *link) send(k kind, header any) {
	b, err := appendFrame(make([]byte, 0, 64), k, header)
	if err == nil {
		err = l.control.TryWriteAll(b)
	}
	if err != nil && l.conn.Context().Err() == nil {
		l.close(closeMisbehaved, "the control stream is stuck")
	}
}

// readControl answers pings and takes pongs until the link ends.
func (l *link) readControl() {
	for {
		k, data, err := readFrame(l.control)
		if err == nil {
			err = l.quota.control.Wait(l.conn.Context())
		}
		if err == nil {
			l.confirm()
		}
		if err == nil {
			err = l.controlFrame(k, data)
		}
		switch {
		case err == nil:
		case errors.Is(err, errFrame):
			l.misbehaved(err)
			return
		default:
			if errors.Is(err, io.EOF) {
				l.close(closeBye, "the control stream ended")
			}
			return
		}
	}
}

func (l *link) controlFrame(k kind, data []byte) error {
	switch k {
	case kindBye:
		l.drained.Store(true)
		return nil
	case kindLeave:
		l.leave()
		return nil
	case kindForget:
		return l.forgotten(data)
	case kindNodes:
		return l.learn(data)
	case kindRenew:
		return l.toRenew()
	case kindDone:
		l.itsDone.Store(true)
		return nil
	case kindPing, kindPong:
		return l.pinged(k, data)
	}
	if !k.known() && k != 0 {
		return nil // a later version says something that one can do without
	}
	return fmt.Errorf("%w: kind %d on the control stream", errFrame, k)
}

// pinged answers a ping, or takes a pong.
func (l *link) pinged(k kind, data []byte) error {
	var p ping
	if err := decode(data, &p); err != nil {
		return err
	}
	now := time.Now()
	if k == kindPing {
		l.has(p.Number)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.send(kindPong, ping{N: p.N, Clock: now.UnixNano(), Sessions: l.mesh.sessions.Load(), Answered: l.mesh.hitsHere()})
		return nil
	}
	l.mu.Lock()
	sent, ok := l.pongs[p.N]
	delete(l.pongs, p.N)
	l.mu.Unlock()
	if ok { // not given up
		close(sent.pong)
		l.mesh.clockOf(l, p, sent.at, now)
	}
	return nil
}

// alive asks the other side for a sign of life within a second.
func (l *link) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case <-l.ping():
		return true
	case <-l.conn.Context().Done():
	case <-ctx.Done():
	}
	return false
}
