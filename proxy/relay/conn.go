package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"peerstate/proxy"
	"peerstate/proxy/recording"
	"peerstate/proxy/wire"
)

// maxWaiting is how many requests of a connection may be without their answers. ASP.NET never has more than one; what is
// beyond is passed on, but not understood.
const maxWaiting = 1000

// conn is a web server's connection and the one to the state server that belongs to it.
type conn struct {
	relay  *Relay
	number int64
	client net.Conn

	mu      sync.Mutex // guards what follows
	server  net.Conn   // nil: not connected yet
	aborted bool
	there   tap // from the client to the server
	back    tap
	waiting []asked // requests without an answer, the oldest first
	counts  struct{ requests, answers int }
}

// asked is a request whose head has passed.
type asked struct {
	at     time.Time
	method string
	op     string // as the screen names it
	key    []byte
}

func newConn(r *Relay, client net.Conn, number int64) *conn {
	c := &conn{relay: r, number: number, client: client}
	c.there = tap{conn: c, edit: &r.config.Edits.Requests, side: recording.Client, other: recording.Server}
	c.back = tap{conn: c, edit: &r.config.Edits.Answers, side: recording.Server, other: recording.Client, split: wire.Splitter{Answers: true}}
	return c
}

// run passes on until both directions have ended.
func (c *conn) run(ctx context.Context) {
	screen := c.relay.config.Screen
	screen.note(c.number, "connected from %v", c.client.RemoteAddr())
	c.relay.record(recording.Event{Conn: c.number, What: recording.Connect})
	server, err := c.relay.dialer.DialContext(ctx, "tcp", c.relay.config.To)
	if err != nil {
		screen.fault(c.number, "cannot connect to the state server, so the web server's connection is reset: %v", err)
		c.relay.record(recording.Event{Conn: c.number, What: recording.End, From: recording.Server, Reset: true})
		c.abort()
		return
	}
	c.mu.Lock()
	c.server = server
	aborted := c.aborted
	c.mu.Unlock()
	if aborted {
		c.abort() // which did not know of the server yet
		return
	}
	var back sync.WaitGroup
	back.Go(func() { c.pump(&c.back, server, c.client) })
	c.pump(&c.there, c.client, server)
	back.Wait()
	closeQuietly(c.client)
	closeQuietly(server)
	screen.note(c.number, "over, with %d requests and %d answers", c.counts.requests, c.counts.answers)
}

// bufSize is how much is read and passed on at once.
const bufSize = 32 << 10

// pump passes one direction on until it ends.
func (c *conn) pump(t *tap, from, to net.Conn) {
	buf := make([]byte, bufSize)
	for {
		n, err := from.Read(buf)
		if out := c.pass(t, buf[:n]); len(out) > 0 {
			if _, werr := to.Write(out); werr != nil {
				c.broken(t.other, werr)
				return
			}
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			c.broken(t.side, err)
			return
		}
		if out := c.ended(t); len(out) > 0 {
			if _, err := to.Write(out); err != nil {
				c.broken(t.other, err)
				return
			}
		}
		if half, ok := to.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
			c.abort() // the other side is not there any more
		}
		return
	}
}

// pass has a direction's bytes looked at, and gives those to pass on.
func (c *conn) pass(t *tap, p []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.feed(p)
}

// names are what the screen calls the sides.
var names = map[string]string{recording.Client: "the web server", recording.Server: "the state server"}

// ended says that a direction has ended in an orderly way, and gives what is left to pass on.
func (c *conn) ended(t *tap) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := t.finish()
	c.relay.record(recording.Event{Conn: c.number, What: recording.End, From: t.side})
	c.relay.config.Screen.note(c.number, "%s has closed its side", names[t.side])
	return out
}

// broken says that the connection with one side has broken, and breaks the other one.
func (c *conn) broken(side string, why error) {
	c.mu.Lock()
	if !c.aborted { // by the other direction, which has said so, or at the end of the relay
		c.there.finish()
		c.back.finish()
		c.relay.record(recording.Event{Conn: c.number, What: recording.End, From: side, Reset: true})
		c.relay.config.Screen.fault(c.number, "the connection with %s has broken, and so the other one is reset: %v", names[side], why)
	}
	c.mu.Unlock()
	c.abort()
}

// abort resets both connections, so that each side sees what the other did.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = true
	for _, nc := range []net.Conn{c.client, c.server} {
		if nc == nil {
			continue
		}
		if tcp, ok := nc.(*net.TCPConn); ok {
			// Where that fails the connection has ended already.
			_ = tcp.SetLinger(0)
		}
		closeQuietly(nc)
	}
}

// ask remembers a request that has passed. It is false if there are too many.
func (c *conn) ask(h *wire.Head) bool {
	if len(c.waiting) >= maxWaiting {
		return false
	}
	d := proxy.Describe(h.Bytes)
	c.waiting = append(c.waiting, asked{at: time.Now(), method: h.Method, op: opOf(h, d), key: proxy.KeyOf(h.Target)})
	c.counts.requests++
	return true
}

// closeQuietly closes a connection that is of no more use.
func closeQuietly(nc net.Conn) { _ = nc.Close() }
