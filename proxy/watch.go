package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"peerstate/store"
)

// watchAfter is how long a request waits for other nodes before its client is watched: most are
// answered sooner, and starting a goroutine would cost a good part of that.
const watchAfter = 5 * time.Millisecond

// wait asks the store to answer a request that cannot be answered at once. A client that gives up
// meanwhile ends it, unless the request is a write: that was sent whole and is carried out.
func (c *conn) wait() store.Answer {
	r := &c.req
	if r.Op != store.Get && r.Op != store.Acquire && r.Op != store.Head {
		return c.server.store.Do(c.server.ctx, &r.Request)
	}
	ctx, giveUp := context.WithCancel(c.server.ctx)
	defer giveUp()
	done := make(chan struct{})
	t := time.AfterFunc(watchAfter, func() {
		defer close(done)
		if c.watch(r.Op == store.Acquire) {
			giveUp()
		}
	})
	a := c.server.store.Do(ctx, &r.Request)
	if !t.Stop() {
		c.in.interrupt()
		<-done
		c.in.strict = true // the next request needs a deadline of its own again
	}
	return a
}

// watch reads until the client is gone, and is true then. It is false when it is interrupted or the
// buffer is full. What it reads are requests sent ahead, which stay in the buffer. The end of
// what the client sends does not show that it has stopped listening, so a mere read goes on; but a
// lock may not be given to somebody who has perhaps left.
func (c *conn) watch(lock bool) bool {
	in := &c.in
	for {
		in.makeRoom()
		if in.w == len(in.buf) {
			return false
		}
		n, err := in.nc.Read(in.buf[in.w:])
		in.w += n
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false
		case errors.Is(err, io.EOF):
			return lock
		default:
			return true
		}
	}
}
