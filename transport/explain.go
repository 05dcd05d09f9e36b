package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"peerstate/certs"
	"peerstate/store"
)

// An operator wants to know where a session is, or what became of it. All nodes that are up are asked, those without a
// link of their own through others, and each tells what it knows: one frame for each session, and one at the end. Nothing is
// moved or renewed by it. What is told lets nobody use a session: there is no id in it, so a peer that asks by a short hash
// learns nothing that it could ask for. It learns whether there is a session with an id, as by any question, but a
// thousand times slower (explainRate).

const (
	// explainWithin is how long each node has to answer: it goes through all of its keys.
	explainWithin = 5 * time.Second
	// explainRate is how many times a second a peer may have that done, and explainBurst how many times at once: an operator
	// who tries some ids. It waits for its turn, and so do all behind the one for whom it is just being done.
	explainRate  = 2
	explainBurst = 20
	// useMost bounds how many application ids are asked about at a time.
	useMost = 16
)

// explainAsk asks what a node knows of the sessions for which one of these is true.
type explainAsk struct {
	Key  string `cbor:"1,keyasint,omitempty"`
	ID   string `cbor:"2,keyasint,omitempty"`
	Hash string `cbor:"3,keyasint,omitempty"`
}

// trace is a store.Trace, and the client that has its lock.
type trace struct {
	State         store.TraceState `cbor:"1,keyasint,omitempty"`
	Hash          string           `cbor:"2,keyasint"`
	App           string           `cbor:"3,keyasint,omitempty"`
	Asked         bool             `cbor:"4,keyasint,omitempty"`
	OtherCase     bool             `cbor:"5,keyasint,omitempty"`
	Peer          string           `cbor:"6,keyasint,omitempty"`
	Stamp         store.Stamp      `cbor:"7,keyasint,omitempty"`
	Epoch         uint64           `cbor:"8,keyasint,omitempty"`
	Size          int64            `cbor:"9,keyasint,omitempty"`
	Timeout       int32            `cbor:"10,keyasint,omitempty"`
	Left          time.Duration    `cbor:"11,keyasint,omitempty"`
	Uninitialized bool             `cbor:"12,keyasint,omitempty"`
	Lock          int32            `cbor:"13,keyasint,omitempty"`
	LockAge       time.Duration    `cbor:"14,keyasint,omitempty"`
	Waiting       int              `cbor:"15,keyasint,omitempty"`
	Since         time.Duration    `cbor:"16,keyasint,omitempty"`
	Copies        []traceCopy      `cbor:"17,keyasint,omitempty"`
	Events        []traceEvent     `cbor:"18,keyasint,omitempty"`
	Client        *traceClient     `cbor:"19,keyasint,omitempty"`
}

type traceCopy struct {
	Node    string `cbor:"1,keyasint"`
	Current bool   `cbor:"2,keyasint,omitempty"`
}

type traceEvent struct {
	What store.Event   `cbor:"1,keyasint"`
	Peer string        `cbor:"2,keyasint,omitempty"`
	Ago  time.Duration `cbor:"3,keyasint"`
}

type traceClient struct {
	Addr    string `cbor:"1,keyasint,omitempty"`
	Open    bool   `cbor:"2,keyasint,omitempty"`
	Process string `cbor:"3,keyasint,omitempty"`
	PID     int    `cbor:"4,keyasint,omitempty"`
}

// explained ends an answer.
type explained struct {
	Up     time.Duration `cbor:"1,keyasint"` // since the node started
	Memory time.Duration `cbor:"2,keyasint"` // how far back it remembers sessions that have ended
	More   bool          `cbor:"3,keyasint,omitempty"`
	Busy   bool          `cbor:"4,keyasint,omitempty"` // it was asked too often, and has not looked
}

// Client is who has a session's lock: a connection to the node's own machine.
type Client struct {
	Addr    string // where it comes from, as far as is known
	Open    bool   // the connection is open still
	Process string // at its other end, if that is on the same machine and can be seen
	PID     int    // 0: not known
}

// Trace is what a node knows of a session.
type Trace struct {
	store.Trace
	Client *Client // who has the lock; nil: nobody has, or it was taken on another node
}

// Account is what one node says of the sessions that were asked for.
type Account struct {
	Node     string
	Site     string
	State    State         // of another node
	NotAsked string        // why it has not told anything; "": it has
	Up       time.Duration // since it started
	Memory   time.Duration // how far back it remembers sessions that have ended
	More     bool          // there are more sessions than it has told of
	Traces   []Trace
}

