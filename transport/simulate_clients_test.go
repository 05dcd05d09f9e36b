package transport

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"peerstate/store"
)

// client is a visitor's browser, and the web server that it comes to: ASP.NET's session module.
type client struct {
	*simulation
	id    int
	draws draw
	at    string // the node beside the web server
	added int
	last  map[int]int32 // by session: the cookie of its last lock
}

func (s *simulation) client(id int) *client {
	c := &client{simulation: s, id: id, last: map[int]int32{}, draws: drawFrom(s.plan.seed, fmt.Sprint("client ", id))}
	c.at = pick(c.draws, s.plan.nodes)
	return c
}

// outcome is what the web server knows of a request.
type outcome uint8

const (
	answered outcome = iota
	refused          // nobody listened: it was not carried out
	broken           // the connection broke: a change may have been carried out
)

// visitOp is one request and what came of it.
type visitOp struct {
	client, session int
	node            string
	r               store.Request
	call, ret       time.Duration
	answer          store.Answer
	reached         outcome
	done            bool
}

// ask makes a request of this client's node.
func (c *client) ask(session int, r store.Request) *visitOp {
	r.Key = []byte(c.key(session))
	op := &visitOp{client: c.id, session: session, node: c.at, r: r, call: c.now(), reached: refused}
	c.mu.Lock()
	c.history = append(c.history, op)
	at := c.sites[c.at].run
	if at != nil {
		at.busy.Add(1)
	}
	c.mu.Unlock()
	if at == nil {
		op.ret, op.done = op.call, true
		return op
	}
	if r.Body != nil {
		r.Body = slices.Concat(r.Body, c.padding)
	}
	a := at.node.do(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	at.busy.Done()
	if a.Body != nil {
		var whole bool
		if a.Body, whole = bytes.CutSuffix(a.Body, c.padding); !whole {
			c.t.Errorf("a session of %d bytes came without its end", len(a.Body))
		}
	}
	op.ret, op.answer, op.reached, op.done = c.now(), a, answered, true
	if at.crashed || a.Status == store.Unknown && r.Op != store.Get && r.Op != store.Acquire {
		op.reached = broken
	}
	return op
}

func (c *client) over() bool { return c.now() >= c.plan.load }

// visit makes one page request after the other, until the load ends.
func (c *client) visit() {
	for !c.over() {
		time.Sleep(c.draws.time(5*time.Millisecond, 400*time.Millisecond))
		c.balance()
		if session, ok := c.choose(); ok {
			c.page(session)
		}
	}
}

// balance is a load balancer without affinity: it sends the client to one of the nodes that are there; false: to
// none.
func (c *client) balance() bool {
	lot, stay := c.draws.Uint64(), c.draws.chance(0.5)
	c.mu.Lock()
	defer c.mu.Unlock()
	var open []string
	for _, name := range c.plan.nodes {
		if s := c.sites[name]; s.run != nil && !s.leaving {
			open = append(open, name)
		}
	}
	if len(open) > 0 && (!stay || !slices.Contains(open, c.at)) {
		c.at = open[lot%uint64(len(open))]
	}
	return len(open) > 0
}

// page is one page: most write, some release the lock without writing, some only read.
func (c *client) page(session int) {
	what := c.draws.IntN(100)
	work := c.draws.time(time.Millisecond, 80*time.Millisecond)
	if c.draws.chance(0.1) {
		work = c.draws.time(100*time.Millisecond, 900*time.Millisecond)
	}
	if what < 15 {
		c.read(session, store.Get, c.plan.load)
		return
	}
	if what >= 98 && c.last[session] > 0 {
		// A page that hung for minutes ends; its lock is gone.
		c.ask(session, store.Request{Op: store.Release, Cookie: c.last[session]})
		return
	}
	got := c.read(session, store.Acquire, c.plan.load)
	if got == nil {
		return
	}
	time.Sleep(work)
	defer func() { c.last[session] = got.Cookie }()
	if what < 30 {
		c.ask(session, store.Request{Op: store.Release, Cookie: got.Cookie})
		return
	}
	c.added++
	body := fmt.Appendf(slices.Clone(got.Body), " %d.%d", c.id, c.added)
	c.ask(session, store.Request{Op: store.Put, Cookie: got.Cookie, Timeout: 20, Body: body})
}

// come is the first page of a new visitor: one write, without a lock. Then others come with the session's id: the
// visitor's further pages. If that write got no answer he comes again, and a page that comes with an id reads
// first.
func (c *client) come(session int, at time.Duration) {
	again := false
	for c.until(at); !c.over(); time.Sleep(500 * time.Millisecond) {
		if !c.balance() {
			continue
		}
		if again {
			if c.read(session, store.Get, c.plan.load) == nil {
				continue
			}
			c.mu.Lock()
			c.born[session] = true
			c.mu.Unlock()
			return
		}
		op := c.ask(session, store.Request{Op: store.Put, Cookie: 0, Timeout: 20, Body: []byte(c.root())})
		if op.reached == answered && op.answer.Status == store.OK {
			c.mu.Lock()
			c.born[session] = true
			c.mu.Unlock()
			return
		}
		again = op.reached != refused
	}
}

// choose gives one of the sessions that visitors know of; ok is false where there is none yet.
func (c *client) choose() (session int, ok bool) {
	lot := c.draws.IntN(1 << 30)
	c.mu.Lock()
	defer c.mu.Unlock()
	var known []int
	for i, is := range c.born {
		if is {
			known = append(known, i)
		}
	}
	if len(known) == 0 {
		return 0, false
	}
	return known[lot%len(known)], true
}

// root is the contents of a new session, from which that one can be told from others under the same key.
func (c *client) root() string {
	c.added++
	return fmt.Sprintf("new%d.%d", c.id, c.added)
}

// read gets a session, with its lock or without, asking twice a second for as long as it is locked or not
// known. A lock that is too old is broken, and a session that is nowhere is made. It gives nil where that
// takes too long, or the page ends in an error.
func (c *client) read(session int, what store.Op, end time.Duration) *store.Answer {
	for c.now() < end {
		op := c.ask(session, store.Request{Op: what, Cookie: store.NoCookie})
		a := &op.answer
		switch {
		case op.reached != answered:
			return nil
		case a.Status == store.OK:
			return a
		case a.Status == store.NotFound:
			op = c.ask(session, store.Request{Op: store.Put, Cookie: store.NoCookie, Timeout: 20,
				Flags: store.FlagUninitialized, Body: []byte(c.root())})
			if op.reached != answered {
				return nil
			}
			continue
		case a.Status == store.Locked && a.LockAge >= c.plan.patience:
			c.ask(session, store.Request{Op: store.Release, Cookie: a.Cookie})
		}
		time.Sleep(500*time.Millisecond + c.draws.time(0, 20*time.Millisecond))
	}
	return nil
}

// inTheEnd reads a session when all is over.
func (c *client) inTheEnd(session int) string {
	end := c.now() + 2*c.plan.patience + 10*time.Second
	for c.now() < end {
		c.balance()
		op := c.ask(session, store.Request{Op: store.Get, Cookie: store.NoCookie})
		switch a := op.answer; {
		case a.Status == store.NotFound:
			return ""
		case a.Status == store.OK:
			return string(a.Body)
		case a.Status == store.Locked && a.LockAge >= c.plan.patience:
			c.ask(session, store.Request{Op: store.Release, Cookie: a.Cookie})
		}
		time.Sleep(500 * time.Millisecond)
	}
	return "unreadable"
}

// id is the addition that a write makes.
func (op *visitOp) id() string {
	body := string(op.r.Body)
	return body[strings.LastIndexByte(body, ' ')+1:]
}
