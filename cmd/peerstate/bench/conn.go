package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is a connection to one server, made when it is first used and again after it broke. It is
// used by one goroutine, and allocates nothing for a request.
type conn struct {
	addr    string
	nc      net.Conn // nil: not connected
	r       *bufio.Reader
	body    []byte // of the last answer
	lastUse time.Time
	unwatch func() bool // ends the watch for the end of the run
}

// idleLimit is after how long without use a connection is replaced: servers close idle ones, and a client
// cannot tell an idle close from a broken answer. ASP.NET does it after 5 to 10 s.
const idleLimit = 5 * time.Second

// maxAnswer limits a body that a server announces.
const maxAnswer = 256 << 20

// answer is what the bench needs to know of an answer.
type answer struct {
	status int
	cookie int32  // LockCookie; 0: none
	body   []byte // valid until the next request on the connection
}

// do sends a request and reads its answer, in at most answerTimeout. Once ctx is done, what is
// under way has stopTimeout left. After an error the connection is closed: what became of the request is not known.
func (c *conn) do(ctx context.Context, request []byte) (answer, error) {
	now := time.Now()
	if c.nc != nil && now.Sub(c.lastUse) > idleLimit {
		c.close()
	}
	if c.nc == nil {
		if err := c.dial(ctx); err != nil {
			return answer{}, err
		}
	}
	a, err := c.exchange(ctx, request, now)
	if err != nil {
		c.close()
		return answer{}, fmt.Errorf("ask %s: %w", c.addr, err)
	}
	c.lastUse = now
	return a, nil
}

func (c *conn) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: answerTimeout}
	nc, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err // it names the address
	}
	c.nc = nc
	if c.r == nil {
		c.r = bufio.NewReaderSize(nc, 8<<10)
	}
	c.r.Reset(nc)
	c.unwatch = context.AfterFunc(ctx, func() {
		// It fails only if the connection is closed, and then there is nothing left to hurry.
		_ = nc.SetDeadline(time.Now().Add(stopTimeout))
	})
	return nil
}

func (c *conn) close() {
	if c.nc == nil {
		return
	}
	c.unwatch()
	_ = c.nc.Close() // all answers that matter were read
	c.nc = nil
}

func (c *conn) exchange(ctx context.Context, request []byte, now time.Time) (answer, error) {
	if err := c.nc.SetDeadline(now.Add(answerTimeout)); err != nil {
		return answer{}, err
	}
	if ctx.Err() != nil { // the watch may have set its deadline before this one was set
		if err := c.nc.SetDeadline(now.Add(stopTimeout)); err != nil {
			return answer{}, err
		}
	}
	if _, err := c.nc.Write(request); err != nil {
		return answer{}, err
	}
	return c.read()
}

var errNoAnswer = errors.New("that is no answer of a state server")

// read reads one answer; the status line may be HTTP/1.1 200 OK or 200 OK.
func (c *conn) read() (a answer, err error) {
	line, err := c.line()
	if err != nil {
		return a, err
	}
	if rest, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 ")); ok {
		line = rest
	}
	if a.status, err = number(line[:min(3, len(line))]); err != nil || a.status < 100 {
		return a, errNoAnswer
	}
	length := -1
	for {
		if line, err = c.line(); err != nil {
			return a, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = number(value); err != nil || length > maxAnswer {
				return a, errNoAnswer
			}
		case bytes.EqualFold(name, []byte("LockCookie")):
			cookie, err := number(value)
			if err != nil {
				return a, errNoAnswer
			}
			a.cookie = int32(cookie)
		}
	}
	if length < 0 {
		return a, errNoAnswer
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	a.body = c.body[:length]
	_, err = io.ReadFull(c.r, a.body)
	return a, err
}

// line reads a line without its end.
func (c *conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errNoAnswer
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// number reads a decimal int32 that is not negative.
func number(digits []byte) (int, error) {
	n := 0
	if len(digits) == 0 || len(digits) > 10 {
		return 0, strconv.ErrSyntax
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, strconv.ErrSyntax
		}
		n = n*10 + int(d-'0')
	}
	if n > 1<<31-1 {
		return 0, strconv.ErrRange
	}
	return n, nil
}
