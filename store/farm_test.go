package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// network joins stores in one process, as the real one would: it calls what the other node's store
// has for each thing that comes over the wire. A hook may pause, delay or lose each of them.
type network struct {
	nodes []*node
	wg    group

	mu   sync.Mutex
	hook func(message) bool // false: it is lost
	cut  map[[2]string]bool
	sent []message // all that was sent so far, lost or not
}

// group is a sync.WaitGroup whose first Go may come at any time, also while others find that there is nothing to wait for.
type group struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when there are none
}

func (g *group) Go(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n++; g.n == 1 {
		g.none = make(chan struct{})
	}
	go func() {
		defer g.done()
		do()
	}()
}

func (g *group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 {
		close(g.none)
	}
}

func (g *group) Wait() {
	for {
		g.mu.Lock()
		n, none := g.n, g.none
		g.mu.Unlock()
		if n == 0 {
			return
		}
		<-none
	}
}

// node is one of the stores, and its view of the others.
type node struct {
	*Store
	lockWait time.Duration
	net      *network
	name     string
	instance uint64
}

var _ Farm = (*node)(nil)

// message is one thing on the wire.
type message struct {
	kind     string
	from, to string
	key      string
}

// The kinds of messages.
const (
	aQuestion = "question"
	aReply    = "reply"
	aRecord   = "record"
	aReceipt  = "receipt"
	aRequest  = "request"
	anAnswer  = "answer"
	aDoubt    = "doubt"
)

const fetchTimeout = 2500 * time.Millisecond

// farm gives stores of these names, joined and empty. At the end of the test they are checked.
func farm(t *testing.T, names ...string) *network {
	t.Helper()
	return waitingFarm(t, 0, names...)
}

// waitingFarm is farm with stores in which requests wait for a lock.
func waitingFarm(t *testing.T, lockWait time.Duration, names ...string) *network {
	t.Helper()
	net := &network{cut: map[[2]string]bool{}}
	for i, name := range names {
		n := &node{net: net, name: name, instance: uint64(i + 1), lockWait: lockWait}
		n.start()
		net.nodes = append(net.nodes, n)
	}
	t.Cleanup(func() {
		net.wg.Wait()
		for _, n := range net.nodes {
			n.Close()
			if err := checkIdle(n.Store); err != nil {
				t.Errorf("%s: %v", n.name, err)
			}
		}
	})
	return net
}

func (n *node) start() {
	n.Store = New(Options{Node: n.name, Instance: n.instance, FetchTimeout: fetchTimeout, LockWait: n.lockWait})
	n.Join(n)
}

// restart gives the node a new run, which knows nothing.
func (n *node) restart() {
	n.Close()
	n.instance += 100
	n.start()
}

func (net *network) named(name string) *node {
	for _, n := range net.nodes {
		if n.name == name {
			return n
		}
	}
	panic("no node " + name)
}

// on sets what becomes of each message from now on; nil: it arrives.
func (net *network) on(hook func(message) bool) {
	net.mu.Lock()
	defer net.mu.Unlock()
	net.hook = hook
}

// link makes or cuts the link between two nodes.
func (net *network) link(a, b string, up bool) {
	net.mu.Lock()
	defer net.mu.Unlock()
	net.cut[[2]string{a, b}], net.cut[[2]string{b, a}] = !up, !up
}

func (net *network) linked(a, b string) bool {
	net.mu.Lock()
	defer net.mu.Unlock()
	return !net.cut[[2]string{a, b}]
}

// deliver tells whether a message arrives, when the hook says so.
func (net *network) deliver(kind, from, to, key string) bool {
	m := message{kind, from, to, key}
	net.mu.Lock()
	net.sent = append(net.sent, m)
	hook := net.hook
	net.mu.Unlock()
	return (hook == nil || hook(m)) && net.linked(from, to)
}

// count tells how many messages of a kind a node has sent.
func (net *network) count(kind, from string) (n int) {
	net.mu.Lock()
	defer net.mu.Unlock()
	for _, m := range net.sent {
		if m.kind == kind && m.from == from {
			n++
		}
	}
	return n
}

// said is what one node said to a question. arrived: the session, or a newer record, is here.
type said struct {
	node    string
	known   bool
	arrived bool
	Reply
}

