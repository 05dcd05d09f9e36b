package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"

	"peerstate/store"
)

// target is a session as the real client names it, and key the same decoded.
const (
	target = "%2fLM%2fW3SVC%2f1%2fROOT%2fshop(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE%3d)%2fmiztsjiek5gvzu55km3xun55"
	key    = "LM/W3SVC/1/ROOT/shop(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE=)/miztsjiek5gvzu55km3xun55"
)

// newStore gives a store that ends with the test.
func newStore(t testing.TB) *store.Store {
	st := store.New(store.Options{})
	t.Cleanup(st.Close)
	return st
}

// serve starts a server on l, or on a free port of the loopback interface, which ends with the test.
func serve(t testing.TB, cfg Config, l net.Listener) (*Server, string) {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = newStore(t)
	}
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s := New(cfg)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return s, l.Addr().String()
}

// client is one connection to a server.
type client struct {
	t  testing.TB
	nc net.Conn
	in *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { closeQuietly(nc) })
	return &client{t: t, nc: nc, in: bufio.NewReader(nc)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, s); err != nil {
		c.t.Fatal(err)
	}
}

// reply is an answer as it came.
type reply struct {
	line   string // the status line
	names  []string
	header map[string]string
	body   string
}

func (r reply) status() int {
	fields := strings.Fields(strings.TrimPrefix(r.line, "HTTP/1.1 "))
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0
	}
	return n
}

// receive reads an answer; it is an error if there is none.
func (c *client) receive() (reply, error) {
	r := reply{header: map[string]string{}}
	tp := textproto.NewReader(c.in)
	var err error
	if r.line, err = tp.ReadLine(); err != nil {
		return r, err
	}
	for {
		line, err := tp.ReadLine()
		if err != nil {
			return r, err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return r, fmt.Errorf("header %q", line)
		}
		r.names = append(r.names, name)
		r.header[name] = value
	}
	if strings.HasSuffix(r.line, "100 Continue") {
		return r, nil
	}
	n, err := strconv.Atoi(r.header["Content-Length"])
	if err != nil {
		return r, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(c.in, body)
	r.body = string(body)
	return r, err
}

// want reads an answer and checks its status.
func (c *client) want(status int) reply {
	c.t.Helper()
	r, err := c.receive()
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	if r.status() != status {
		c.t.Fatalf("answered %q, want %d", r.line, status)
	}
	return r
}

// wantClosed checks that the server closes the connection without another byte.
func (c *client) wantClosed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.in); len(b) > 0 || err != nil && !isReset(err) {
		c.t.Fatalf("got %q and %v, want the end", b, err)
	}
}

// ask sends a request and checks its answer's status.
func (c *client) ask(status int, request string) reply {
	c.t.Helper()
	c.send(request)
	return c.want(status)
}

func isReset(err error) bool {
	var ne *net.OpError
	return errors.As(err, &ne) && !ne.Timeout() || errors.Is(err, io.ErrClosedPipe)
}

// get, acquire and put are requests for the session target, with further header lines.
func get(headers ...string) string     { return head("GET", headers...) + "\r\n" }
func acquire(headers ...string) string { return get(append(headers, "Exclusive: acquire")...) }

func put(body string, headers ...string) string {
	return head("PUT", append(headers, fmt.Sprint("Content-Length: ", len(body)))...) + "\r\n" + body
}

func head(method string, headers ...string) string {
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: localhost"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n"
}

// hooked is a store whose answers a test can influence. The zero functions change nothing.
type hooked struct {
	*store.Store
	try  func(r *store.Request) (store.Answer, bool)
	do   func(ctx context.Context, r *store.Request) store.Answer
	undo func(key []byte, a store.Answer)
}

func (h hooked) Try(r *store.Request) (store.Answer, bool) {
	if h.try != nil {
		return h.try(r)
	}
	return h.Store.Try(r)
}

func (h hooked) Do(ctx context.Context, r *store.Request) store.Answer {
	if h.do != nil {
		return h.do(ctx, r)
	}
	return h.Store.Do(ctx, r)
}

func (h hooked) Undo(key []byte, a store.Answer) {
	if h.undo != nil {
		h.undo(key, a)
	}
	h.Store.Undo(key, a)
}

// mustTry makes a request of the store itself.
func mustTry(t testing.TB, st *store.Store, r store.Request) store.Answer {
	t.Helper()
	if r.Key == nil {
		r.Key = []byte(key)
	}
	a, ok := st.Try(&r)
	if !ok {
		t.Fatal("a store on its own did not answer at once")
	}
	return a
}

// pipes is a listener without a network, for tests in virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(t testing.TB) *client {
	here, there := net.Pipe()
	p.conns <- there
	return newClient(t, here)
}

// logBuffer collects a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}
