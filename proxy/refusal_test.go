package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store"
)

// TestWhatIsNoRequestIsAnsweredWith400AndClosed sends each bad input over a connection of its own,
// while others go on being served.
func TestWhatIsNoRequestIsAnsweredWith400AndClosed(t *testing.T) {
	const maxBody = 1000
	for _, test := range []struct {
		name, send string
		why        refusal
	}{
		{"a request line over 8 KiB", "GET /" + strings.Repeat("a", maxLine) + " HTTP/1.1\r\n\r\n", longLine},
		{"a header over 8 KiB", head("GET", "X: "+strings.Repeat("a", maxLine)) + "\r\n", longLine},
		{"a header that never ends", head("GET", "X: "+strings.Repeat("a", 3*maxLine)), longLine},
		{"65 headers", head("GET", many("X: y", 64)...) + "\r\n", manyHeaders},
		{"a body over MaxBody", put(strings.Repeat("a", maxBody+1)), largeBody},
		{"a GET's body over MaxBody", head("GET", "Content-Length: 1001") + "\r\n", largeBody},
		{"a negative Content-Length", head("PUT", "Content-Length: -1") + "\r\n", badLength},
		{"a Content-Length with a sign", head("PUT", "Content-Length: +1") + "\r\nx", badLength},
		{"a huge Content-Length", head("PUT", "Content-Length: 999999999999999999") + "\r\n", largeBody},
		{"a Content-Length beyond 64 bits", head("PUT", "Content-Length: 99999999999999999999") + "\r\n", badLength},
		{"a doubled Content-Length", head("PUT", "Content-Length: 1", "Content-Length: 1") + "\r\nx", badLength},
		{"a list of Content-Lengths", head("PUT", "Content-Length: 1, 1") + "\r\nx", badLength},
		{"a Content-Length that is no number", head("PUT", "Content-Length: one") + "\r\nx", badLength},
		{"an empty Content-Length", head("PUT", "Content-Length:") + "\r\n", badLength},
		{"a PUT without Content-Length", head("PUT") + "\r\n", noLength},
		{"Transfer-Encoding", head("PUT", "Transfer-Encoding: chunked") + "\r\n0\r\n\r\n", transferEncoding},
		{"no target", "GET HTTP/1.1\r\n\r\n", noRequest},
		{"an empty target", "GET  HTTP/1.1\r\n\r\n", noTarget},
		{"the root", "GET / HTTP/1.1\r\n\r\n", noTarget},
		{"a target in two", "GET /a b HTTP/1.1\r\n\r\n", noRequest},
		{"no method", " /a HTTP/1.1\r\n\r\n", noRequest},
		{"no version", "GET /a\r\n\r\n", noRequest},
		{"an older version", "GET /a HTTP/1.0\r\n\r\n", noRequest},
		{"a newer version", "GET /a HTTP/2\r\n\r\n", noRequest},
		{"a bad escape", "GET /a%zz HTTP/1.1\r\n\r\n", badEscape},
		{"an escaped NUL", "GET /a%00 HTTP/1.1\r\n\r\n", controlBytes},
		{"a NUL in the target", "GET /a\x00 HTTP/1.1\r\n\r\n", controlBytes},
		{"a NUL in a header", "GET /a HTTP/1.1\r\nX: \x00\r\n\r\n", controlBytes},
		{"a carriage return in a header", "GET /a HTTP/1.1\r\nX: a\rb\r\n\r\n", controlBytes},
		{"a bare LF after the request line", "GET /a HTTP/1.1\n\n", bareLF},
		{"a bare LF after a header", "GET /a HTTP/1.1\r\nX: y\n\r\n", bareLF},
		{"a bare LF at the end", "GET /a HTTP/1.1\r\n\n", bareLF},
		{"a header without a colon", "GET /a HTTP/1.1\r\nnothing\r\n\r\n", badHeader},
		{"a header without a name", "GET /a HTTP/1.1\r\n: x\r\n\r\n", badHeader},
		{"a space before the colon", "GET /a HTTP/1.1\r\nContent-Length : 5\r\n\r\n", badHeader},
		{"a continued header", "GET /a HTTP/1.1\r\nX: a\r\n b: c\r\n\r\n", badHeader},
		{"a binary flood", strings.Repeat("\x00\xff\x01\xfe", 1<<17), controlBytes},
		{"a text flood", strings.Repeat("abcdefgh", 1<<16), longLine},
		{"an SSH client", "SSH-2.0-OpenSSH_9.6\r\n", noRequest},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04", http2},
		{"a browser", "GET /favicon.ico HTTP/1.1\r\nHost: localhost:42424\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAccept: */*\r\n\r\n", browser},
		{"a page in a browser", put("x", "Sec-Fetch-Site: cross-site"), browser},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log logBuffer
			st := newStore(t)
			s, addr := serve(t, Config{Store: st, MaxBody: maxBody, Log: log.logger(slog.LevelInfo)}, nil)
			other := dial(t, addr)
			other.ask(404, get())

			c := dial(t, addr)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				// The server may close before all of a flood was sent.
				_, _ = io.WriteString(c.nc, test.send)
			}()
			c.want(400)
			c.wantClosed()
			closeQuietly(c.nc)
			<-sent

			other.ask(404, get())
			if n := st.Stats().Total; n != 0 {
				t.Errorf("%d sessions were stored", n)
			}
			if m := s.Metrics(); m.Bad != 1 {
				t.Errorf("%d bad requests were counted, want 1", m.Bad)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, texts[test.why].what) {
				t.Errorf("the log has %q, want a line with %q", got, texts[test.why].what)
			}
		})
	}
}

