package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"peerstate/proxy/recording"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a relay between a test, which is the web server, and a state server that the test plays as well.
type scene struct {
	t       *testing.T
	l       net.Listener // of the state server
	addr    string       // of the relay
	seenMu  sync.Mutex
	seen    bytes.Buffer
	written *bytes.Buffer
	end     func() // of the relay; then seen and written may be read
}

type sceneOptions struct {
	edits    Edits
	raw      bool
	bodies   bool
	noServer bool
}

func newScene(t *testing.T, o sceneOptions) *scene {
	t.Helper()
	s := &scene{t: t, written: new(bytes.Buffer)}
	s.l = listen(t)
	l := listen(t) // before the other one is closed, whose port it could get
	if o.noServer {
		if err := s.l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	record, err := recording.NewWriter(s.written, recording.Header{Started: time.Now(), To: "there", Bodies: o.bodies})
	if err != nil {
		t.Fatal(err)
	}
	screen := NewScreen(s, false, o.raw)
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- New(Config{To: s.l.Addr().String(), Edits: o.edits, Screen: screen, Record: record}).Serve(ctx, l)
	}()
	s.end = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, screen.Close(), record.Flush()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.end)
	return s
}

// Write is the terminal.
func (s *scene) Write(p []byte) (int, error) {
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	return s.seen.Write(p)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it may be closed already
	return l
}

// end is one end of a connection through the relay.
type end struct {
	t *testing.T
	*net.TCPConn
}

// connect gives both ends of a connection: the web server's and the state server's.
func (s *scene) connect() (web, state end) {
	s.t.Helper()
	w, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := s.l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range []net.Conn{w, n} {
		s.t.Cleanup(func() { _ = c.Close() }) // it may be closed already
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			s.t.Fatal(err)
		}
	}
	return end{s.t, w.(*net.TCPConn)}, end{s.t, n.(*net.TCPConn)}
}

func (e end) say(text string) {
	e.t.Helper()
	if _, err := io.WriteString(e, text); err != nil {
		e.t.Fatal(err)
	}
}

func (e end) hear(want string) {
	e.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(e, got)
	if string(got[:n]) != want {
		e.t.Fatalf("heard %q (%v), want %q", got[:n], err, want)
	}
}

func (e end) hearEnd() {
	e.t.Helper()
	if rest, err := io.ReadAll(e); err != nil || len(rest) > 0 {
		e.t.Fatalf("heard %q, %v instead of the end", rest, err)
	}
}

const (
	target = "%2fLM%2fROOT(h%3d)%2fabc"
	get    = "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
	locked = "423 Locked\r\nLockCookie:3\r\nContent-Length: 0\r\n\r\n"
	found  = "HTTP/1.1 200 OK\r\nTimeout: 20\r\nContent-Length: 5\r\n\r\nhello"
)

// shown is what is on the screen at the end, without times and ports.
func (s *scene) shown() string {
	s.end()
	text := regexp.MustCompile(`\d\d:\d\d:\d\d\.\d\d\d`).ReplaceAllString(s.seen.String(), "T")
	text = regexp.MustCompile(`, [\d.]+(µs|ms|s)\b`).ReplaceAllString(text, ", D")
	return regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "A")
}

// recorded is the recording at the end.
func (s *scene) recorded() (all []recording.Event) {
	s.t.Helper()
	s.end()
	r, err := recording.NewReader(s.written)
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			s.t.Fatal(err)
		}
		e.At = 0
		all = append(all, e)
	}
}

