package proxy

import (
	"errors"
	"os"
	"time"

	"peerstate/store"
)

const (
	// answerTime is how long a client may take to read an answer.
	answerTime = 30 * time.Second
	// answerSlack is by how much that may be cut short: as with idleSlack, most answers then set
	// no deadline.
	answerSlack = 5 * time.Second
	// joinBelow is the length of a body from which on head and body are handed to the system as two
	// pieces instead of being copied together. Measured on loopback, both cost the same from 2 to
	// 32 KB, and above that the copy is dearer; the smaller this is, the less memory a connection has.
	joinBelow = 8 << 10
)

var errGone = errors.New("the client has closed the connection")

// deliver writes the answer. It is false when the connection is to be closed.
func (c *conn) deliver() bool {
	a, op := &c.answer, c.req.Op
	if a.Status == store.Full {
		return false // as below: the page is told by a broken connection
	}
	if a.Status == store.Unknown {
		if op == store.Put || op == store.Release || op == store.Delete {
			return false // the client ignores every status but 400, but a broken connection it reports
		}
		// A 404 would make the client throw the session away. So it is told that the session is
		// locked, which it asks about again in half a second; since when does not matter.
		*a = store.Answer{Status: store.Locked}
	}
	// A lock that its page does not know of would block the session until executionTimeout is
	// over, and ActionFlags that are lost would leave the session uninitialised. A client that goes
	// away after the answer was written has had it: it may close a connection while the page runs.
	tentative := a.Init || op == store.Acquire && a.Status == store.OK
	err := c.writeAnswer(tentative)
	a.Body = nil // it may be long until the next request
	if err == nil {
		return true
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.server.counters.slow.Add(1)
	}
	if tentative {
		c.server.store.Undo(c.req.Key, *a)
		c.server.counters.undone.Add(1)
	}
	return false
}

// writeAnswer writes the answer. A tentative one is not written if the client has already closed
// the connection; then the error is errGone.
func (c *conn) writeAnswer(tentative bool) error {
	a := &c.answer
	c.out = c.server.words.appendAnswer(c.out[:0], c.req.Op, a)
	if len(a.Body) >= joinBelow {
		if tentative && c.gone.check() {
			return errGone
		}
		return c.write(c.out, a.Body)
	}
	c.out = append(c.out, a.Body...)
	if !tentative {
		return c.write(c.out, nil)
	}
	if begun, err := c.turn.run(); begun {
		return err
	}
	if c.gone.check() {
		return errGone
	}
	return c.write(c.out, nil)
}

// write writes head, and body behind it if there is one.
func (c *conn) write(head, body []byte) error {
	if c.now-c.writeSet > answerSlack || body != nil {
		if err := c.nc.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
			return err
		}
		c.writeSet = c.now
	}
	if body == nil {
		_, err := c.nc.Write(head)
		return err
	}
	c.two = [2][]byte{head, body}
	c.pieces = c.two[:]
	_, err := c.pieces.WriteTo(c.nc)
	c.two = [2][]byte{}
	return err
}
