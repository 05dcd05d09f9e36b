package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"peerstate/proxy"
	"peerstate/proxy/recording"
	"peerstate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server starts a state server that ends with the test.
func server(t *testing.T, bare bool) string {
	t.Helper()
	st := store.New(store.Options{})
	t.Cleanup(st.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := proxy.New(proxy.Config{Store: st, BareStatusLine: bare})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

// tape is a recording that a test writes.
type tape struct {
	file   bytes.Buffer
	w      *recording.Writer
	bodies bool
}

func newTape(t *testing.T, bodies bool) *tape {
	p := &tape{bodies: bodies}
	var err error
	if p.w, err = recording.NewWriter(&p.file, recording.Header{Started: time.Now(), Bodies: bodies}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *tape) add(conn int64, what, head, body string) {
	e := recording.Event{Conn: conn, What: what, Head: head, Length: int64(len(body))}
	if p.bodies {
		e.Body = []byte(body)
	}
	p.w.Write(e)
}

// ask records a request for the session "s" of a connection, and answer its answer.
func (p *tape) ask(conn int64, method, body string, headers ...string) {
	p.add(conn, recording.Request, method+" s HTTP/1.1\r\n"+lines(headers)+fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)), body)
}

func (p *tape) answer(conn int64, status, body string, headers ...string) {
	p.add(conn, recording.Answer, "HTTP/1.1 "+status+"\r\nX-AspNet-Version: 4.0.30319\r\n"+lines(headers)+
		fmt.Sprintf("Cache-Control: private\r\nContent-Length: %d\r\n\r\n", len(body)), body)
}

func (p *tape) end(conn int64, side string) {
	p.w.Write(recording.Event{Conn: conn, What: recording.End, From: side})
}

func lines(headers []string) string {
	text := ""
	for _, h := range headers {
		text += h + "\r\n"
	}
	return text
}

func (p *tape) play(t *testing.T, to string) Result {
	t.Helper()
	r, err := p.replay(t.Context(), Config{To: to})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (p *tape) replay(ctx context.Context, c Config) (Result, error) {
	if err := p.w.Flush(); err != nil {
		return Result{}, err
	}
	in, err := recording.NewReader(&p.file)
	if err != nil {
		return Result{}, err
	}
	return Run(ctx, in, c)
}

const acquire = "Exclusive: acquire"

// cookie is a request's or answer's header; answers to acquires and 423s name it.
func cookie(n int) string { return fmt.Sprintf("LockCookie: %d", n) }

// page records a page that has the session to itself.
func (p *tape) page(conn int64, n int, was, is string) {
	p.ask(conn, "GET", "", acquire)
	p.answer(conn, "200 OK", was, cookie(n), "Timeout: 20")
	p.ask(conn, "PUT", is, cookie(n))
	p.answer(conn, "200 OK", "")
}

func mustBe(t *testing.T, got, want Result) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Result{}, "Seconds"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheSameAnswersAreNoDifferenceWhateverTheCookies(t *testing.T) {
	p := newTape(t, true)
	p.ask(1, "PUT", "first")
	p.answer(1, "200 OK", "")
	p.page(1, 77, "first", "second")
	p.ask(2, "GET", "", acquire)
	p.answer(2, "200 OK", "second", cookie(903), "Timeout: 20")
	p.ask(1, "GET", "")
	p.answer(1, "423 Locked", "", "LockDate: 1", "LockAge: 70", cookie(903))
	p.ask(1, "GET", "", "Exclusive: release", cookie(77)) // the wrong one
	p.answer(1, "423 Locked", "", "LockDate: 1", "LockAge: 70", cookie(903))
	p.ask(1, "GET", "", "Exclusive: release", "Lock-Cookie: 903")
	p.answer(1, "200 OK", "")
	p.ask(1, "DELETE", "", "LockCookie: 903")
	p.answer(1, "200 OK", "")
	p.ask(1, "GET", "")
	p.answer(1, "404 Not Found", "")
	mustBe(t, p.play(t, server(t, false)), Result{Requests: 9, Same: 9, Connections: 2, Bodies: true})
}

func TestEachDifferenceIsFoundAndCountedByItsKind(t *testing.T) {
	p := newTape(t, true)
	p.ask(1, "PUT", "first")
	p.answer(1, "200 OK", "")
	for range 12 {
		p.ask(1, "GET", "")
		p.answer(1, "200 OK", "frist", "Timeout: 30", "Server: old")
	}
	p.ask(1, "HEAD", "")
	p.answer(1, "404 Not Found", "")
	p.ask(1, "GET", "", acquire)
	p.answer(1, "200 OK", "first", cookie(5), "Timeout: 20")
	p.ask(2, "GET", "")
	p.answer(2, "423 Locked", "", "LockDate: 1", "LockAge: 0", cookie(6)) // of another lock
	p.ask(2, "GET", "")
	p.answer(2, "423 Locked", "", cookie(5), "LockDate: 1", "LockAge: 0")
	tenLines := []int{5, 7, 9, 11, 13, 15, 17, 19, 21, 23}
	mustBe(t, p.play(t, server(t, false)), Result{Requests: 17, Same: 2, Different: 15, Connections: 2, Bodies: true, Differences: []Difference{
		{"get", "Timeout", "30", "20", 12, tenLines},
		{"get", "Server", "old", "(missing)", 12, tenLines},
		{"get", "body", "as recorded", "other contents of the same length", 12, tenLines},
		{"head", "status line", "HTTP/1.1 404 Not Found", "HTTP/1.1 200 OK", 1, []int{29}},
		{"get", "LockCookie", "that of the same lock", "that of another lock", 1, []int{33}},
		{"get", "order of the headers", "X-AspNet-Version LockCookie LockDate LockAge Cache-Control Content-Length",
			"X-AspNet-Version LockDate LockAge LockCookie Cache-Control Content-Length", 1, []int{35}},
	}})
}

func TestTheOtherFormOfTheStatusLineIsADifferenceAndTheRestIsComparedAllTheSame(t *testing.T) {
	p := newTape(t, false)
	p.ask(1, "PUT", "first")
	p.answer(1, "200 OK", "")
	p.ask(1, "GET", "")
	p.answer(1, "200 OK", "five.", "Timeout: 21")
	mustBe(t, p.play(t, server(t, true)), Result{Requests: 2, Different: 2, Connections: 1, Differences: []Difference{
		{"put", "status line", "HTTP/1.1 200 OK", "200 OK", 1, []int{3}},
		{"get", "status line", "HTTP/1.1 200 OK", "200 OK", 1, []int{5}},
		{"get", "Timeout", "21", "20", 1, []int{5}},
	}})
}

func TestContentsThatWereNotRecordedAreReplacedByOthersOfTheirLength(t *testing.T) {
	p := newTape(t, false)
	p.ask(1, "PUT", "first")
	p.answer(1, "200 OK", "")
	p.page(1, 2, "first", "longer than before")
	p.ask(1, "GET", "")
	p.answer(1, "200 OK", "longer than BEFORE", "Timeout: 20")
	p.ask(1, "GET", "")
	p.answer(1, "200 OK", "shorter", "Timeout: 20")
	mustBe(t, p.play(t, server(t, false)), Result{Requests: 5, Same: 4, Different: 1, Connections: 1, Differences: []Difference{
		{"get", "Content-Length", "7", "18", 1, []int{11}},
	}})
}

func TestASessionThatExistedBeforeTheRecordingIsMadeFirst(t *testing.T) {
	for name, record := range map[string]func(p *tape){
		"read":     func(p *tape) { p.ask(1, "GET", ""); p.answer(1, "200 OK", "abc", "Timeout: 33") },
		"acquired": func(p *tape) { p.page(1, 9, "abc", "x") },
		"renewed": func(p *tape) {
			p.ask(1, "HEAD", "")
			p.answer(1, "200 OK", "")
			p.ask(1, "GET", "") // of which nothing is known
			p.answer(1, "200 OK", "abcdefg", "Timeout: 44")
		},
		"uninitialised": func(p *tape) { p.ask(1, "GET", ""); p.answer(1, "200 OK", "abc", "ActionFlags: 1", "Timeout: 20") },
		"locked": func(p *tape) {
			p.ask(1, "GET", "")
			p.answer(1, "423 Locked", "", "LockDate: 1", "LockAge: 7", cookie(55))
			p.ask(1, "PUT", "abc", cookie(55))
			p.answer(1, "200 OK", "")
			p.page(1, 56, "abc", "abd")
		},
		"written by a page that had begun": func(p *tape) {
			p.ask(1, "PUT", "abc", cookie(55))
			p.answer(1, "200 OK", "")
			p.page(1, 56, "abc", "x")
		},
		"released by such a page": func(p *tape) {
			p.ask(1, "GET", "", "Exclusive: release", cookie(55))
			p.answer(1, "200 OK", "")
			p.ask(1, "GET", "", acquire)
			p.answer(1, "200 OK", "unknown before", cookie(56), "Timeout: 33")
		},
		"deleted": func(p *tape) {
			p.ask(1, "DELETE", "")
			p.answer(1, "200 OK", "")
			p.ask(1, "GET", "")
			p.answer(1, "404 Not Found", "")
		},
		"deleted by a page that had begun": func(p *tape) {
			p.ask(1, "DELETE", "", cookie(4))
			p.answer(1, "200 OK", "")
			p.ask(1, "GET", "")
			p.answer(1, "404 Not Found", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTape(t, true)
			record(p)
			if r := p.play(t, server(t, false)); r.Different > 0 || r.Prepared != 1 || r.Same != r.Requests {
				t.Errorf("%v", r)
			}
		})
	}
}

// Where two requests for one session are under way at once, the one that was carried out first may be answered last.
func TestRequestsThatWereUnderWayAtOnceAreSentInTheOrderThatTheirCookiesTell(t *testing.T) {
	for name, record := range map[string]func(p *tape){
		"the lock's refusal before the lock": func(p *tape) {
			p.ask(1, "GET", "", acquire)
			p.ask(2, "GET", "", acquire)
			p.answer(2, "423 Locked", "", "LockDate: 1", "LockAge: 0", cookie(2))
			p.answer(1, "200 OK", "abc", cookie(2), "Timeout: 20")
		},
		"the next lock before the answer to the write that made way for it": func(p *tape) {
			p.ask(1, "GET", "", acquire)
			p.answer(1, "200 OK", "abc", cookie(2), "Timeout: 20")
			p.ask(2, "GET", "", acquire)
			p.ask(1, "PUT", "abd", cookie(2))
			p.answer(2, "200 OK", "abd", cookie(3), "Timeout: 20")
			p.answer(1, "200 OK", "")
		},
		"a read before the answer to the release that made way for it": func(p *tape) {
			p.ask(1, "GET", "", acquire)
			p.answer(1, "200 OK", "abc", cookie(2), "Timeout: 20")
			p.ask(2, "GET", "")
			p.ask(1, "GET", "", "Exclusive: release", cookie(2))
			p.answer(2, "200 OK", "abc", "Timeout: 20")
			p.answer(1, "200 OK", "")
		},
		"gone before the answer to the deletion": func(p *tape) {
			p.ask(1, "DELETE", "")
			p.ask(2, "GET", "")
			p.answer(2, "404 Not Found", "")
			p.answer(1, "200 OK", "")
		},
		"two locks at once, three deep": func(p *tape) {
			p.ask(1, "GET", "", acquire)
			p.ask(2, "GET", "", acquire)
			p.ask(3, "GET", "")
			p.answer(1, "200 OK", "abc", cookie(2), "Timeout: 20")
			p.ask(1, "PUT", "abd", cookie(2))
			p.answer(3, "423 Locked", "", "LockDate: 1", "LockAge: 0", cookie(3))
			p.answer(2, "200 OK", "abd", cookie(3), "Timeout: 20")
			p.answer(1, "200 OK", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTape(t, true)
			p.ask(9, "PUT", "abc")
			p.answer(9, "200 OK", "")
			record(p)
			if r := p.play(t, server(t, false)); r.Different > 0 {
				t.Errorf("%v", r)
			}
		})
	}
}

func TestARequestThatWasNeverAnsweredIsNotComparedUnlessTheServerHungUp(t *testing.T) {
	p := newTape(t, true)
	p.ask(1, "PUT", "abc")
	p.end(1, recording.Client)
	p.end(1, recording.Server)
	p.ask(2, "PUT", "abc")
	p.end(2, recording.Server) // which peerstate would not do here
	mustBe(t, p.play(t, server(t, false)), Result{Requests: 2, NotCompared: 1, Different: 1, Connections: 2, Bodies: true, Differences: []Difference{
		{"put", "connection", "closed without an answer", "HTTP/1.1 200 OK", 1, []int{5}},
	}})
}

func TestWhatCannotBeSentIsCounted(t *testing.T) {
	p := newTape(t, true)
	p.w.Write(recording.Event{Conn: 1, What: recording.Raw, From: recording.Client, Length: 8})
	e := recording.Event{Conn: 2, What: recording.Request, Head: "PUT s HTTP/1.1\r\nContent-Length: 3\r\n\r\n", Length: 1, Body: []byte("x"), Unfinished: true}
	p.w.Write(e)
	p.answer(2, "400 Bad Request", "")
	e.Conn = 3
	p.w.Write(e)
	p.end(3, recording.Client)
	p.end(3, recording.Server)
	if err := p.w.Flush(); err != nil {
		t.Fatal(err)
	}
	p.file.WriteString(`{"conn":`)
	mustBe(t, p.play(t, server(t, false)), Result{Strange: 8, Incomplete: 2, CutOff: true, Bodies: true})
}

func TestAServerThatCannotBeReachedIsAnErrorAndOneThatHangsUpADifference(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.Close() // whatever is asked
		}
	}()
	p := newTape(t, false)
	for range 2 {
		p.ask(1, "PUT", "x")
		p.answer(1, "200 OK", "")
	}
	mustBe(t, p.play(t, l.Addr().String()), Result{Requests: 2, Different: 2, Connections: 2, Differences: []Difference{
		{"put", "connection", "HTTP/1.1 200 OK", "closed without an answer", 2, []int{3, 5}},
	}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	p = newTape(t, false)
	p.ask(1, "PUT", "x")
	p.answer(1, "200 OK", "")
	if _, err := p.replay(t.Context(), Config{To: l.Addr().String()}); !errors.Is(err, errNotSent) {
		t.Errorf("%v", err)
	}
}

func TestPausesAreKeptIfWanted(t *testing.T) {
	p := &tape{}
	var err error
	if p.w, err = recording.NewWriter(&p.file, recording.Header{Started: time.Now().Add(-50 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	p.ask(1, "PUT", "x")
	p.answer(1, "200 OK", "")
	to := server(t, false)
	r, err := p.replay(t.Context(), Config{To: to, Timing: true})
	if err != nil || r.Seconds < 0.05 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestAResultIsToldInPlainWords(t *testing.T) {
	r := Result{Requests: 14, Same: 3, Different: 11, NotCompared: 1, Incomplete: 2, Strange: 5, Prepared: 4, Connections: 2, Seconds: 1.5, CutOff: true,
		Differences: []Difference{{"get", "Timeout", "30", "20", 11, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}}, OtherKinds: 6}
	want := `14 requests on 2 connections in 1.5s
same         3 answers (contents were not recorded: only their lengths are compared)
different    11 answers
not compared 1: the web server went away before the answer
not sent     2 requests that are not complete in the recording
not sent     5 bytes that are no message
made first   4 sessions that existed before the recording began
the recording ends in the middle of a line: the relay was killed
get, Timeout: 11 times, line 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...
  recorded  "30"
  now       "20"
and 6 differences of other kinds
`
	if diff := cmp.Diff(want, r.String()); diff != "" {
		t.Error(diff)
	}
	if strings.Contains((Result{Bodies: true}).String(), "lengths") {
		t.Error("contents were compared")
	}
}

// FuzzSequence: any recording is put together or refused, and each exchange comes out once.
func FuzzSequence(f *testing.F) {
	head := `{"peerstate_recording":1,"started":"2026-01-02T03:04:05Z","to":"a:1","bodies":true}` + "\n"
	f.Add([]byte(head + `{"conn":1,"event":"request","head":"GET a HTTP/1.1\r\n\r\n","length":0}` + "\n" +
		`{"conn":1,"event":"answer","head":"200 OK\r\n\r\n","length":0}` + "\n" + `{"conn":1,"event":"end","from":"client","length":0}` + "\n"))
	f.Add([]byte(head + `{"conn":1,"event":"part","from":"client","length":1,"body":"YQ=="}` + "\n" + `{"conn":1,"event":"request","head":"PUT a HTTP/1.1\r\n\r\n","length":1}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := recording.NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		s := newSequence(r)
		seen := map[*exchange]bool{}
		for {
			x, err := s.next()
			if err != nil {
				break
			}
			if seen[x] || len(seen) > 2*s.events {
				t.Fatal("an exchange came twice")
			}
			seen[x] = true
		}
	})
}
