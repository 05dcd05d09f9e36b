package bench

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// canned is a connection to a server that gives the lock at each acquire and takes each PUT.
type canned struct {
	net.Conn
	body   []byte // of the session
	answer bytes.Reader
}

func (c *canned) SetDeadline(time.Time) error { return nil }
func (c *canned) Close() error                { return nil }
func (c *canned) Read(p []byte) (int, error)  { return c.answer.Read(p) }

var (
	cannedAcquire = []byte("HTTP/1.1 200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 2\r\nTimeout: 20\r\nCache-Control: private\r\nContent-Length: 2048\r\n\r\n")
	cannedPut     = []byte("HTTP/1.1 200 OK\r\nX-AspNet-Version: 4.0.30319\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n")
)

func (c *canned) Write(p []byte) (int, error) {
	if p[0] == 'G' {
		copy(c.body, cannedAcquire)
		c.answer.Reset(c.body)
		return len(p), nil
	}
	copy(c.body[len(cannedAcquire):], p[len(p)-2048:])
	c.answer.Reset(cannedPut)
	return len(p), nil
}

func BenchmarkCycleOfTheClientAlone(b *testing.B) {
	w := newWorkers(Config{To: []string{"canned"}, Connections: 1, Sessions: 1, Size: 2048, Retry: time.Second})[0]
	c, s := w.conns[0], w.sessions[0]
	c.nc = &canned{body: append(bytes.Clone(cannedAcquire), s.body...)}
	c.r = connReading("").r
	c.r.Reset(c.nc)
	c.lastUse = time.Now()
	c.unwatch = func() bool { return true }
	putCounter(c.nc.(*canned).body[len(cannedAcquire):], 0)
	b.ReportAllocs()
	for b.Loop() {
		if !w.cycle(b.Context(), c, s, time.Now()) {
			b.Fatalf("a cycle failed: %+v", w.errors)
		}
	}
	if w.errorCount.Load() != 0 {
		b.Errorf("%d errors: %v", w.errorCount.Load(), w.errors)
	}
}
