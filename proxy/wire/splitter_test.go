package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notes is a Sink that writes down what it gets. Pieces of one body, and of raw bytes, are put together.
type notes struct {
	said   []string
	open   string // the kind of what is being put together
	all    []byte // every byte in the order in which it came out
	noBody bool
}

func (n *notes) Head(h *Head) bool {
	n.all = append(n.all, h.Bytes...)
	n.open = ""
	n.said = append(n.said, fmt.Sprintf("head %s%d %s%s %d", h.Method, h.Status, h.Target, h.Reason, h.Length))
	return !n.noBody
}

func (n *notes) Body(p []byte) { n.more("body ", p) }
func (n *notes) Raw(p []byte)  { n.more("raw ", p) }

func (n *notes) more(kind string, p []byte) {
	n.all = append(n.all, p...)
	if n.open != kind {
		n.said, n.open = append(n.said, kind), kind
	}
	n.said[len(n.said)-1] += string(p)
}

func (n *notes) End() { n.said, n.open = append(n.said, "end"), "" }

// split feeds a splitter in pieces of at most n bytes.
func split(s *Splitter, to *notes, in string, n int) {
	for rest := []byte(in); len(rest) > 0; {
		piece := rest[:min(n, len(rest))]
		s.Feed(append([]byte(nil), piece...), to)
		rest = rest[len(piece):]
	}
	s.Finish(to)
}

func TestMessagesAreToldApartInWhateverPiecesTheyCome(t *testing.T) {
	for _, c := range []struct {
		name, in string
		answers  bool
		noBody   bool
		want     []string
	}{
		{name: "requests behind each other", in: "GET %2fa HTTP/1.1\r\nHost: x\r\n\r\nPUT /b HTTP/1.1\r\nContent-Length:3\r\n\r\nabcHEAD c HTTP/1.1\r\n\r\n",
			want: []string{"head GET0 %2fa -1", "end", "head PUT0 /b 3", "body abc", "end", "head HEAD0 c -1", "end"}},
		{name: "lines that end with LF", in: "GET a HTTP/1.1\nX: y\n\n", want: []string{"head GET0 a -1", "end"}},
		{name: "empty lines in front", in: "\r\n\r\nGET a HTTP/1.1\r\n\r\n", want: []string{"head GET0 a -1", "end"}},
		{name: "a GET whose body is missing", in: "GET a HTTP/1.1\r\nContent-Length: 30\r\n\r\nDELETE b HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET c HTTP/1.1\r\n\r\n",
			want: []string{"head GET0 a 30", "end", "head DELETE0 b 30", "end", "head GET0 c -1", "end"}},
		{name: "a GET with a body", in: "GET a HTTP/1.1\r\nContent-Length: 5\r\n\r\nGETUPGET b HTTP/1.1\r\n\r\n",
			want: []string{"head GET0 a 5", "body GETUP", "end", "head GET0 b -1", "end"}},
		{name: "a GET with a body like the beginning of a request", in: "GET a HTTP/1.1\r\nContent-Length: 2\r\n\r\nGEGET b HTTP/1.1\r\n\r\n",
			want: []string{"head GET0 a 2", "body GE", "end", "head GET0 b -1", "end"}},
		{name: "a GET whose body is missing, at the end", in: "GET a HTTP/1.1\r\nContent-Length: 5\r\n\r\n", want: []string{"head GET0 a 5", "end"}},
		{name: "a PUT that is cut off", in: "PUT a HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", want: []string{"head PUT0 a 5", "body ab"}},
		{name: "a head that is cut off", in: "GET a HTTP/1.1\r\nHost", want: []string{"raw GET a HTTP/1.1\r\nHost"}},
		{name: "no length that can be read", in: "PUT a HTTP/1.1\r\nContent-Length: x\r\n\r\n", want: []string{"head PUT0 a -1", "end"}},
		{name: "TLS", in: "\x16\x03\x01abc\r\n\r\nGET a HTTP/1.1\r\n\r\n", want: []string{"raw \x16\x03\x01abc\r\n\r\nGET a HTTP/1.1\r\n\r\n"}},
		{name: "something else", in: "hello\r\n\r\n", want: []string{"raw hello\r\n\r\n"}},
		{name: "both forms of the status line", answers: true, in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab423 Locked\r\nContent-Length: 0\r\n\r\n",
			want: []string{"head 200 OK 2", "body ab", "end", "head 423 Locked 0", "end"}},
		{name: "an answer without length", answers: true, in: "200 OK\r\n\r\nabc", want: []string{"head 200 OK -1", "body abc", "end"}},
		{name: "an interim answer", answers: true, in: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
			want: []string{"head 100 Continue -1", "end", "head 404 Not Found 0", "end"}},
		{name: "answers to HEAD", answers: true, noBody: true, in: "200 OK\r\nContent-Length: 7\r\n\r\n404 Not Found\r\n\r\n",
			want: []string{"head 200 OK 7", "end", "head 404 Not Found -1", "end"}},
		{name: "no status", answers: true, in: "HTTP/1.1 2000 OK\r\n\r\n", want: []string{"raw HTTP/1.1 2000 OK\r\n\r\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{1, 2, 3, 7, len(c.in)} {
				got := &notes{noBody: c.noBody}
				split(&Splitter{Answers: c.answers}, got, c.in, n)
				if diff := cmp.Diff(c.want, got.said); diff != "" {
					t.Errorf("in pieces of %d (-want +got):\n%s", n, diff)
				}
			}
		})
	}
}

