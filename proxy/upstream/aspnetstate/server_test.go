package aspnetstate

import (
	"bufio"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"peerstate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func started(t *testing.T) *Server {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// dialled is a connection that gives up after some seconds.
func dialled(t *testing.T, s *Server) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // all that matters was read
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return nc
}

const target = " %2fLM%2fW3SVC%2f1%2fROOT(kZ9d%3d)%2fmbkzjsnmvgpbxytfdrlwhq5e HTTP/1.1\r\nHost: localhost\r\n"

// The answers are those of [MS-ASP] and of Microsoft's reference source, to the byte: others are measured by this double.
func TestItAnswersAsMicrosoftsServiceDoes(t *testing.T) {
	s := started(t)
	nc := dialled(t, s)
	r := bufio.NewReader(nc)
	const from, to = "X-AspNet-Version: 4.0.30319\r\n", "Cache-Control: private\r\n"
	empty := func(status string) string { return status + "\r\n" + from + to + "Content-Length: 0\r\n\r\n" }
	for _, c := range []struct{ request, answer string }{
		{"GET" + target + "\r\n", empty("404 Not Found")},
		{"HEAD" + target + "\r\n", empty("404 Not Found")},
		{"PUT" + target + "Timeout:20\r\nExtraFlags:1\r\nContent-Length:3\r\n\r\nnew", empty("200 OK")},
		{"GET" + target + "Exclusive:acquire\r\n\r\n", "200 OK\r\n" + from + "ActionFlags: 1\r\nLockCookie: 2\r\nTimeout: 20\r\n" + to + "Content-Length: 3\r\n\r\nnew"},
		{"GET" + target + "Exclusive:acquire\r\n\r\n", "423 Locked\r\n" + from + "LockDate: TICKS\r\nLockAge: 0\r\nLockCookie: 2\r\n" + to + "Content-Length: 0\r\n\r\n"},
		{"GET" + target + "Exclusive:release\r\nLockCookie:7\r\n\r\n", "423 Locked\r\n" + from + "LockDate: TICKS\r\nLockAge: 0\r\nLockCookie: 2\r\n" + to + "Content-Length: 0\r\n\r\n"},
		{"PUT" + target + "Timeout:30\r\nLockCookie:2\r\nContent-Length:4\r\n\r\ncart", empty("200 OK")},
		{"GET" + target + "\r\n", "200 OK\r\n" + from + "Timeout: 30\r\n" + to + "Content-Length: 4\r\n\r\ncart"},
		{"HEAD" + target + "\r\n", empty("200 OK")},
		{"DELETE" + target + "\r\n", empty("200 OK")},
		{"GET" + target + "Exclusive:acquire\r\n\r\n", empty("404 Not Found")},
	} {
		if _, err := io.WriteString(nc, c.request); err != nil {
			t.Fatal(err)
		}
		if got := ticks.ReplaceAllString(answerFrom(t, r), "LockDate: TICKS"); got != c.answer {
			t.Errorf("%q is answered with\n%q, want\n%q", c.request, got, c.answer)
		}
	}
	if wrong := s.Wrong(); len(wrong) > 0 || s.Dialled() != 1 {
		t.Errorf("on %d connections it found wrong: %q", s.Dialled(), wrong)
	}
}

// ticks are of today, in .NET's count: 18 digits, of which the first two last until 2050.
var ticks = regexp.MustCompile(`LockDate: 6[34]\d{16}\b`)

// answerFrom reads one answer with its body.
func answerFrom(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var text strings.Builder
	tp := textproto.NewReader(bufio.NewReader(io.TeeReader(oneAtATime{r}, &text)))
	if _, err := tp.ReadLine(); err != nil {
		t.Fatal(err)
	}
	header, err := tp.ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	length := map[string]int64{"0": 0, "3": 3, "4": 4}[header.Get("Content-Length")]
	if _, err := io.CopyN(io.Discard, tp.R, length); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// oneAtATime gives single bytes, so that nothing is read that belongs to the next answer.
type oneAtATime struct{ r io.Reader }

func (o oneAtATime) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestItNotesWhatTheRealClientNeverSends(t *testing.T) {
	for request, note := range map[string]string{
		"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n":    "request line",
		"GET %2fa%zz HTTP/1.1\r\nHost: x\r\n\r\n":   "target",
		"HEAD %2fa HTTP/1.1\r\n\r\n":                "no Host",
		"HEAD" + target + "Accept: all\r\n\r\n":     `HEAD with "Accept: all"`,
		"HEAD" + target + "Host: again\r\n\r\n":     `HEAD with "Host: again"`,
		"DELETE" + target + "LockCookie:-1\r\n\r\n": `LockCookie: "-1"`,
		"PUT" + target + "Timeout:20\r\n\r\n":       "PUT without a right Content-Length",
		"HEAD %2fa HTTP/1.1\nHost: x\r\n\r\n":       "a line without CRLF",
	} {
		s := started(t)
		nc := dialled(t, s)
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Errorf("%q: %v", request, err)
		}
		if wrong := strings.Join(s.Wrong(), "\n"); !strings.Contains(wrong, note) {
			t.Errorf("of %q it notes %q, and not %q", request, wrong, note)
		}
	}
}

func TestAFateIsWhatBecomesOfARequest(t *testing.T) {
	key := store.Request{Op: store.Head, Key: []byte("LM/W3SVC/1/ROOT(kZ9d=)/mbkzjsnmvgpbxytfdrlwhq5e"), Cookie: store.NoCookie}
	for name, c := range map[string]struct {
		fate   Fate
		answer string
		there  store.Status
	}{
		"lost":     {Fate{Lost: true}, "", store.NotFound},
		"silent":   {Fate{Silent: true}, "", store.OK},
		"answered": {Fate{Answer: "what"}, "what", store.OK},
	} {
		t.Run(name, func(t *testing.T) {
			s := started(t)
			s.On(func(op store.Op) Fate {
				if op != store.Put {
					t.Errorf("the fate of op %v is asked for", op)
				}
				return c.fate
			})
			nc := dialled(t, s)
			if _, err := io.WriteString(nc, "PUT"+target+"Timeout:20\r\nContent-Length:4\r\n\r\ncart"); err != nil {
				t.Fatal(err)
			}
			if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(nc); err != nil || string(got) != c.answer {
				t.Errorf("it answers %q, %v", got, err)
			}
			if a := s.Do(key); a.Status != c.there {
				t.Errorf("afterwards the session is %v", a.Status)
			}
		})
	}
}
