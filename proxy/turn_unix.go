//go:build unix

package proxy

import "syscall"

// turn looks whether the client is there, writes the answer and waits for the next request, in one
// visit to the runtime's poller.
//
// A connection that waits for its next request has to try a read first, which nearly always finds
// nothing. A turn does that read before the answer is written instead of afterwards, and so it
// also tells whether the client has closed the connection. What comes after the read wakes the
// poller, however long writing takes. So the look costs the machine nothing, where a peek would be
// every seventh system call. It delays the answer by that read, though, so it is done only for an
// answer that may have to be taken back.
type turn struct {
	c      *conn
	step   func(fd uintptr) bool
	looked bool
	err    error
}

func newTurn(c *conn) turn { return turn{c: c, step: c.turnStep} }

// run writes what is in the connection's buffer for answers. It is begun if it came as far as
// looking; err then says how that and writing went, being errGone if nobody was there. What the wait brings stays in the reader's buffer; how it ends otherwise (the
// client closes, the time is over) the next read will say again.
func (t *turn) run() (begun bool, err error) {
	c := t.c
	if c.gone.raw == nil || c.in.r < c.in.w || c.in.idle(c.now) != nil {
		return false, nil
	}
	t.looked, t.err = false, nil
	if err := c.gone.raw.Read(t.step); !t.looked {
		return false, err
	}
	return true, t.err
}

// turnStep is called when a turn begins, and then each time that there may be something to read.
func (c *conn) turnStep(fd uintptr) (done bool) {
	t, in := &c.turn, &c.in
	n, err := syscall.Read(int(fd), in.buf[in.w:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), in.buf[in.w:])
	}
	none := err == syscall.EAGAIN
	in.w += max(n, 0)
	if t.looked {
		return !none
	}
	t.looked = true
	if n <= 0 && !none {
		t.err = errGone
		return true
	}
	// Nearly every answer fits into what the system buffers, and needs no deadline.
	n, err = syscall.Write(int(fd), c.out)
	if err != nil || n < len(c.out) {
		t.err = c.write(c.out[max(n, 0):], nil)
	}
	return t.err != nil || !none || c.req.last
}