// Explain asks all nodes, this one first, what they know of sessions. It takes five seconds at most.
func (m *Mesh) Explain(ctx context.Context, l store.Lookup) []Account {
	ctx, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	m.mu.Lock()
	var all []Account
	ways := map[string]*link{}
	for _, n := range m.byName() {
		a := Account{Node: n.name, Site: n.site, State: n.state}
		switch way := n.way(); {
		case way == nil:
			a.NotAsked = fmt.Sprintf("it is %s for %s", n.state, time.Since(n.since).Round(time.Second))
			if n.reason != "" {
				a.NotAsked += " (" + n.reason + ")"
			}
		case !m.understands(n, kindExplain) && n.link != nil:
			a.NotAsked = "its release is too old to be asked"
		case !m.understands(n, kindExplain):
			a.NotAsked = "its release is too old to be asked, or that of a node on the way to it"
		default:
			ways[n.name] = way
		}
		all = append(all, a)
	}
	m.mu.Unlock()
	var asked sync.WaitGroup
	for i := range all {
		if way := ways[all[i].Node]; way != nil {
			asked.Go(func() { m.askToExplain(ctx, way, &l, &all[i]) })
		}
	}
	mine := m.account(ctx, l)
	asked.Wait()
	return append([]Account{mine}, all...)
}

// account is what this node knows itself.
func (m *Mesh) account(ctx context.Context, l store.Lookup) Account {
	a := AccountOf(ctx, m.store, l, m.config.ClientOf)
	a.Node, a.Site, a.Up = m.me, m.config.Site, time.Since(m.started)
	return a
}

// AccountOf is what a store knows of sessions, without the name of its node: all of an account where there are no other
// nodes. clientOf is as in Config.
func AccountOf(ctx context.Context, st *store.Store, l store.Lookup, clientOf func(uint16, time.Duration) Client) Account {
	a := Account{State: Up}
	var traces []store.Trace
	traces, a.Memory, a.More = st.Explain(ctx, l)
	for _, t := range traces {
		out := Trace{Trace: t}
		if t.Client != 0 && clientOf != nil {
			c := clientOf(t.Client, t.LockAge)
			out.Client = &c
		}
		a.Traces = append(a.Traces, out)
	}
	return a
}

// askToExplain fills in what a node says.
func (m *Mesh) askToExplain(ctx context.Context, l *link, q *store.Lookup, a *Account) {
	err := m.hearAccount(ctx, l, q, a)
	switch {
	case err == nil:
		return
	case errors.Is(err, errFrame):
		l.misbehaved(err)
		a.NotAsked = "its answer cannot be read"
	case errors.Is(unsupported(err), errNotSupported):
		a.NotAsked = "its release is too old to be asked"
	case timedOut(err) || ctx.Err() != nil:
		a.NotAsked = fmt.Sprintf("it has not answered within %v", explainWithin)
	case errors.Is(err, errTooMuch):
		a.NotAsked = "it is asked too often just now; try again in some seconds"
	default:
		a.NotAsked = "the link to it has ended: " + plain(err.Error())
	}
	a.Traces = nil
}

