package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Answer is a whole answer.
type Answer struct {
	Head        // it stays valid
	Body []byte // nobody else has it
}

// ErrStrange says that what a server sent is not an answer of the state protocol.
var ErrStrange = errors.New("that is no answer of a state server")

// ErrTooLarge says that an answer's body is larger than the connection takes.
var ErrTooLarge = errors.New("the answer is too large")

// Conn is a client's connection to a state server. One goroutine at a time may use it. After an error it is of no use any
// more, and whether the request was carried out is not known.
type Conn struct {
	nc      net.Conn
	maxBody int64
	buf     []byte
}

// NewConn makes a Conn of a connection, which it closes in Close. Of an answer it takes at most maxBody bytes of body.
func NewConn(nc net.Conn, maxBody int64) *Conn {
	return &Conn{nc: nc, maxBody: maxBody, buf: make([]byte, 8<<10)}
}

// Close ends the connection.
func (c *Conn) Close() error { return c.nc.Close() }

// Send sends a request, given in pieces, and reads nothing. ctx limits the time.
func (c *Conn) Send(ctx context.Context, request ...[]byte) error {
	stop, err := c.limit(ctx)
	if err != nil {
		return err
	}
	defer stop()
	pieces := net.Buffers(request)
	_, err = pieces.WriteTo(c.nc)
	return err
}

// Exchange sends a request, given in pieces, and reads its answer. noBody says that it has no body, whatever its head
// says: that of a HEAD. The memory for an answer grows as its bytes come. ctx limits the time.
func (c *Conn) Exchange(ctx context.Context, noBody bool, request ...[]byte) (*Answer, error) {
	if err := c.Send(ctx, request...); err != nil {
		return nil, err
	}
	stop, err := c.limit(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	r := &answerReader{noBody: noBody, maxBody: c.maxBody}
	split := Splitter{Answers: true}
	for !r.done && r.err == nil {
		n, err := c.nc.Read(c.buf)
		split.Feed(c.buf[:n], r)
		if err != nil && !r.done && r.err == nil {
			if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) { // which may be a moment before
				err = context.DeadlineExceeded
				if ctx.Err() != nil {
					err = ctx.Err()
				}
			}
			return nil, fmt.Errorf("no whole answer: %w", err)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return &r.answer, nil
}

// limit has reads and writes end with ctx, until stop is called.
func (c *Conn) limit(ctx context.Context) (stop func() bool, err error) {
	deadline, _ := ctx.Deadline() // none: no limit
	if err := c.nc.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return context.AfterFunc(ctx, func() {
		// A connection that is closed needs no interruption.
		_ = c.nc.SetDeadline(time.Unix(1, 0))
	}), nil
}

// answerReader is the Sink that puts one answer together.
type answerReader struct {
	noBody  bool
	maxBody int64
	answer  Answer
	interim bool // the head was that of a 1xx
	done    bool
	err     error
}

func (r *answerReader) Head(h *Head) bool {
	if r.done || h.Length < 0 && h.Status >= 200 && !r.noBody {
		// More than was asked for, or of unknown length: nothing on this connection can be relied on.
		r.fail(ErrStrange)
		return false
	}
	if h.Length > r.maxBody && !r.noBody {
		r.fail(ErrTooLarge)
	}
	r.interim = h.Status < 200
	r.answer.Head, _ = NewHead(append([]byte(nil), h.Bytes...), true) // it has just been read as one
	return !r.noBody
}

func (r *answerReader) Body(p []byte) {
	if r.err == nil {
		r.answer.Body = append(r.answer.Body, p...)
	}
}

func (r *answerReader) End() { r.done = !r.interim }

func (r *answerReader) Raw([]byte) { r.fail(ErrStrange) }

func (r *answerReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
