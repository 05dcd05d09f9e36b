package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// worker is one goroutine's share of the load: some sessions, and a connection to each server.
type worker struct {
	tally
	conns    []*conn
	sessions []*session
	retry    time.Duration
	buf      []byte // the request being sent
}

const (
	host  = "localhost" // what the Host header says; no state server looks at it
	pause = 100 * time.Millisecond
)

func newWorkers(c Config) []*worker {
	all := make([]*worker, c.Connections)
	next := 0
	for i := range all {
		w := &worker{retry: c.Retry, tally: newTally()}
		for _, addr := range c.To {
			w.conns = append(w.conns, &conn{addr: addr})
		}
		for range c.Sessions {
			s := newSession(c.Size, host)
			s.visits = next % len(c.To) // not all begin at one server
			next++
			w.sessions = append(w.sessions, s)
		}
		all[i] = w
	}
	return all
}

func (w *worker) close() {
	for _, c := range w.conns {
		c.close()
	}
}

// create stores each session for the first time, as the end of a visitor's first page does.
func (w *worker) create(ctx context.Context) error {
	for _, s := range w.sessions {
		w.buf = s.appendPut(w.buf[:0], 0)
		c := w.server(s)
		a, err := c.do(ctx, w.buf)
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("%s answers %d", c.addr, a.status)
		}
		s.stored = s.tried
	}
	return nil
}

// server gives the connection whose turn it is for a session.
func (w *worker) server(s *session) *conn {
	c := w.conns[s.visits%len(w.conns)]
	s.visits++
	return c
}

// run goes round the sessions until ctx is done.
func (w *worker) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		s := w.sessions[i%len(w.sessions)]
		start := time.Now()
		if w.cycle(ctx, w.server(s), s, start) {
			record(w.cycleTime, time.Since(start))
			w.cycles.Add(1)
		}
	}
}

// cycle acquires a session and stores the next counter in it, at one server. It tells whether both were done.
func (w *worker) cycle(ctx context.Context, c *conn, s *session, start time.Time) bool {
	a, ok := w.acquire(ctx, c, s)
	if !ok {
		return false
	}
	acquired := time.Now()
	record(w.acquireTime, acquired.Sub(start))
	if !s.check(a.body) {
		w.count(wrongValue)
	}
	w.buf = s.appendPut(w.buf[:0], a.cookie)
	a, err := c.do(ctx, w.buf)
	switch {
	case err != nil:
		s.unsure, s.locked = true, true
		w.broken(ctx, err)
		return false
	case a.status == http.StatusLocked:
		w.count(locked) // this page's changes are lost, as they would be with ASP.NET
		return false
	case a.status != http.StatusOK:
		w.count(refused)
		return false
	}
	s.stored, s.unsure = s.tried, false
	record(w.putTime, time.Since(acquired))
	return true
}

// acquire asks until it has the lock.
func (w *worker) acquire(ctx context.Context, c *conn, s *session) (answer, bool) {
	for {
		a, err := c.do(ctx, s.acquire)
		switch {
		case err != nil:
			s.locked = true
			w.broken(ctx, err)
			return a, false
		case a.status == http.StatusOK:
			s.locked = false
			return a, true
		case a.status == http.StatusNotFound:
			w.count(missing)
			w.restore(ctx, c, s)
			return a, false
		case a.status != http.StatusLocked:
			w.count(refused)
			return a, false
		}
		w.count(locked)
		// Nobody else uses this session. If an answer was lost the lock is one of ours, and the
		// answer tells its cookie; ASP.NET would wait until the lock is 110 s old.
		if s.locked && a.cookie != 0 {
			s.locked = false
			w.buf = s.appendRelease(w.buf[:0], host, a.cookie)
			if _, err := c.do(ctx, w.buf); err != nil {
				w.broken(ctx, err)
				return a, false
			}
			continue
		}
		if !sleep(ctx, w.retry) {
			return a, false
		}
	}
}

// restore stores a session again that the server says is not there. The loss is counted already.
func (w *worker) restore(ctx context.Context, c *conn, s *session) {
	w.buf = s.appendPut(w.buf[:0], 0)
	a, err := c.do(ctx, w.buf)
	switch {
	case err != nil:
		s.unsure = true
		w.broken(ctx, err)
	case a.status == http.StatusOK:
		s.stored, s.unsure = s.tried, false
	case a.status == http.StatusLocked:
		w.count(locked)
	default:
		w.count(refused)
	}
}

// broken counts a connection that ended in the middle, unless the run's own end did it, and waits a
// moment, as a server that is down would otherwise be asked as fast as it can refuse.
func (w *worker) broken(ctx context.Context, err error) {
	slow := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case ctx.Err() != nil && (slow || errors.Is(err, ctx.Err())):
		return
	case slow:
		w.count(timedOut)
	case errors.Is(err, errNoAnswer):
		w.count(refused)
	default:
		w.count(closed)
	}
	sleep(ctx, pause)
}

// cleanUp deletes the sessions; ctx may be done. What cannot be deleted is counted.
func (w *worker) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	for _, s := range w.sessions {
		if s.stored > 0 && !w.delete(ctx, s) {
			w.left++
		}
	}
}

func (w *worker) delete(ctx context.Context, s *session) bool {
	if ctx.Err() != nil {
		return false
	}
	c := w.conns[(s.visits+len(w.conns)-1)%len(w.conns)] // where it was last
	w.buf = s.appendDelete(w.buf[:0], host, 0)
	a, err := c.do(ctx, w.buf)
	if err == nil && a.status == http.StatusLocked {
		w.buf = s.appendDelete(w.buf[:0], host, a.cookie)
		a, err = c.do(ctx, w.buf)
	}
	return err == nil && (a.status == http.StatusOK || a.status == http.StatusNotFound)
}

// sleep waits, and tells whether it could: not when ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