func (m *Mesh) hearAccount(ctx context.Context, l *link, q *store.Lookup, a *Account) error {
	s, err := l.openUntil(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	defer context.AfterFunc(ctx, func() { s.CancelRead(streamGivenUp) })()
	if err := writeFrame(s, kindExplain, explainAsk{q.Key, q.ID, q.Hash}); err != nil {
		return err
	}
	for {
		k, data, err := readFrame(s)
		if err != nil {
			return err
		}
		if k == kindExplained {
			var e explained
			if err := decode(data, &e); err != nil {
				return err
			}
			if e.Busy {
				return errTooMuch
			}
			a.Up, a.Memory, a.More = max(e.Up, 0), max(e.Memory, 0), e.More
			m.finish(l, s)
			return nil
		}
		var t trace
		if k != kindTrace || len(a.Traces) == store.MostTraces {
			return fmt.Errorf("%w: kind %d after %d traces", errFrame, k, len(a.Traces))
		}
		if err := decode(data, &t); err != nil {
			return err
		}
		if err := t.check(); err != nil {
			return err
		}
		a.Traces = append(a.Traces, t.of())
	}
}

func (l *link) serveExplain(s *stream, header []byte) error {
	var q explainAsk
	if err := decode(header, &q); err != nil {
		return err
	}
	if len(q.Key) > maxKey || len(q.ID) > maxKey || len(q.Hash) > maxRef || q == (explainAsk{}) {
		return fmt.Errorf("%w: to explain a key of %d bytes, an id of %d, a hash of %d", errFrame, len(q.Key), len(q.ID), len(q.Hash))
	}
	m, paid := l.mesh, s.link.quota
	ctx, cancel := context.WithTimeout(m.ctx, explainWithin*4/5)
	defer cancel()
	end := explained{Busy: true}
	var a Account
	if m.explainTurn(ctx, paid) {
		a = m.account(ctx, store.Lookup{Key: q.Key, ID: q.ID, Hash: q.Hash})
		<-m.explaining
		rep := store.Reply{Kind: store.ReplyMissing}
		if len(a.Traces) > 0 {
			rep.Kind = store.ReplyHeld
		}
		paid.answered(store.Locate, &rep)
		end = explained{Up: a.Up, Memory: a.Memory, More: a.More}
	}
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	for i := range a.Traces {
		if err := writeFrame(s, kindTrace, traceOf(&a.Traces[i])); err != nil {
			return err
		}
	}
	return writeFrame(s, kindExplained, end)
}

// explainTurn waits until a peer may have all keys gone through; then the caller takes one out of m.explaining when it has
// been done. false: there are too many before it.
func (m *Mesh) explainTurn(ctx context.Context, paid *quota) bool {
	err := paid.explains.Wait(ctx)
	if err == nil {
		select {
		case m.explaining <- struct{}{}:
			return true
		case <-ctx.Done():
		}
	}
	paid.refuse(refusedExplain)
	return false
}

func traceOf(t *Trace) trace {
	out := trace{State: t.State, Hash: t.Hash, App: t.App, Asked: t.Asked, OtherCase: t.OtherCase, Peer: t.Peer, Stamp: t.Stamp, Epoch: t.Epoch,
		Size: t.Size, Timeout: t.Timeout, Left: t.Left, Uninitialized: t.Uninitialized, Lock: t.Lock, LockAge: t.LockAge, Waiting: t.Waiting, Since: t.Since}
	for _, c := range t.Copies[:min(len(t.Copies), mostTold)] {
		out.Copies = append(out.Copies, traceCopy(c))
	}
	for _, e := range t.Events[:min(len(t.Events), mostTold)] {
		out.Events = append(out.Events, traceEvent(e))
	}
	if t.Client != nil {
		out.Client = (*traceClient)(t.Client)
	}
	return out
}

// mostTold bounds how many copies and events of a session are told.
const mostTold = 64

// check finds what no node tells.
func (t *trace) check() error {
	bad := func(name string) bool { return certs.ValidName(name) != nil }
	if t.State > store.TraceLoaded || len(t.App) > maxKey || len(t.Hash) > maxRef || len(t.Copies) > mostTold || len(t.Events) > mostTold ||
		t.Peer != "" && bad(t.Peer) || slices.ContainsFunc(t.Copies, func(c traceCopy) bool { return bad(c.Node) }) ||
		slices.ContainsFunc(t.Events, func(e traceEvent) bool { return e.Peer != "" && bad(e.Peer) || e.What > store.EventTakenOver }) {
		return fmt.Errorf("%w: a trace in state %d, with %d copies and %d events", errFrame, t.State, len(t.Copies), len(t.Events))
	}
	return nil
}

// of gives the trace for people: text that can be shown, and no negative times.
func (t *trace) of() Trace {
	out := Trace{Trace: store.Trace{State: t.State, Hash: plain(t.Hash), App: printable(t.App), Asked: t.Asked, OtherCase: t.OtherCase, Peer: t.Peer,
		Stamp: min(t.Stamp, 1<<62), Epoch: t.Epoch, Size: max(t.Size, 0), Timeout: max(t.Timeout, 0), Left: max(t.Left, 0),
		Uninitialized: t.Uninitialized, Lock: t.Lock, LockAge: max(t.LockAge, 0), Waiting: max(t.Waiting, 0), Since: max(t.Since, 0)}}
	for _, c := range t.Copies {
		out.Copies = append(out.Copies, store.TraceCopy(c))
	}
	for _, e := range t.Events {
		out.Events = append(out.Events, store.TraceEvent{What: e.What, Peer: e.Peer, Ago: max(e.Ago, 0)})
	}
	if c := t.Client; c != nil {
		out.Client = &Client{Addr: plain(c.Addr), Open: c.Open, Process: plain(c.Process), PID: max(c.PID, 0)}
	}
	return out
}

// printable makes an application's id from a peer fit for a terminal and a log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
