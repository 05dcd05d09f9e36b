package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// fakeServer is a state server of the plainest kind: one map and one lock. spoil, if there is one, may
// change or prevent an answer.
type fakeServer struct {
	spoil func(*fakeRequest)

	mu       sync.Mutex
	sessions map[string]*fakeSession // guarded by mu
	requests []string                // guarded by mu; the first 100 as they came
}

type fakeSession struct {
	body   []byte
	cookie int
	locked bool
}

type fakeRequest struct {
	op     string // "acquire", "release", "put", "delete"
	status int
	cookie int
	body   []byte // of the answer
	hangUp bool
}

func newFake(spoil func(*fakeRequest)) *fakeServer {
	return &fakeServer{spoil: spoil, sessions: make(map[string]*fakeSession)}
}

// start gives the address of the server, which ends with the test.
func (f *fakeServer) start(t *testing.T) string {
	return f.door(t, new(atomic.Int64))
}

// door gives a further address of the same server; its connections are counted.
func (f *fakeServer) door(t *testing.T, connections *atomic.Int64) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			wg.Go(func() { f.serve(nc) })
		}
	})
	return ln.Addr().String()
}

func (f *fakeServer) serve(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReader(nc)
	for {
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		length, _ := strconv.Atoi(header(head, "Content-Length"))
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		a := f.answer(head, body)
		if a.hangUp {
			return
		}
		text := fmt.Sprintf("HTTP/1.1 %d %s\r\nX-AspNet-Version: 4.0.30319\r\n", a.status, http.StatusText(a.status))
		if a.cookie > 0 {
			text += fmt.Sprintf("LockCookie: %d\r\n", a.cookie)
		}
		text += fmt.Sprintf("Cache-Control: private\r\nContent-Length: %d\r\n\r\n%s", len(a.body), a.body)
		if _, err := io.WriteString(nc, text); err != nil {
			return
		}
	}
}

func header(head, name string) string {
	_, after, _ := strings.Cut(head, "\r\n"+name+":")
	value, _, _ := strings.Cut(after, "\r\n")
	return strings.TrimSpace(value)
}

func (f *fakeServer) answer(head string, body []byte) *fakeRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) < 100 {
		f.requests = append(f.requests, head)
	}
	parts := strings.Fields(head)
	key := parts[1]
	op := header(head, "Exclusive")
	if op == "" {
		op = strings.ToLower(parts[0])
	}
	cookie, _ := strconv.Atoi(header(head, "LockCookie"))
	s := f.sessions[key]
	a := &fakeRequest{op: op, status: 200}
	switch {
	case s == nil && op == "put":
		f.sessions[key] = &fakeSession{body: body, cookie: 1}
	case s == nil:
		a.status = 404
	case op == "acquire" && s.locked || op != "acquire" && s.locked && s.cookie != cookie:
		a.status, a.cookie = 423, s.cookie
	case op == "acquire":
		s.locked = true
		s.cookie++
		a.cookie, a.body = s.cookie, append([]byte(nil), s.body...)
	case op == "release":
		s.locked = false
	case op == "put":
		s.body, s.locked = body, false
	case op == "delete":
		delete(f.sessions, key)
	}
	if f.spoil != nil {
		f.spoil(a)
	}
	return a
}

func (f *fakeServer) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sessions)
}

// connReading is a connection on which a server said text.
func connReading(text string) *conn {
	return &conn{r: bufio.NewReaderSize(strings.NewReader(text), 8<<10)}
}