func TestAConversationIsPassedOnShownAndRecorded(t *testing.T) {
	s := newScene(t, sceneOptions{})
	web, state := s.connect()
	web.say(get)
	state.hear(get)
	state.say(locked)
	web.hear(locked)
	web.say(get)
	state.hear(get)
	state.say(found)
	web.hear(found)
	if err := web.Close(); err != nil {
		t.Fatal(err)
	}
	state.hearEnd()
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, s, "over")
	want := `T #1       connected from A
T #1   --> GET LM/ROOT(h=)/abc
                       Host: localhost
T #1   <-- 423 Locked to GET, D LM/ROOT(h=)/abc
                       LockCookie: 3
                       Content-Length: 0
T #1   --> GET LM/ROOT(h=)/abc
                       Host: localhost
T #1   <-- 200 OK to GET, D LM/ROOT(h=)/abc
                       Timeout: 20
                       Content-Length: 5
                       body of 5 bytes
T #1       the web server has closed its side
T #1       the state server has closed its side
T #1       over, with 2 requests and 2 answers
`
	if diff := cmp.Diff(want, s.shown()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	events := []recording.Event{
		{Conn: 1, What: recording.Connect},
		{Conn: 1, What: recording.Request, Head: get},
		{Conn: 1, What: recording.Answer, Head: locked},
		{Conn: 1, What: recording.Request, Head: get},
		{Conn: 1, What: recording.Answer, Head: strings.TrimSuffix(found, "hello"), Length: 5},
		{Conn: 1, What: recording.End, From: recording.Client},
		{Conn: 1, What: recording.End, From: recording.Server},
	}
	if diff := cmp.Diff(events, s.recorded()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// waitFor waits until the relay has shown some text.
func waitFor(t *testing.T, s *scene, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if s.shows(text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q was not shown", text)
		}
	}
}

func TestBytesThatAreNoMessagesArePassedOnAtOnceAndUnchanged(t *testing.T) {
	s := newScene(t, sceneOptions{bodies: true})
	web, state := s.connect()
	for _, half := range []string{"\x16\x03\x01\x00", "\x00more\r\n\r\n", "GET a HTTP/1.1\r\n\r\n"} {
		web.say(half)
		state.hear(half) // before the next one is sent
	}
	state.say("hello, this is not HTTP\x07\n")
	web.hear("hello, this is not HTTP\x07\n")
	shown := s.shown()
	for _, want := range []string{"--> no message: 4 bytes", "16 03 01 00", "<-- no message: 25 bytes"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not shown in\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "\x07") {
		t.Error("a control character reached the terminal")
	}
	var raw string
	for _, e := range s.recorded() {
		if e.What == recording.Raw && e.From == recording.Client {
			raw += string(e.Body)
		}
	}
	if raw != "\x16\x03\x01\x00\x00more\r\n\r\nGET a HTTP/1.1\r\n\r\n" {
		t.Errorf("recorded %q", raw)
	}
}

func TestHalfAHeadIsPassedOnWithoutWaitingForTheRest(t *testing.T) {
	s := newScene(t, sceneOptions{})
	web, state := s.connect()
	web.say(get[:20])
	state.hear(get[:20])
	web.say(get[20:])
	state.hear(get[20:])
	if s.end(); !s.shows("--> GET LM/ROOT(h=)/abc") {
		t.Error("the request is not shown")
	}
}

func TestARequestWhoseBodyIsMissingIsShownBeforeItsAnswer(t *testing.T) {
	s := newScene(t, sceneOptions{})
	web, state := s.connect()
	ask := "GET " + target + " HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
	for range 2 {
		web.say(ask)
		state.hear(ask)
		state.say(locked)
		web.hear(locked)
	}
	var kinds []string
	for _, e := range s.recorded() {
		kinds = append(kinds, e.What)
	}
	want := []string{"connect", "request", "answer", "request", "answer"}
	if diff := cmp.Diff(want, kinds[:5]); diff != "" {
		t.Error(diff)
	}
}

func TestPipelinedRequestsAreMatchedWithTheirAnswers(t *testing.T) {
	s := newScene(t, sceneOptions{})
	web, state := s.connect()
	all := "HEAD a HTTP/1.1\r\n\r\nGET b HTTP/1.1\r\nExclusive: acquire\r\n\r\nPUT c HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
	web.say(all)
	state.hear(all)
	answers := "200 OK\r\nContent-Length: 8\r\n\r\n" + found + "404 Not Found\r\nContent-Length: 0\r\n\r\n"
	state.say(answers)
	web.hear(answers)
	shown := s.shown()
	for _, want := range []string{"200 OK to HEAD, D a\n", "200 OK to GET (acquire), D b\n", "404 Not Found to PUT, D c\n"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not shown in\n%s", want, shown)
		}
	}
}

func TestAPutThatIsRefusedBeforeItsEndIsShownAndRecordedFirst(t *testing.T) {
	s := newScene(t, sceneOptions{bodies: true})
	web, state := s.connect()
	web.say("PUT a HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
	state.hear("PUT a HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
	state.say("400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	web.hear("400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	web.say("defghij" + get)
	state.hear("defghij" + get)
	events := s.recorded()
	if e := events[1]; e.What != recording.Request || !e.Unfinished || string(e.Body) != "abc" {
		t.Errorf("recorded %+v", e)
	}
	if e := events[2]; e.What != recording.Answer {
		t.Errorf("recorded %+v", e)
	}
	if e := events[3]; e.What != recording.Request || e.Head != get || e.Length != 0 {
		t.Errorf("recorded %+v", e)
	}
}

func TestTheEndOfEitherSideIsPassedOnAndTheOtherGoesOn(t *testing.T) {
	for _, webFirst := range []bool{true, false} {
		s := newScene(t, sceneOptions{})
		first, second := s.connect()
		if !webFirst {
			first, second = second, first
		}
		first.say(get)
		second.hear(get)
		if err := first.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		second.hearEnd()
		second.say(locked)
		first.hear(locked)
		if err := second.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		first.hearEnd()
		s.end()
	}
}

func TestAResetOfEitherSideIsPassedOn(t *testing.T) {
	for _, webFirst := range []bool{true, false} {
		s := newScene(t, sceneOptions{})
		first, second := s.connect()
		side := recording.Client
		if !webFirst {
			first, second, side = second, first, recording.Server
		}
		first.say(get)
		second.hear(get)
		if err := first.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("the other side got %v", err)
		}
		waitFor(t, s, "has broken")
		events := s.recorded()
		if e := events[len(events)-1]; e.What != recording.End || e.From != side || !e.Reset {
			t.Errorf("recorded %+v", e)
		}
	}
}

// isReset tells a connection that the other side has reset. Windows has a number of its own for it.
func isReset(err error) bool {
	const wsaeConnReset = syscall.Errno(10054)
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, wsaeConnReset)
}

func TestWithoutAStateServerTheWebServersConnectionIsReset(t *testing.T) {
	s := newScene(t, sceneOptions{noServer: true})
	if web, err := net.Dial("tcp", s.addr); err == nil {
		defer web.Close()
		if err := web.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := web.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes", n)
		}
	} else if !isReset(err) { // which may come before the dialling is over
		t.Fatal(err)
	}
	waitFor(t, s, "cannot connect")
	if !strings.Contains(s.shown(), "cannot connect to the state server") {
		t.Error("nobody was told why")
	}
}