// Ask implements Farm.
func (n *node) Ask(ctx context.Context, q Question) Verdict {
	end, ok := ctx.Deadline()
	if !ok {
		panic("a question without a deadline")
	}
	replies, over := make(chan said), make(chan struct{})
	defer close(over)
	var (
		open     int
		unknown  bool
		v        = Verdict{Outcome: Missing}
		followed = map[string]Reply{}
	)
	put := func(to *node) {
		open++
		n.net.wg.Go(func() {
			n.askOne(end, to, q, func(s said) {
				select {
				case replies <- s:
				case <-over:
				}
			})
		})
	}
	for _, to := range n.net.nodes {
		switch {
		case to == n:
		case n.net.linked(n.name, to.name):
			put(to)
		default:
			unknown = true
		}
	}
	for open > 0 {
		var s said
		select {
		case s = <-replies:
			open--
		case <-ctx.Done():
			return Verdict{}
		}
		if s.known && s.Creating != 0 {
			v.Creating = append(v.Creating, Creator{Peer{s.node, n.net.named(s.node).instance}, s.Creating})
		}
		switch {
		case s.arrived:
			return Verdict{Outcome: Arrived}
		case !s.known || s.Kind == ReplyNotKnown:
			unknown = true
		case s.Kind == ReplyHeld:
			return Verdict{Outcome: Held, Node: s.node, Locked: s.Locked, Cookie: s.Cookie, LockAge: s.LockAge}
		case s.Kind == ReplyMissing:
			v.Deleted = max(v.Deleted, s.Deleted)
		case s.Kind == ReplyCreating:
			v.Deleted = max(v.Deleted, s.Deleted)
		case s.Kind == ReplyMoved && s.Node != n.name:
			if f, ok := followed[s.Node]; ok && cmp.Or(cmp.Compare(f.Stamp, s.Stamp), cmp.Compare(f.Epoch, s.Epoch)) >= 0 {
				continue
			}
			followed[s.Node] = s.Reply
			if n.net.linked(n.name, s.Node) {
				put(n.net.named(s.Node))
			} else {
				unknown = true
			}
		}
	}
	if unknown {
		return Verdict{Creating: v.Creating}
	}
	return v
}

// askOne asks one node, and takes the session over if it has it. That goes on when the question has
// long been decided.
func (n *node) askOne(end time.Time, to *node, q Question, tell func(said)) {
	nothing := said{node: to.name}
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	if !n.net.deliver(aQuestion, n.name, to.name, q.Key) {
		tell(nothing)
		return
	}
	rep := to.Asked(ctx, Peer{Node: n.name, Instance: n.instance}, q)
	if rep.Kind != ReplyFound {
		arrives := n.net.deliver(aReply, to.name, n.name, q.Key)
		tell(said{node: to.name, known: arrives, Reply: rep})
		return
	}
	h, rec := rep.Handover, rep.Handover.Record
	if !n.net.deliver(aRecord, to.name, n.name, q.Key) {
		h.Doubt()
		tell(nothing)
		return
	}
	got := n.Receive(Peer{Node: to.name, Instance: to.instance}, h.ID, rec)
	tell(said{node: to.name, arrived: got.Accepted || got.Version != Version{}})
	switch {
	case !n.net.deliver(aReceipt, n.name, to.name, q.Key):
		h.Doubt()
		return
	case !got.Accepted:
		h.Declined(got.Version)
	case !h.Received():
		return
	}
	n.Settled(h.ID)
}

var errLost = errors.New("lost on the way")

// Forward implements Farm.
func (n *node) Forward(ctx context.Context, name string, r *Request) (Answer, error) {
	to := n.net.named(name)
	if !n.net.linked(n.name, name) {
		return Answer{}, ErrNotHere
	}
	if !n.net.deliver(aRequest, n.name, name, string(r.Key)) {
		return Answer{}, errLost
	}
	a, err := to.Forwarded(ctx, r)
	if !n.net.deliver(anAnswer, name, n.name, string(r.Key)) {
		return Answer{}, errLost
	}
	a.Stamp = 0 // does not travel
	return a, err
}

// out takes another node for out: what is on its way there, and in doubt, is served here again.
func (n *node) out(name string) {
	for _, h := range n.Doubts(name) {
		h.Promote()
	}
}

