package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Limits of a request's head.
const (
	maxLine    = 8 << 10 // bytes of the request line or of a header, without CRLF
	maxHeaders = 64      // header lines
	firstBuf   = 4 << 10 // a PUT of 2 KB fits; it grows up to one line of maxLine
	maxBuf     = maxLine + 2
)

// Time limits. A client that sends a byte now and then does not gain any.
const (
	headTime = 10 * time.Second // from the first byte of a request to the end of its head
	bodyTime = 30 * time.Second // from the end of the head to the end of the body
	idleTime = 5 * time.Minute  // between two requests
	// idleSlack is by how much idleTime may be cut short. Setting a deadline costs more than a
	// tenth of a microsecond, as much as the store takes for a request, so it is not done for each.
	idleSlack = 30 * time.Second
)

var (
	longAgo     = time.Unix(1, 0)
	errDraining = errors.New("the server is stopping")
)

// reader reads one connection into one buffer. Between two requests it waits without a limit of
// its own; a request that comes whole in one piece, as they nearly all do, sets no deadline at all.
type reader struct {
	nc       net.Conn
	draining *atomic.Bool
	buf      []byte
	r, w     int    // buf[r:w] has been read from the connection and not been used yet
	spare    []byte // the first buffer, while a larger one is in use

	limit   time.Duration // of the part of the request that is being read
	limited bool          // its deadline has been set
	strict  bool          // the connection's deadline is not that of an idle one
	excused bool          // the interruption by drain has been noticed
	idleSet time.Duration // when the idle deadline was last set

	reserve func(n int64) bool // has bytes counted that are about to come, or says that there is no memory; nil: nobody counts
	counted int64              // by it, of the body that is being read
}

func newReader(nc net.Conn, draining *atomic.Bool) reader {
	return reader{nc: nc, draining: draining, buf: make([]byte, firstBuf), strict: true}
}

// interrupt wakes a read. It may be called by another goroutine, once.
func (in *reader) interrupt() {
	// A connection that is closed already cannot be interrupted and need not be.
	_ = in.nc.SetReadDeadline(longAgo)
}

// await waits for the first byte of a request. now is any recent value of the server's clock. The
// error is errDraining when the server is stopping.
func (in *reader) await(now time.Duration) error {
	in.limit, in.limited = headTime, false
	if in.r < in.w { // sent behind the last one
		if in.draining.Load() {
			return errDraining
		}
		return nil
	}
	if err := in.idle(now); err != nil {
		return err
	}
	n, err := in.nc.Read(in.buf)
	if n > 0 {
		in.w = n
		return nil
	}
	if in.draining.Load() {
		return errDraining
	}
	return err
}

// idle prepares for a wait for the next request, nothing being unread.
func (in *reader) idle(now time.Duration) error {
	in.r, in.w = 0, 0
	if in.spare != nil {
		in.buf, in.spare = in.spare, nil
	}
	if in.strict || now-in.idleSet > idleSlack {
		if err := in.nc.SetReadDeadline(time.Now().Add(idleTime)); err != nil {
			return err
		}
		in.strict, in.idleSet = false, now
	}
	// In this order: the interruption comes after the flag, so it cannot fall between unseen.
	if in.draining.Load() {
		return errDraining
	}
	return nil
}

// startBody ends the time of the head and begins that of the body.
func (in *reader) startBody() { in.limit, in.limited = bodyTime, false }

// read reads the next bytes of a request that has begun, of which the first read did not bring all.
func (in *reader) read(p []byte) (int, error) {
	if !in.limited {
		if err := in.setDeadline(); err != nil {
			return 0, err
		}
		in.limited, in.strict = true, true
	}
	for {
		n, err := in.nc.Read(p)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && in.draining.Load() && !in.excused {
			in.excused = true // this request is still answered
			if err = in.setDeadline(); err == nil {
				continue
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

func (in *reader) setDeadline() error { return in.nc.SetReadDeadline(time.Now().Add(in.limit)) }

// more reads behind the unused bytes, which stay but may move. There must be fewer than maxBuf.
func (in *reader) more() error {
	in.makeRoom()
	n, err := in.read(in.buf[in.w:])
	in.w += n
	return err
}

// makeRoom moves what is unused to the buffer's beginning, or, where the buffer is full, to a
// larger one.
func (in *reader) makeRoom() {
	switch {
	case in.r > 0:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	case in.w == len(in.buf) && len(in.buf) < maxBuf:
		larger := make([]byte, maxBuf)
		copy(larger, in.buf[:in.w])
		in.spare, in.buf = in.buf, larger
	}
}

// line gives the next line of a head, without its CRLF; it stands in the buffer and is valid until
// the next read. On a refusal the line stays unread.
func (in *reader) line() ([]byte, refusal, error) {
	from := in.r
	for {
		if i := bytes.IndexByte(in.buf[from:in.w], '\n'); i >= 0 {
			end := from + i
			if end == in.r || in.buf[end-1] != '\r' {
				return nil, bareLF, nil
			}
			line := in.buf[in.r : end-1]
			if len(line) > maxLine {
				return nil, longLine, nil
			}
			if hasControl(line) {
				return nil, controlBytes, nil
			}
			in.r = end + 1
			return line, sound, nil
		}
		// What cannot become a line is refused before its end has come, which may be never.
		if hasControl(bytes.TrimSuffix(in.buf[in.r:in.w], []byte{'\r'})) {
			return nil, controlBytes, nil
		}
		seen := in.w - in.r
		if seen >= maxBuf {
			return nil, longLine, nil
		}
		if err := in.more(); err != nil {
			return nil, sound, err
		}
		from = in.r + seen
	}
}

// hasControl finds control characters other than a tab, eight bytes at a time.
func hasControl(b []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	suspect := uint64(0)
	rest := b
	for len(rest) >= 8 {
		x := binary.LittleEndian.Uint64(rest)
		suspect |= ((x - 0x20*ones) | (x + ones)) &^ x // the top bit of a byte below 0x20, or 0x7f
		rest = rest[8:]
	}
	if suspect&tops == 0 {
		b = rest
	}
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}
