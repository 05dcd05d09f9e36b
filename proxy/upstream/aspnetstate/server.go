// Package aspnetstate is a stand-in for Microsoft's state service, for tests of what takes its place: it answers as that does,
// by the protocol's model, and notes whatever a request has that the real client never sends. It is never part of the program.
package aspnetstate

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"peerstate/store"
	"peerstate/store/model"
)

// Fate is what becomes of a request.
type Fate struct {
	Takes  time.Duration // before it is carried out
	Lost   bool          // the connection is closed before it is carried out
	Silent bool          // the connection is closed instead of the answer
	Answer string        // instead of the right one
}

// Server is the service. Its sessions are gone when it is closed.
type Server struct {
	l       net.Listener
	started time.Time
	running sync.WaitGroup

	mu      sync.Mutex
	model   *model.Model
	conns   map[net.Conn]struct{}
	fate    func(op store.Op) Fate
	wrong   []string
	dialled int
}

// Start starts a service on a free port of the loopback interface.
func Start() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{l: l, started: time.Now(), model: model.New(), conns: map[net.Conn]struct{}{}}
	s.running.Go(s.accept)
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.l.Addr().String() }

// Close ends it.
func (s *Server) Close() error {
	err := s.l.Close()
	s.mu.Lock()
	for nc := range s.conns {
		_ = nc.Close() // whatever is under way is cut
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}

// On sets what becomes of requests from now on; nil: they are answered.
func (s *Server) On(fate func(op store.Op) Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fate = fate
}

// Do is what a page does that runs against the service directly.
func (s *Server) Do(r store.Request) store.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.model.Do(r, time.Since(s.started))
}

// Dialled tells how many connections there were.
func (s *Server) Dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled
}

// Wrong tells what came that the real client does not send.
func (s *Server) Wrong() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wrong)
}

func (s *Server) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *Server) accept() {
	for {
		nc, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[nc] = struct{}{}
		s.dialled++
		s.mu.Unlock()
		s.running.Go(func() {
			s.serve(nc)
			s.mu.Lock()
			delete(s.conns, nc)
			s.mu.Unlock()
		})
	}
}

func (s *Server) serve(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReader(nc)
	for {
		req, err := s.read(r)
		if err != nil {
			return
		}
		s.mu.Lock()
		var f Fate
		if s.fate != nil {
			f = s.fate(req.Op)
		}
		s.mu.Unlock()
		time.Sleep(f.Takes)
		if f.Lost {
			return
		}
		text := answerText(req, s.Do(req))
		if f.Answer != "" {
			text = []byte(f.Answer)
		}
		if f.Silent {
			return
		}
		if _, err := nc.Write(text); err != nil {
			return
		}
	}
}

// allowed are the headers that the real client sends, by method.
var allowed = map[string][]string{
	"GET": {"Host", "Exclusive", "LockCookie"}, "HEAD": {"Host"}, "DELETE": {"Host", "LockCookie"},
	"PUT": {"Host", "Timeout", "Content-Length", "ExtraFlags", "LockCookie"},
}

// read reads a request. What it is strict about it notes.
func (s *Server) read(r *bufio.Reader) (req store.Request, err error) {
	line, err := s.line(r)
	if err != nil {
		return req, err
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[2] != "HTTP/1.1" || !strings.HasPrefix(parts[1], "%2f") || strings.ContainsAny(parts[1], "/+") {
		s.note("request line %q", line)
		return req, io.ErrUnexpectedEOF
	}
	key, err := url.PathUnescape(parts[1])
	if err != nil {
		s.note("target %q: %v", parts[1], err)
		return req, err
	}
	req = store.Request{Key: []byte(strings.TrimLeft(key, "/")), Cookie: store.NoCookie, Timeout: store.DefaultTimeout}
	headers := map[string]string{}
	for {
		if line, err = s.line(r); err != nil || line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		if _, twice := headers[name]; twice || !slices.Contains(allowed[parts[0]], name) {
			s.note("%s with %q", parts[0], line)
		}
		headers[name] = strings.TrimSpace(value)
	}
	if err != nil {
		return req, err
	}
	if _, ok := headers["Host"]; !ok {
		s.note("no Host")
	}
	return s.meaning(r, parts[0], headers, req)
}

// meaning makes the request of its parts, and reads its body.
func (s *Server) meaning(r *bufio.Reader, method string, headers map[string]string, req store.Request) (store.Request, error) {
	number := func(name string, missing int32) int32 {
		text, ok := headers[name]
		if !ok {
			return missing
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			s.note("%s: %q", name, text)
			return store.BadCookie
		}
		return int32(n)
	}
	req.Cookie = number("LockCookie", store.NoCookie)
	switch method {
	case "GET":
		switch headers["Exclusive"] {
		case "acquire":
			req.Op = store.Acquire
		case "release":
			req.Op = store.Release
		}
	case "HEAD":
		req.Op = store.Head
	case "DELETE":
		req.Op = store.Delete
	case "PUT":
		req.Op, req.Timeout, req.Flags = store.Put, number("Timeout", store.DefaultTimeout), number("ExtraFlags", 0)
		length := number("Content-Length", -1)
		if length < 0 {
			s.note("PUT without a right Content-Length")
			return req, io.ErrUnexpectedEOF
		}
		req.Body = make([]byte, length)
		_, err := io.ReadFull(r, req.Body)
		return req, err
	}
	return req, nil
}

func (s *Server) line(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") {
		s.note("a line without CRLF: %q", line)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// answerText is an answer as the service writes it.
func answerText(req store.Request, a store.Answer) []byte {
	var b bytes.Buffer
	b.WriteString(map[store.Status]string{store.OK: "200 OK", store.BadRequest: "400 Bad Request",
		store.NotFound: "404 Not Found", store.Locked: "423 Locked"}[a.Status])
	b.WriteString("\r\nX-AspNet-Version: 4.0.30319\r\n")
	if a.Init {
		b.WriteString("ActionFlags: 1\r\n")
	}
	var body []byte
	switch {
	case a.Status == store.Locked:
		const epoch = 621_355_968_000_000_000 // 1970 in .NET's ticks
		fmt.Fprintf(&b, "LockDate: %d\r\nLockAge: %d\r\nLockCookie: %d\r\n",
			epoch+time.Now().Add(-a.LockAge).UnixNano()/100, a.LockAge/time.Second, a.Cookie)
	case a.Status == store.OK && (req.Op == store.Get || req.Op == store.Acquire):
		if req.Op == store.Acquire {
			fmt.Fprintf(&b, "LockCookie: %d\r\n", a.Cookie)
		}
		fmt.Fprintf(&b, "Timeout: %d\r\n", a.Timeout)
		body = a.Body
	}
	fmt.Fprintf(&b, "Cache-Control: private\r\nContent-Length: %d\r\n\r\n", len(body))
	b.Write(body)
	return b.Bytes()
}
