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
	// Counted are bytes of Body that the Room counts, until who has the answer gives them back. What came together with its head is not
	// among them.
	Counted int64
}

// Room is the memory for bodies that are being received.
type Room interface {
	// Reserve counts so many bytes until GiveBack. It may wait for room; false: there is none, or ctx has ended.
	Reserve(ctx context.Context, n int64) bool
	GiveBack(n int64)
}

// ErrStrange says that what a server sent is not an answer of the state protocol.
var ErrStrange = errors.New("that is no answer of a state server")

// ErrTooLarge says that an answer's body is larger than the connection takes.
var ErrTooLarge = errors.New("the answer is too large")

// ErrNoRoom says that there is no memory for an answer's body.
var ErrNoRoom = errors.New("no memory for the answer")

// Conn is a client's connection to a state server. One goroutine at a time may use it. After an error it is of no use any
// more, and whether the request was carried out is not known.
type Conn struct {
	nc      net.Conn
	maxBody int64
	room    Room // nil: nobody counts
	buf     []byte
}

// NewConn makes a Conn of a connection, which it closes in Close. Of an answer it takes at most maxBody bytes of body, as
// far as there is room for them; nil: nobody counts.
func NewConn(nc net.Conn, maxBody int64, room Room) *Conn {
	return &Conn{nc: nc, maxBody: maxBody, room: room, buf: make([]byte, 8<<10)}
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
// says: that of a HEAD. The memory for an answer grows as its bytes come. ctx limits the time. With ErrNoRoom and ErrTooLarge the
// answer is there without its body.
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
	r.reserve = func(n int64) bool { return c.room == nil || c.room.Reserve(ctx, n) }
	if err := c.receive(ctx, r); err != nil {
		if c.room != nil {
			c.room.GiveBack(r.counted)
		}
		r.answer.Body = nil
		if errors.Is(err, ErrNoRoom) || errors.Is(err, ErrTooLarge) {
			return &r.answer, err
		}
		return nil, err
	}
	if c.room != nil {
		r.answer.Counted = r.counted
	}
	return &r.answer, nil
}

// receive reads an answer.
func (c *Conn) receive(ctx context.Context, r *answerReader) error {
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
			return fmt.Errorf("no whole answer: %w", err)
		}
	}
	return r.err
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
	reserve func(n int64) bool
	counted int64 // by it
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
	if r.err != nil || !r.grow(int64(len(p))) {
		r.fail(ErrNoRoom)
		return
	}
	r.answer.Body = append(r.answer.Body, p...)
}

// grow makes room for n bytes more of the body, and for as many as there are then, but for no more than it has.
func (r *answerReader) grow(n int64) bool {
	have, all := int64(len(r.answer.Body)), r.answer.Length
	switch {
	case have+n <= int64(cap(r.answer.Body)):
		return true
	case have == 0 && n == all:
		r.answer.Body = make([]byte, 0, n)
		return true
	}
	most := min(max(2*have, have+n), all)
	if !r.reserve(most - r.counted) {
		return false
	}
	r.counted = most
	larger := make([]byte, have, most)
	copy(larger, r.answer.Body)
	r.answer.Body = larger
	return true
}

func (r *answerReader) End() { r.done = !r.interim }

func (r *answerReader) Raw([]byte) { r.fail(ErrStrange) }

func (r *answerReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