func TestASideThatDoesNotReadHoldsUpTheOther(t *testing.T) {
	s := newScene(t, sceneOptions{})
	web, state := s.connect()
	web.say("PUT a HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
	piece := bytes.Repeat([]byte{'x'}, 1<<20)
	sent, stuck := 0, false
	for sent < 500 && !stuck {
		if err := web.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := web.Write(piece)
		stuck = err != nil
		sent++
	}
	if !stuck {
		t.Errorf("the relay took %d MiB that nobody read", sent)
	}
	_ = state // it reads nothing
}

func TestTheEndOfTheRelayEndsItsConnections(t *testing.T) {
	s := newScene(t, sceneOptions{})
	web, state := s.connect()
	s.end()
	for _, e := range []end{web, state} {
		if _, err := e.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
	}
}

func TestHeadersAreDroppedAndSetOnTheWay(t *testing.T) {
	var edits Edits
	for _, err := range []error{edits.Drop("request/HOST"), edits.Set("answer/Timeout: 99"), edits.Set("X-Way:both")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := newScene(t, sceneOptions{edits: edits})
	web, state := s.connect()
	web.say(get[:30])
	web.say(get[30:])
	state.hear("GET " + target + " HTTP/1.1\r\nX-Way: both\r\n\r\n")
	state.say(found)
	web.hear("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTimeout: 99\r\nX-Way: both\r\n\r\nhello")
	web.say("PUT a HTTP/1.1\nContent-Length: 3\n\nabc\x01\x02 GET")
	state.hear("PUT a HTTP/1.1\nContent-Length: 3\nX-Way: both\n\nabc\x01\x02 GET")
	web.say("half a ")
	state.hear("half a ")
	events := s.recorded()
	if want := "GET " + target + " HTTP/1.1\r\nX-Way: both\r\n\r\n"; events[1].Head != want {
		t.Errorf("recorded %q; what the state server got was %q", events[1].Head, want)
	}
	if want := strings.TrimSuffix(found, "hello"); events[2].Head != want {
		t.Errorf("recorded %q; what the state server said was %q", events[2].Head, want)
	}
}

func TestWhatIsHeldBackForAChangeComesAtTheEnd(t *testing.T) {
	var edits Edits
	if err := edits.Drop("Host"); err != nil {
		t.Fatal(err)
	}
	s := newScene(t, sceneOptions{edits: edits})
	web, state := s.connect()
	web.say(get[:40])
	if err := web.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	state.hear(get[:40])
	state.hearEnd()
}

func TestWrongChangesAreRefused(t *testing.T) {
	var e Edits
	for _, name := range []string{"", "a b", "a:b", "request/", "other/Host", "Content-Length", "answer/transfer-encoding"} {
		if e.Drop(name) == nil {
			t.Errorf("dropping %q is no error", name)
		}
	}
	for _, header := range []string{"", "Host", ": x", "Host: a\nb", "content-length: 3"} {
		if e.Set(header) == nil {
			t.Errorf("setting %q is no error", header)
		}
	}
}

func TestBodiesAreDumpedAndRecordedInPieces(t *testing.T) {
	s := newScene(t, sceneOptions{raw: true, bodies: true})
	web, state := s.connect()
	body := strings.Repeat("0123456789abcdef", recording.PartSize/8)
	put := "PUT a HTTP/1.1\r\nContent-Length: 131072\r\n\r\n" + body
	said := make(chan error, 1)
	go func() {
		_, err := io.WriteString(web, put)
		said <- err
	}()
	state.hear(put)
	if err := <-said; err != nil {
		t.Fatal(err)
	}
	var got string
	for _, e := range s.recorded() {
		if e.What == recording.Part || e.What == recording.Request {
			got += string(e.Body)
		}
	}
	if got != body {
		t.Errorf("%d bytes were recorded of %d", len(got), len(body))
	}
	if shown := s.shown(); !strings.Contains(shown, "|0123456789abcdef|") || !strings.Contains(shown, "65536 bytes more") {
		t.Error("the body is not shown as it should be")
	}
}
