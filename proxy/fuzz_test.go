package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"peerstate/store"
	"peerstate/store/model"
)

var (
	lockDate = regexp.MustCompile(`LockDate: \d+`)
	goOn     = []byte("HTTP/1.1 100 Continue\r\n\r\n")
)

// converse gives a server bytes in pieces of at most chunk, and returns what it answered without
// what depends on the time or on the pieces, and how many sessions it stored.
func converse(t *testing.T, in []byte, chunk int) (string, uint64) {
	st := store.New(store.Options{})
	defer st.Close()
	nc := &script{in: in, chunk: chunk}
	c := newConn(New(Config{Store: st, MaxBody: 4000}), nc)
	for requests := 0; c.exchange(); requests++ {
		if requests > len(in)/len("GET a HTTP/1.1\r\n\r\n") {
			t.Fatal("more answers than requests")
		}
	}
	out := bytes.ReplaceAll(nc.out.Bytes(), goOn, nil)
	out = lockDate.ReplaceAllFunc(out, func(b []byte) []byte { return bytes.Repeat([]byte{'0'}, len(b)) })
	return string(out), st.Stats().Total
}

// FuzzRequestReader sends arbitrary bytes. A server must come to an end with them, answer with nothing
// but whole answers of the protocol, and do the same in whatever pieces they arrive.
func FuzzRequestReader(f *testing.F) {
	for _, seed := range []string{
		get(), acquire("LockCookie: 3", "Lock-Cookie: x"), put("hello", "Timeout:20", "ExtraFlags:1"),
		put("hello") + acquire() + acquire() + get("Exclusive: release", "LockCookie: 2") + head("HEAD") + "\r\n",
		put("hello", "Expect: 100-continue") + "\r\n" + get(),
		head("POST", "Content-Length: 3") + "\r\nabc" + head("DELETE", "Connection: close") + "\r\n" + get(),
		head("PUT", "Content-Length: 3", "Content-Length: 3") + "\r\nabc",
		head("PUT", "Transfer-Encoding: chunked") + "\r\n0\r\n\r\n",
		put(strings.Repeat("x", 4001)), "GET / HTTP/1.1\r\n\r\n", "GET a HTTP/1.1\n\n", "\x16\x03\x01\x00\xff",
		"PRI * HTTP/2.0\r\n\r\n", "GET a%zz HTTP/1.1\r\n\r\n", head("GET", many("X: y", 65)...),
		head("GET", "User-Agent: Mozilla/5.0", "Sec-Fetch-Mode: cors") + "\r\n", strings.Repeat("a", maxBuf+1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, stored := converse(t, in, 0)
		for rest := out; rest != ""; {
			rest = cutAnswer(t, rest)
		}
		for _, chunk := range []int{1, 7} {
			out2, stored2 := converse(t, in, chunk)
			if out2 != out || stored2 != stored {
				t.Errorf("in pieces of %d answered\n%q\nand stored %d; whole answered\n%q\nand stored %d", chunk, out2, stored2, out, stored)
			}
		}
	})
}

// cutAnswer takes one answer off the front of what a server wrote.
func cutAnswer(t *testing.T, out string) (rest string) {
	head, rest, ok := strings.Cut(out, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	switch lines[0] {
	case "HTTP/1.1 200 OK", "HTTP/1.1 400 Bad Request", "HTTP/1.1 404 Not Found", "HTTP/1.1 423 Locked":
	default:
		ok = false
	}
	length, found := strings.CutPrefix(lines[len(lines)-1], "Content-Length: ")
	n, err := strconv.Atoi(length)
	if !ok || !found || err != nil || n > len(rest) {
		t.Fatalf("not an answer: %q", out)
	}
	return rest[n:]
}

// step is one request of a conversation as a fuzzer's bytes say it, or a pause.
type step struct {
	text  string
	r     store.Request
	bad   bool // 400 without asking the store
	pause time.Duration
}

// fuzzOps are the methods and Exclusive headers of a step's first byte.
var fuzzOps = []struct {
	op             store.Op
	method, header string
}{
	{store.Get, "GET", ""},
	{store.Acquire, "GET", "Exclusive: acquire\r\n"},
	{store.Release, "GET", "Exclusive: release\r\n"},
	{store.Put, "PUT", ""},
	{store.Delete, "DELETE", ""},
	{store.Head, "HEAD", ""},
}

// parseStep takes four bytes: what to do, with which session in which spelling, with which cookie,
// and a Put's timeout, flags and length. lock is the cookie of the last lock that was given.
func parseStep(b [4]byte, lock int32) step {
	if b[0]&7 >= 6 {
		return step{pause: time.Duration(b[3]) * time.Second}
	}
	op := fuzzOps[b[0]&7]
	k := "app(hash)/session" + string('0'+rune(b[1]&1))
	s := step{r: store.Request{Op: op.op, Key: []byte(k), Cookie: store.NoCookie, Timeout: store.DefaultTimeout}}
	spelling := []string{strings.ReplaceAll(k, "/", "%2F"), "%2f" + k, "/" + k, "//" + strings.ReplaceAll(k, "s", "%73")}[b[1]>>1&3]
	s.text = op.method + " " + spelling + " HTTP/1.1\r\n" + op.header
	name := []string{"LockCookie", "lock-cookie"}[b[2]>>7]
	switch c := b[2] & 7; c {
	case 0:
	case 1, 2:
		s.r.Cookie = store.BadCookie
		s.text += name + ": " + []string{"x", "-1"}[c-1] + "\r\n"
	case 3, 4:
		s.r.Cookie = int32(c)
		s.text += fmt.Sprintf("%s: %d\r\n", name, c)
	default:
		s.r.Cookie = lock
		s.text += fmt.Sprintf("%s:%d\r\n", name, lock)
	}
	if s.r.Op != store.Put {
		s.text += "\r\n"
		return s
	}
	switch c := b[3] & 7; c {
	case 0, 1:
	case 2, 3, 4:
		s.r.Timeout = int32(c - 2) // 0 is for ever
		s.text += fmt.Sprintf("Timeout:%d\r\n", c-2)
	case 5:
		s.bad = true
		s.text += "Timeout: 525601\r\n"
	case 6:
		s.r.Flags = store.FlagUninitialized
		s.text += "ExtraFlags: 1\r\n"
	case 7:
		s.r.Flags = -2
		s.text += "ExtraFlags: -2\r\n"
	}
	s.r.Body = bytes.Repeat([]byte{b[3]}, int(b[3]>>3)*int(b[3])*4)
	s.text += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(s.r.Body), s.r.Body)
	return s
}