func TestAnAnswerEndsARequestWhoseBodyIsMissing(t *testing.T) {
	var s Splitter
	got := &notes{}
	s.Feed([]byte("GET a HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), got)
	if !s.Unfinished() {
		t.Error("the body may come")
	}
	s.Answered(got)
	s.Feed([]byte("GET b HTTP/1.1\r\n\r\n"), got)
	want := []string{"head GET0 a 5", "end", "head GET0 b -1", "end"}
	if diff := cmp.Diff(want, got.said); diff != "" {
		t.Error(diff)
	}
}

func TestWhatBecomesNoHeadIsNotKept(t *testing.T) {
	for _, endless := range []string{strings.Repeat("a", 100), "GET a HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 20), "\r\n"} {
		var s Splitter
		got := &notes{}
		fed := 0
		for ; len(got.all) == 0 && fed < 1<<20; fed += len(endless) {
			s.Feed([]byte(endless), got)
		}
		if kept := fed - len(got.all); kept > maxHead+len(endless) || len(s.head) > 0 || len(got.all) == 0 {
			t.Errorf("%.20q: of %d bytes %d came out", endless, fed, len(got.all))
		}
	}
}

func TestAHeadGivesItsHeaders(t *testing.T) {
	h, ok := NewHead([]byte("HTTP/1.1 423 Locked\r\nLockCookie:7\r\nLOCKAGE :  12 \r\nnonsense\r\nlockcookie: 8\r\n\r\n"), true)
	if !ok || string(h.StartLine()) != "HTTP/1.1 423 Locked" {
		t.Fatalf("%+v", h)
	}
	if n, ok := h.Number("LockCookie"); n != 8 || !ok {
		t.Errorf("of two the last counts, not %d", n)
	}
	if n, ok := h.Number("LockAge"); n != 12 || !ok {
		t.Errorf("LockAge %d", n)
	}
	if _, ok := h.Number("Timeout"); ok {
		t.Error("there is no Timeout")
	}
	var names []string
	for name := range h.Headers() {
		names = append(names, string(name))
	}
	if diff := cmp.Diff([]string{"LockCookie", "LOCKAGE", "", "lockcookie"}, names); diff != "" {
		t.Error(diff)
	}
}

// FuzzSplitter: whatever comes, every byte comes out once and in order, and what is found does not depend on the pieces.
func FuzzSplitter(f *testing.F) {
	for _, seed := range []string{"GET a HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET b HTTP/1.1\r\n\r\n", "PUT a HTTP/1.1\r\nContent-Length: 2\r\n\r\nabPUT",
		"200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 423 Locked\r\nLockCookie: 3\r\n\r\nx", "\x16\x03\x01", "\n\nHEAD a\n\n", "HTTP/1.1 100 Continue\r\n\r\n"} {
		f.Add([]byte(seed), false, false)
		f.Add([]byte(seed), true, false)
		f.Add([]byte(seed), true, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, answers, noBody bool) {
		whole := &notes{noBody: noBody}
		split(&Splitter{Answers: answers}, whole, string(in), len(in)+1)
		if string(whole.all) != string(in) {
			t.Errorf("%q went in, %q came out", in, whole.all)
		}
		for _, n := range []int{1, 3} {
			got := &notes{noBody: noBody}
			split(&Splitter{Answers: answers}, got, string(in), n)
			if diff := cmp.Diff(whole.said, got.said); diff != "" {
				t.Errorf("in pieces of %d (-whole +pieces):\n%s", n, diff)
			}
		}
	})
}
