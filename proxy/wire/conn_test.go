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
	return NewConn(client, 100)
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

func TestASilentServerIsNotWaitedForLongerThanTheContextSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		go func() { _, _ = io.Copy(io.Discard, server) }() // until the end of the test
		c := NewConn(client, 100)
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