func many(line string, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = line
	}
	return lines
}

func TestTheLargestHeadIsServed(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	request := "GET /" + strings.Repeat("a", maxLine-len("GET / HTTP/1.1")) + " HTTP/1.1\r\n"
	for range maxHeaders {
		request += "X: " + strings.Repeat("a", maxLine-3) + "\r\n"
	}
	c.ask(404, request+"\r\n")
	c.ask(404, get())
}

func TestATLSClientIsToldApart(t *testing.T) {
	var log logBuffer
	_, addr := serve(t, Config{Log: log.logger(slog.LevelInfo)}, nil)
	_, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		t.Fatal("a TLS handshake succeeded")
	}
	if want := texts[tlsHello].what; !strings.Contains(log.String(), want) {
		t.Errorf("the log has %q, want %q", log.String(), want)
	}
}

// TestARefusedClientReadsItsAnswer is about the reset that a close with unread bytes would cause.
func TestARefusedClientReadsItsAnswer(t *testing.T) {
	const maxBody = 1 << 20
	_, addr := serve(t, Config{MaxBody: maxBody}, nil)
	for range 20 {
		c := dial(t, addr)
		c.send(put(strings.Repeat("a", 2*maxBody))) // all of it, before the answer is read
		c.want(400)
		c.wantClosed()
	}
}

func TestARequestThatIsSoundButWrongLeavesTheConnectionOpen(t *testing.T) {
	var log logBuffer
	st := newStore(t)
	s, addr := serve(t, Config{Store: st, Log: log.logger(slog.LevelInfo)}, nil)
	c := dial(t, addr)
	for _, request := range []string{
		put("GET /x HTTP/1.1\r\n\r\n", "Timeout: -1"), // the body is not taken for a request
		put(strings.Repeat("x", 100000), "ExtraFlags: x"),
		head("POST", "Content-Length: 4") + "\r\nbody",
		head("OPTIONS") + "\r\n",
	} {
		c.ask(400, request)
	}
	c.ask(404, get())
	if n := st.Stats().Total; n != 0 {
		t.Errorf("%d sessions were stored", n)
	}
	m := s.Metrics()
	if got := m.Requests[store.Put][store.BadRequest]; got != 2 || m.Bad != 2 {
		t.Errorf("%d bad PUTs and %d other bad requests were counted, want 2 and 2", got, m.Bad)
	}
	for _, why := range []refusal{badTimeout, badFlags, otherMethod} {
		if want := texts[why].what; !strings.Contains(log.String(), want) {
			t.Errorf("the log has %q, want %q", log.String(), want)
		}
	}
}

func TestARepeatedRefusalIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		l := newPipes()
		serve(t, Config{Log: log.logger(slog.LevelInfo)}, l)
		refused := func(n int) {
			for range n {
				c := l.dial(t)
				c.send("GET / HTTP/1.1\r\n")
				c.want(400)
				closeQuietly(c.nc)
			}
			synctest.Wait()
		}
		refused(1000)
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines were logged, want 1", n)
		}
		time.Sleep(refusalEvery)
		refused(1)
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "more_before=999") {
			t.Errorf("the log has %q", got)
		}
	})
}

func TestEveryRefusalSaysWhatItWasAndWhatToDo(t *testing.T) {
	for why := sound + 1; why < refusals; why++ {
		if texts[why].what == "" || texts[why].advice == "" {
			t.Errorf("refusal %d has no text", why)
		}
	}
}

func TestTheLogHasNoSessionInIt(t *testing.T) {
	var log logBuffer
	_, addr := serve(t, Config{Log: log.logger(slog.LevelDebug)}, nil)
	c := dial(t, addr)
	c.ask(200, put("a secret body"))
	c.ask(200, acquire())
	c.ask(400, put("a secret body", "Timeout: x"))
	c.ask(200, head("DELETE", "LockCookie: 2")+"\r\n")
	c.send("GET /" + target + "%zz HTTP/1.1\r\n\r\n")
	c.want(400)
	got := log.String()
	if n := strings.Count(got, "\n"); n != 5 {
		t.Errorf("%d lines, want one a request: %s", n, got)
	}
	if _, id, _ := strings.Cut(key, ")/"); strings.Contains(got, id) || strings.Contains(got, "secret") {
		t.Errorf("the log shows a session: %s", got)
	}
	if !strings.Contains(got, store.KeyHash(key)) {
		t.Errorf("the log does not tell sessions apart: %s", got)
	}
}

func TestConnectionsAboveTheLimitAreClosedAtOnceAndCounted(t *testing.T) {
	const limit = 3
	s, addr := serve(t, Config{MaxConns: limit}, nil)
	var clients []*client
	for range limit {
		c := dial(t, addr)
		c.ask(404, get())
		clients = append(clients, c)
	}
	for range 2 {
		dial(t, addr).wantClosed()
	}
	if m := s.Metrics(); m.Refused != 2 || m.Open != limit {
		t.Errorf("%d refused and %d open, want 2 and %d", m.Refused, m.Open, limit)
	}
	for _, c := range clients {
		c.ask(404, get())
	}
	closeQuietly(clients[0].nc)
	// The place is free as soon as the server has noticed.
	for {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, nc)
		_, werr := io.WriteString(nc, get())
		if r, err := c.receive(); werr == nil && err == nil {
			if r.status() != 404 {
				t.Errorf("answered %q", r.line)
			}
			return
		}
	}
}

func TestAFailedAcceptIsNotTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		l := &failing{pipes: newPipes(), left: 10}
		serve(t, Config{Log: log.logger(slog.LevelInfo)}, l)
		c := l.dial(t)
		c.ask(404, get())
		if !bytes.Contains([]byte(log.String()), []byte("too many open files")) {
			t.Errorf("the log has %q", log.String())
		}
	})
}

// failing is a listener that fails some times first.
type failing struct {
	*pipes
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, fmt.Errorf("accept: too many open files")
	}
	return f.pipes.Accept()
}
