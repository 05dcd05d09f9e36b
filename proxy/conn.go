package proxy

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"peerstate/store"
)

// conn is one connection. Only its own goroutine uses it; while a request waits for other nodes,
// a watch reads for it (watch.go), and drain may interrupt a read.
type conn struct {
	server *Server
	nc     net.Conn
	in     reader
	req    request
	gone   goneCheck
	turn   turn
	share  *share
	answer store.Answer  // to the request in req
	now    time.Duration // on the server's clock, just before the last write
	opened time.Duration // on the server's clock
	out    []byte        // the answer that is being written
	two    [2][]byte     // its head and body, when they are not put together
	pieces net.Buffers   // what of them is not written yet
	// writeSet is when the write deadline was last set.
	writeSet time.Duration
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		server: s,
		nc:     nc,
		in:     newReader(nc, &s.draining),
		gone:   newGoneCheck(nc),
		share:  s.counters.share(),
		now:    s.now(),
		// Far enough back that the first answer sets a deadline.
		writeSet: -answerTime,
	}
	c.req.aliases, c.opened = s.aliases, c.now
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		c.req.client = uint16(a.Port)
	}
	c.turn = newTurn(c)
	c.in.reserve = func(n int64) bool { return s.store.Reserve(s.ctx, n) }
	return c
}

// run answers requests until the connection ends.
func (c *conn) run() {
	defer c.server.left(c)
	defer closeQuietly(c.nc)
	for c.exchange() {
	}
}

// exchange takes one request and answers it. It is false when the connection is to be closed.
func (c *conn) exchange() bool {
	if err := c.in.await(c.now); err != nil {
		return false // nothing was begun: the client has closed it, or it was idle too long
	}
	r := &c.req
	why, err := r.readHead(&c.in, c.server.maxBody)
	if err != nil {
		return c.cut(err)
	}
	if why != sound {
		return c.refuse(why)
	}
	if !c.continues() {
		return false
	}
	fault := r.fault()
	if err := c.readBody(fault == sound); err != nil {
		c.dropBody(err)
		return c.cut(err)
	}
	if fault != sound {
		return c.decline(fault)
	}
	took := c.askStore()
	c.share.count(r.Op, c.answer.Status, took)
	if c.server.debug {
		c.debug(took)
	}
	r.Body = nil // the store's now
	return c.deliver() && !r.last
}

// askStore gets the answer, and tells how long that took.
func (c *conn) askStore() (took time.Duration) {
	begun := c.server.now()
	var ok bool
	if c.answer, ok = c.server.store.Try(&c.req.Request); !ok {
		c.answer = c.wait()
	}
	if n := c.req.Counted; n != 0 {
		c.req.Counted = 0
		c.server.store.GiveBack(n) // it was not stored
	}
	c.now = c.server.now()
	return c.now - begun
}

// continues answers "Expect: 100-continue" unless the body is coming anyway.
func (c *conn) continues() bool {
	if !c.req.expect || c.req.length <= 0 || c.in.r < c.in.w {
		return true
	}
	c.now = c.server.now()
	return c.write(c.server.words.goOn, nil) == nil
}

// readBody reads the body into the request if it is a PUT that will be carried out, and drops it
// otherwise.
func (c *conn) readBody(wanted bool) error {
	r := &c.req
	if r.length <= 0 {
		return nil
	}
	c.in.startBody()
	if r.Op != store.Put || !wanted {
		return c.in.discard(r.length)
	}
	var err error
	r.Body, err = c.in.body(int(r.length))
	r.Counted, c.in.counted = c.in.counted, 0
	return err
}

// dropBody lets a body go that has not come in whole. If that is for want of memory, the lock of its page is released: the
// page gets an error and has nothing more to write, and its visitor is not to be kept out until the lock is broken.
func (c *conn) dropBody(err error) {
	r := &c.req
	if n := r.Counted; n != 0 {
		r.Counted = 0
		c.server.store.GiveBack(n)
	}
	if errors.Is(err, errNoRoom) {
		c.server.store.Refuse(store.RefusedWrite, r.length)
		c.share.count(r.Op, store.Full, 0)
		if r.Cookie > 0 {
			c.server.store.Do(c.server.ctx, &store.Request{Op: store.Release, Key: r.Key, Cookie: r.Cookie})
		}
	}
}

// decline answers 400 to a request that is sound but asks for something that cannot be. The
// connection goes on.
func (c *conn) decline(fault refusal) bool {
	if fault == otherMethod {
		c.server.counters.bad.Add(1)
	} else {
		c.share.count(c.req.Op, store.BadRequest, 0)
	}
	c.server.refusals.report(c.server, fault, remote(c.nc), nil)
	c.now = c.server.now()
	return c.write(c.server.words.empty[store.BadRequest], nil) == nil && !c.req.last
}

// cut ends a connection whose client stopped sending in the middle of a request.
func (c *conn) cut(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.server.counters.slow.Add(1)
	}
	return false
}

// A refused client may go on sending for this long and this much (beyond one MaxBody), which is
// dropped. Closed with bytes unread, the connection would be reset, and the 400 lost with it.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 1 << 20
)

// refuse answers 400 to something that is not a request, and ends the connection.
func (c *conn) refuse(why refusal) bool {
	s := c.server
	s.counters.bad.Add(1)
	s.refusals.report(s, why, remote(c.nc), nil)
	c.now = s.now()
	if err := c.write(s.words.empty[store.BadRequest], nil); err != nil {
		return false
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return false
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(lingerTime)); err != nil {
		return false
	}
	for left := lingerBytes + s.maxBody; left > 0 && !s.draining.Load(); {
		n, err := c.nc.Read(c.in.buf)
		if err != nil {
			return false
		}
		left -= int64(n)
	}
	return false
}

// debug shows a message, with a hash in the place of the key: a session id is a secret.
func (c *conn) debug(took time.Duration) {
	r, a := &c.req, &c.answer
	c.server.log.Debug("answered",
		slog.String("op", r.Op.String()),
		slog.String("status", StatusName(a.Status)),
		slog.String("key", store.KeyHash(string(r.Key))),
		slog.Int("cookie", int(r.Cookie)),
		slog.Int("answer_cookie", int(a.Cookie)),
		slog.Bool("initialize", a.Init),
		slog.Int("bytes_in", len(r.Body)),
		slog.Int("bytes_out", len(a.Body)),
		slog.Duration("took", took),
		slog.String("from", remote(c.nc)))
}