// expect is what an answer must look like.
func expect(op store.Op, a store.Answer) reply {
	line := map[store.Status]string{store.OK: "200 OK", store.BadRequest: "400 Bad Request",
		store.NotFound: "404 Not Found", store.Locked: "423 Locked"}[a.Status]
	r := reply{line: "HTTP/1.1 " + line, header: map[string]string{"X-AspNet-Version": "4.0.30319",
		"Cache-Control": "private", "Content-Length": strconv.Itoa(len(a.Body))}, body: string(a.Body)}
	if a.Init {
		r.header["ActionFlags"] = "1"
	}
	if a.Status == store.Locked {
		r.header["LockAge"] = strconv.Itoa(int(a.LockAge / time.Second))
		r.header["LockDate"] = strconv.FormatInt(ticks(time.Now().Add(-a.LockAge)), 10)
	}
	if a.Status == store.Locked || a.Status == store.OK && op == store.Acquire {
		r.header["LockCookie"] = strconv.Itoa(int(a.Cookie))
	}
	if a.Status == store.OK && (op == store.Acquire || op == store.Get) {
		r.header["Timeout"] = strconv.Itoa(int(a.Timeout))
	}
	return r
}

// FuzzConversations holds a conversation, with pauses of up to four minutes, in virtual time, and
// compares each answer with what the model of the protocol says.
func FuzzConversations(f *testing.F) {
	f.Add([]byte{3, 0, 0, 60, 1, 0, 0, 0, 1, 2, 0, 0, 3, 4, 5, 99, 0, 6, 0, 0})   // put, acquire, locked, put, get
	f.Add([]byte{3, 0, 0, 6, 1, 0, 0, 0, 2, 0, 5, 0, 0, 0, 0, 0})                 // uninitialised, acquire, release, get
	f.Add([]byte{3, 0, 0, 3, 6, 0, 0, 59, 5, 0, 0, 0, 6, 0, 0, 60, 0, 0, 0, 0})   // expiry after a renewal
	f.Add([]byte{3, 0, 0, 4, 1, 0, 0, 0, 6, 0, 0, 119, 0, 0, 0, 0, 6, 0, 0, 120}) // a lock's age
	f.Add([]byte{3, 0, 1, 8, 3, 0, 1, 8, 3, 0, 0, 5, 4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 255, 0, 0, 0, 0})
	f.Add([]byte{3, 0, 0, 2, 1, 0, 0, 0, 2, 0, 3, 0, 2, 0, 133, 0, 4, 1, 0, 0, 3, 1, 4, 7, 3, 1, 0, 6})
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) {
			l := newPipes()
			serve(t, Config{}, l)
			c := l.dial(t)
			m, begun, lock := model.New(), time.Now(), int32(2)
			for ; len(script) >= 4; script = script[4:] {
				s := parseStep([4]byte(script), lock)
				if s.text == "" {
					time.Sleep(s.pause)
					closeQuietly(c.nc)
					c = l.dial(t) // as the real client does, before the server tires of it
					continue
				}
				want := store.Answer{Status: store.BadRequest}
				if !s.bad {
					want = m.Do(s.r, time.Since(begun))
				}
				if want.Status == store.OK && s.r.Op == store.Acquire {
					lock = want.Cookie
				}
				go func() {
					if _, err := io.WriteString(c.nc, s.text); err != nil && !errors.Is(err, io.ErrClosedPipe) {
						t.Error(err)
					}
				}()
				got, err := c.receive()
				if err != nil {
					t.Fatalf("%.200q: %v", s.text, err)
				}
				got.names = nil
				if diff := cmp.Diff(expect(s.r.Op, want), got, cmp.AllowUnexported(reply{})); diff != "" {
					t.Fatalf("%.200q:\n%s", s.text, diff)
				}
			}
		})
	})
}
