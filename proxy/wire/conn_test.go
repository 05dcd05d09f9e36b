package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// socket is a pipe that takes deadlines, as a socket does, when the other side has closed.
type socket struct{ net.Conn }

func (s socket) SetDeadline(t time.Time) error {
	if err := s.Conn.SetDeadline(t); !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil
}

// answering makes a Conn to a server that reads a request and says text, in one piece or byte by byte, and then closes.
func answering(t *testing.T, text string, piece int) *Conn {
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	go func() {
		defer server.Close()
		if _, err := server.Read(make([]byte, 100)); err != nil {
			return
		}
		for rest := text; rest != ""; {
			n := min(piece, len(rest))
			if _, err := io.WriteString(server, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	return NewConn(socket{client}, 100, nil)
}

func TestAnAnswerIsRead(t *testing.T) {
	const text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nLockCookie: 3\r\nContent-Length: 5\r\n\r\nhello"
	for _, piece := range []int{1, 7, 1000} {
		a, err := answering(t, text, piece).Exchange(t.Context(), false, []byte("GET a HTTP/1.1\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := a.Number("LockCookie"); a.Status != 200 || string(a.Body) != "hello" || n != 3 {
			t.Errorf("read %+v", a)
		}
	}
	a, err := answering(t, "404 Not Found\r\nContent-Length: 9\r\n\r\n", 1000).Exchange(t.Context(), true, []byte("HEAD a HTTP/1.1\r\n\r\n"))
	if err != nil || a.Status != 404 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestWhatIsNoWholeAnswerIsAnError(t *testing.T) {
	for text, want := range map[string]error{
		"":                                      io.EOF,
		"HTTP/1.1 200 OK\r\nContent-":           io.EOF,
		"200 OK\r\nContent-Length: 5\r\n\r\nab": io.EOF,
		"220 smtp.example.com\r\n\r\n":          ErrStrange,
		"hello\r\n\r\n":                         ErrStrange,
		"200 OK\r\nContent-Length: 101\r\n\r\n" + strings.Repeat("x", 101):       ErrTooLarge,
		"200 OK\r\nContent-Length: 0\r\n\r\n200 OK\r\nContent-Length: 0\r\n\r\n": ErrStrange,
	} {
		if a, err := answering(t, text, 1000).Exchange(t.Context(), false, []byte("GET a HTTP/1.1\r\n\r\n")); !errors.Is(err, want) {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	}
}

// Whoever asked for a lock has to know it, so that he can end it.
func TestOfAnAnswerThatIsTooLargeThereIsTheHead(t *testing.T) {
	a, err := answering(t, "200 OK\r\nLockCookie: 3\r\nContent-Length: 101\r\n\r\n"+strings.Repeat("x", 101), 1000).
		Exchange(t.Context(), false, []byte("GET a HTTP/1.1\r\n\r\n"))
	if !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if n, _ := a.Number("LockCookie"); n != 3 || a.Status != 200 || a.Length != 101 || a.Body != nil || a.Counted != 0 {
		t.Errorf("%+v", a)
	}
}

// shelf is room for so many bytes.
type shelf struct{ most, used, peak int64 }

func (s *shelf) Reserve(_ context.Context, n int64) bool {
	if s.used+n > s.most {
		return false
	}
	s.used += n
	s.peak = max(s.peak, s.used)
	return true
}

func (s *shelf) GiveBack(n int64) { s.used -= n }

func TestAnAnswerIsCountedAsItArrives(t *testing.T) {
	const head, length = "200 OK\r\nLockCookie: 3\r\nContent-Length: 90000\r\n\r\n", 90000
	for _, tt := range []struct {
		room        int64
		sent        int
		want        error
		least, most int64 // counted at a time
	}{
		{room: length, sent: length, least: length, most: length},
		{room: 1 << 20, sent: length, least: length, most: length},
		{room: length - 1, sent: length, want: ErrNoRoom, least: 1, most: length - 1},
		{room: 0, sent: length, want: ErrNoRoom},
		{room: 1 << 20, sent: 1000, want: io.EOF, least: 1000, most: 2000}, // however much it says that there will be
		{room: 1 << 20, sent: 30000, want: io.EOF, least: 30000, most: 60000},
		{room: 1 << 20, sent: 0, want: io.EOF},
	} {
		for _, piece := range []int{100, 5000, 8192, 1 << 20} {
			c, room := answering(t, head+strings.Repeat("x", tt.sent), piece), &shelf{most: tt.room}
			c.maxBody, c.room = 1<<20, room
			a, err := c.Exchange(t.Context(), false, []byte("GET a HTTP/1.1\r\n\r\n"))
			if !errors.Is(err, tt.want) || room.peak < tt.least || room.peak > tt.most {
				t.Errorf("%+v by %d: %v, up to %d bytes were counted", tt, piece, err, room.peak)
			}
			switch {
			case err == nil:
				if len(a.Body) != length || cap(a.Body) != length || a.Counted != length || room.used != length {
					t.Errorf("%+v by %d: %d bytes in %d, %d counted, of %d", tt, piece, len(a.Body), cap(a.Body), a.Counted, room.used)
				}
			case tt.want == ErrNoRoom:
				if n, _ := a.Number("LockCookie"); n != 3 || a.Length != length || a.Body != nil || a.Counted != 0 {
					t.Errorf("%+v by %d: %+v", tt, piece, a)
				}
				fallthrough
			default:
				if room.used != 0 {
					t.Errorf("%+v by %d: %d bytes stay counted", tt, piece, room.used)
				}
			}
		}
	}
}

// It is there already, and what it takes in the end is counted by who keeps it.
func TestAnAnswerThatComesInOnePieceNeedsNoRoom(t *testing.T) {
	c := answering(t, "200 OK\r\nContent-Length: 5\r\n\r\nhello", 1000)
	c.room = &shelf{}
	if a, err := c.Exchange(t.Context(), false, []byte("GET a HTTP/1.1\r\n\r\n")); err != nil || string(a.Body) != "hello" || a.Counted != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestASilentServerIsNotWaitedForLongerThanTheContextSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		go func() { _, _ = io.Copy(io.Discard, server) }() // until the end of the test
		c := NewConn(client, 100, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		if _, err := c.Exchange(ctx, false, []byte("GET a HTTP/1.1\r\n\r\n")); err == nil {
			t.Error("there was no answer")
		}
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("waited %v", took)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