// resolve asks the receivers that can be reached about the node's hand-overs in doubt, once.
func (n *node) resolve() {
	for _, to := range n.net.nodes {
		for _, h := range n.Doubts(to.name) {
			if !n.net.deliver(aDoubt, n.name, to.name, h.Record.Key) {
				continue
			}
			f := to.FateOf(h.ID, h.Record.Key)
			if f.Kind == Lost || f.Kind == NotReceived && to.instance != h.To.Instance {
				f = n.elsewhere(h.Record.Key, f)
			}
			other := h.Resolve(f, to.instance)
			if other != "" && !n.settle(h.Record.Key) {
				h.Received() // too late, so it is in doubt again, and tried again
			}
		}
	}
}

// elsewhere gives what the other nodes know of a session whose receiver knows nothing any more.
func (n *node) elsewhere(key string, unknown Fate) Fate {
	for _, other := range n.net.nodes {
		if other == n || !n.net.linked(n.name, other.name) {
			continue
		}
		switch s := other.Settle(key, Version{}, ""); {
		case s.Kind == SettleMine && s.Version.Tombstone:
			return Fate{Kind: Buried, Version: s.Version, Node: other.name}
		case s.Kind == SettleMine, s.Kind == SettleBusy:
			return Fate{Kind: PassedOn, Node: other.name}
		}
	}
	return unknown
}

// settle has all nodes find out who keeps a session. Two are not enough: each may have given its
// copy on, and have another one by now. It is false if that has to be tried again.
func (n *node) settle(key string) bool {
	holder, v := n, Version{}
	for _, other := range n.net.nodes {
		if !n.net.linked(n.name, other.name) {
			return false
		}
		s := other.Settle(key, v, holder.name)
		if s.Kind == SettleMine {
			if v != (Version{}) {
				s.Kind = holder.Settle(key, s.Version, other.name).Kind
			}
			holder, v = other, s.Version
		}
		if s.Kind == SettleBusy {
			return false
		}
	}
	return true
}

// holders are the nodes that hold a session, frozen or not, when all that was sent has arrived.
func (net *network) holders(key string) (names []string) {
	net.wg.Wait()
	for _, n := range net.nodes {
		if s, ok := n.entry(key); ok && s.holds() && !s.expired(n.clock.now().mono) {
			names = append(names, n.name)
		}
	}
	return names
}

// mustHold fails unless exactly these nodes hold the session.
func (net *network) mustHold(t *testing.T, key string, want ...string) {
	t.Helper()
	if got := net.holders(key); !slices.Equal(got, want) {
		t.Errorf("%q is held by %v, want %v", key, got, want)
	}
}

func (n *node) do(r Request) Answer {
	if a, ok := n.Try(&r); ok {
		return a
	}
	return n.Do(context.Background(), &r)
}

func (n *node) get(key string) Answer {
	return n.do(Request{Op: Get, Key: []byte(key), Cookie: NoCookie})
}

func (n *node) acquire(key string) Answer {
	return n.do(Request{Op: Acquire, Key: []byte(key), Cookie: NoCookie})
}

func (n *node) release(key string, cookie int32) Answer {
	return n.do(Request{Op: Release, Key: []byte(key), Cookie: cookie})
}

func (n *node) put(key, body string, cookie int32) Answer {
	return n.do(Request{Op: Put, Key: []byte(key), Cookie: cookie, Timeout: 20, Body: []byte(body)})
}

func (n *node) insert(key, body string) Answer {
	return n.do(Request{Op: Put, Key: []byte(key), Cookie: NoCookie, Timeout: 20, Flags: FlagUninitialized, Body: []byte(body)})
}

func (n *node) delete(key string, cookie int32) Answer {
	return n.do(Request{Op: Delete, Key: []byte(key), Cookie: cookie})
}

func (n *node) head(key string) Answer {
	return n.do(Request{Op: Head, Key: []byte(key), Cookie: NoCookie})
}

// mustBe fails unless an answer has this status and, where it is one to a read, this body.
func mustBe(t *testing.T, what string, a Answer, status Status, body string) {
	t.Helper()
	if a.Status != status || string(a.Body) != body {
		t.Errorf("%s: status %v, body %q; want %v, %q", what, statusNames[a.Status], a.Body, statusNames[status], body)
	}
}

var statusNames = [...]string{"ok", "bad request", "not found", "locked", "unknown"}

func (m message) String() string { return fmt.Sprintf("%s %s→%s %s", m.kind, m.from, m.to, m.key) }
