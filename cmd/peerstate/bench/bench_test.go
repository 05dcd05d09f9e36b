package bench

import (
	"bytes"
	"context"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// runFor drives the servers until they saw enough requests, as the speed of the machine must not matter.
func runFor(t *testing.T, c Config) Result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Duration = time.Minute
	c.Retry = time.Millisecond
	if c.Size == 0 {
		c.Size = 100
	}
	if c.Connections == 0 {
		c.Connections = 2
	}
	if c.Sessions == 0 {
		c.Sessions = 2
	}
	c.Progress = func(_ time.Duration, cycles, _ int64) {
		if cycles >= 50 {
			cancel()
		}
	}
	r, err := Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sometimes is true at every nth call.
func sometimes(n int64) func() bool {
	var calls atomic.Int64
	return func() bool { return calls.Add(1)%n == 0 }
}

func TestAServerThatIsRightMakesNoErrors(t *testing.T) {
	f := newFake(nil)
	r := runFor(t, Config{To: []string{f.start(t)}})
	if r.Errors != 0 || r.Undeleted != 0 || r.Cycles < 50 || r.CyclesPerSecond <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 {
		t.Errorf("got %+v", r)
	}
	if f.left() != 0 {
		t.Errorf("%d sessions were left behind", f.left())
	}
	if r.Connections != 2 || r.Sessions != 4 {
		t.Errorf("%d connections with %d sessions, want 2 with 4", r.Connections, r.Sessions)
	}
}

func TestTheRequestsAreThoseOfTheRealClient(t *testing.T) {
	f := newFake(nil)
	runFor(t, Config{To: []string{f.start(t)}, Connections: 1, Sessions: 1, Size: 77})
	const target = `%2fLM%2fW3SVC%2f1%2fROOT%2fpeerstate-bench\(\S{43,70}%3d\)%2f[a-z0-5]{24} HTTP/1\.1\r\nHost: localhost\r\n`
	for i, want := range []string{
		`^PUT ` + target + `Timeout:20\r\nContent-Length:77\r\nExtraFlags:0\r\n\r\n$`,
		`^GET ` + target + `Exclusive: acquire\r\n\r\n$`,
		`^PUT ` + target + `Timeout:20\r\nContent-Length:77\r\nExtraFlags:0\r\nLockCookie:2\r\n\r\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(f.requests[i]) {
			t.Errorf("request %d is %q, want %s", i, f.requests[i], want)
		}
	}
}

func TestWithSeveralServersEachSessionVisitsEveryOneInTurn(t *testing.T) {
	// Three doors of one house: the sessions are shared, the visits are counted at each door.
	f := newFake(nil)
	var visits [3]atomic.Int64
	var doors []string
	for i := range visits {
		doors = append(doors, f.door(t, &visits[i]))
	}
	r := runFor(t, Config{To: doors, Connections: 2, Sessions: 3})
	if r.Errors != 0 {
		t.Errorf("errors: %+v", r.ErrorsByKind)
	}
	for i := range visits {
		if n := visits[i].Load(); n != 2 { // a connection of each worker
			t.Errorf("door %d was used by %d connections, want 2", i, n)
		}
	}
}

func TestAServerThatDoesNotShareIsFoundOut(t *testing.T) {
	a, b := newFake(nil), newFake(nil)
	r := runFor(t, Config{To: []string{a.start(t), b.start(t)}})
	if r.ErrorsByKind.Missing == 0 || r.ErrorsByKind.Wrong == 0 {
		t.Errorf("two servers that know nothing of each other pass: %+v", r.ErrorsByKind)
	}
}

func TestEveryFaultOfAServerIsCountedByItsKind(t *testing.T) {
	now := sometimes(10)
	for _, c := range []struct {
		name  string
		spoil func(*fakeRequest)
		kind  func(Errors) int64
	}{
		{"a lost write", func(a *fakeRequest) {
			if a.op == "acquire" && a.status == 200 && now() {
				copy(a.body, "0000000000000000")
			}
		}, func(e Errors) int64 { return e.Wrong }},
		{"somebody else's contents", func(a *fakeRequest) {
			if a.op == "acquire" && a.status == 200 && now() {
				a.body[counterDigits] = '!'
			}
		}, func(e Errors) int64 { return e.Wrong }},
		{"contents cut short", func(a *fakeRequest) {
			if a.op == "acquire" && a.status == 200 && now() {
				a.body = a.body[:10]
			}
		}, func(e Errors) int64 { return e.Wrong }},
		{"locked without need", func(a *fakeRequest) {
			if a.op == "put" && now() {
				a.status = 423
			}
		}, func(e Errors) int64 { return e.Locked }},
		{"connection closed at an acquire", func(a *fakeRequest) {
			a.hangUp = a.op == "acquire" && now()
		}, func(e Errors) int64 { return e.Closed }},
		{"connection closed at a put", func(a *fakeRequest) {
			a.hangUp = a.op == "put" && a.status == 200 && now()
		}, func(e Errors) int64 { return e.Closed }},
		{"a status that does not exist", func(a *fakeRequest) {
			if a.op == "put" && now() {
				a.status = 500
			}
		}, func(e Errors) int64 { return e.Refused }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var on atomic.Bool
			f := newFake(func(a *fakeRequest) {
				if a.op == "acquire" {
					on.Store(true) // the creation is spared
				}
				if on.Load() {
					c.spoil(a)
				}
			})
			r := runFor(t, Config{To: []string{f.start(t)}, Connections: 1, Sessions: 3})
			if n := c.kind(r.ErrorsByKind); n == 0 {
				t.Errorf("not counted: %+v", r.ErrorsByKind)
			}
			if e := r.ErrorsByKind; e.Locked+e.Closed+e.Timeout+e.Wrong+e.Missing+e.Refused != r.Errors {
				t.Errorf("%+v does not add up to %d", e, r.Errors)
			}
			if r.Undeleted != 0 || f.left() != 0 {
				t.Errorf("%d sessions undeleted, %d left", r.Undeleted, f.left())
			}
		})
	}
}

func TestAConnectionLostAtAPutMakesNoWrongValueWhetherItWasStoredOrNot(t *testing.T) {
	now := sometimes(7)
	f := newFake(func(a *fakeRequest) { a.hangUp = a.op == "put" && now() })
	// The creation needs three puts, and must not be what is hung up on.
	r := runFor(t, Config{To: []string{f.start(t)}, Connections: 1, Sessions: 3})
	if r.ErrorsByKind.Closed == 0 || r.ErrorsByKind.Wrong != 0 {
		t.Errorf("got %+v, want closed connections and no wrong value", r.ErrorsByKind)
	}
}

func TestAServerThatIsNotThereOrSpeaksSomethingElseIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	c := Config{To: []string{addr}, Connections: 3, Sessions: 1, Size: 100, Duration: time.Minute, Retry: time.Second}
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("nobody there: %v", err)
	}
	f := newFake(func(a *fakeRequest) { a.status = 400 })
	c.To = []string{f.start(t)}
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "answers 400") {
		t.Errorf("a server that refuses: %v", err)
	}
}

func TestAnswersInBothFormsOfTheStatusLineAreRead(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 12\r\nTimeout: 20\r\nContent-Length: 3\r\n\r\nabc",
		"200 OK\r\nlockcookie:12\r\ncontent-length:3\r\n\r\nabc",
	} {
		c := connReading(text)
		a, err := c.read()
		if err != nil || a.status != 200 || a.cookie != 12 || string(a.body) != "abc" {
			t.Errorf("%q is read as %+v, %v", text, a, err)
		}
	}
	for _, text := range []string{
		"", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
		"200 OK\r\nLockCookie: x\r\nContent-Length: 0\r\n\r\n", strings.Repeat("x", 9000) + "\r\n",
	} {
		if a, err := connReading(text).read(); err == nil {
			t.Errorf("%.40q is read as %+v", text, a)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 423 Locked\r\nLockDate: 1\r\nLockAge: 2\r\nLockCookie: 3\r\nContent-Length: 0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte("000000")) {
			t.Skip("a length of many megabytes is allowed, and slow")
		}
		a, err := connReading(string(text)).read()
		if err == nil && (a.status < 100 || a.status > 999 || a.cookie < 0) {
			t.Errorf("%q is read as %+v", text, a)
		}
	})
}

func TestTheResultNamesWhatWentWrong(t *testing.T) {
	got := Result{Cycles: 10, Seconds: 2, CyclesPerSecond: 5, Errors: 3, ErrorsByKind: Errors{Wrong: 1, Locked: 2}, Undeleted: 4}.String()
	for _, want := range []string{"10 cycles in 2.0 s: 5 cycles/s", "errors   3", "1 wrong values", "2 locked (423)", "4 sessions could not"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "404") {
		t.Errorf("kinds that did not occur are shown:\n%s", got)
	}
}
