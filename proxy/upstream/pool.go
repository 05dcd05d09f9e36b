package upstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"peerstate/proxy/wire"
	"peerstate/store"
)

// Limits of the connections.
const (
	maxConns = 64 // open at once; a request that finds none waits for one
	// idleTime is how long a connection is kept without a request: less than any server does.
	idleTime = 4 * time.Second
	dialTime = 3 * time.Second
)

// Client asks one server. Its methods are safe for concurrent use.
type Client struct {
	addr    string
	maxBody int64
	memory  wire.Room
	dialer  net.Dialer
	room    chan struct{} // one for each connection in use
	health  health
	counts  counts

	mu     sync.Mutex
	idle   []idle // guarded by mu; that used last at the end
	closed bool   // guarded by mu
}

// idle is a connection without a request.
type idle struct {
	conn  *wire.Conn
	since time.Time
}

var _ store.Upstream = (*Client)(nil)

// New makes a client of the server at addr, HOST:PORT, whose sessions have at most maxBody bytes, for which there is so much memory;
// nil: nobody counts. It connects when it is asked.
func New(addr string, maxBody int64, memory wire.Room) *Client {
	return &Client{addr: addr, maxBody: maxBody, memory: memory, dialer: net.Dialer{Timeout: dialTime}, room: make(chan struct{}, maxConns)}
}

// Addr is the server's address.
func (c *Client) Addr() string { return c.addr }

var errClosed = errors.New("the client is closed")

// Close closes the connections that are not in use. What is under way goes on; nothing new begins.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return closeAll(&c.idle)
}

func closeAll(conns *[]idle) error {
	var errs []error
	for _, i := range *conns {
		errs = append(errs, i.conn.Close())
	}
	*conns = nil
	return errors.Join(errs...)
}

// take gets a connection, an idle one or a new one. It is given back by put.
func (c *Client) take(ctx context.Context) (*wire.Conn, error) {
	select {
	case c.room <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := c.reuse()
	if conn == nil && err == nil {
		conn, err = c.dial(ctx)
	}
	if err != nil {
		<-c.room
	}
	return conn, err
}

// reuse gives an idle connection; nil: there is none.
func (c *Client) reuse() (*wire.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	n := len(c.idle)
	if n == 0 {
		return nil, nil
	}
	last := c.idle[n-1]
	if time.Since(last.since) > idleTime { // and so have all others
		_ = closeAll(&c.idle) // nothing was expected of them
		return nil, nil
	}
	c.idle = c.idle[:n-1]
	return last.conn, nil
}

func (c *Client) dial(ctx context.Context) (*wire.Conn, error) {
	nc, err := c.dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return wire.NewConn(nc, c.maxBody, c.memory), nil
}

// put gives a connection back; one that is broken is closed.
func (c *Client) put(conn *wire.Conn, broken bool) {
	defer func() { <-c.room }()
	c.mu.Lock()
	defer c.mu.Unlock()
	if broken || c.closed {
		_ = conn.Close() // nothing more is expected of it
		return
	}
	c.idle = append(c.idle, idle{conn, time.Now()})
}
