//go:build unix

package proxy

import "syscall"

// turn looks whether the client is there, writes the answer and waits for the next request, in one
// visit to the runtime's poller.
//
// A connection that waits for its next request has to try a read first, which nearly always finds
// nothing. A turn does that read before the answer is written instead of afterwards, and so it
// also tells whether the client has closed the connection. What comes after the read wakes the
// poller, however long writing takes. That makes the look free; a peek for each lock would be every
// seventh system call.
type turn struct {
	c      *conn
	step   func(fd uintptr) bool
	looked bool
	err    error
}

func newTurn(c *conn) turn {
	return turn{c: c, step: c.turnStep}
}

// run is begun if it came as far as looking; err then says how writing the answer went. The reader
// must be idle. What the wait brings stays in its buffer, and how it ends otherwise (the client
// closes, the time is over) the next read will say again.
func (t *turn) run() (begun bool, err error) {
	raw := t.c.gone.raw
	if raw == nil {
		return false, nil
	}
	t.looked, t.err = false, nil
	if err := raw.Read(t.step); !t.looked {
		return false, err
	}
	return true, t.err
}

// turnStep is called when a turn begins, and then each time that there may be something to read.
func (c *conn) turnStep(fd uintptr) (done bool) {
	n, err := syscall.Read(int(fd), c.in.buf[c.in.w:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), c.in.buf[c.in.w:])
	}
	none := err == syscall.EAGAIN
	if n > 0 {
		c.in.w += n
	}
	if c.turn.looked {
		return !none
	}
	c.turn.looked = true
	if n <= 0 && !none {
		c.turn.err = errGone
		return true
	}
	c.turn.err = c.writeAnswer()
	c.answer.Body = nil // it may be long until the next request
	return c.turn.err != nil || !none || c.req.last
}
