package replay

import (
	"errors"
	"fmt"
	"io"

	"peerstate/proxy"
	"peerstate/proxy/recording"
	"peerstate/proxy/wire"
	"peerstate/store"
)

// Limits of what is read ahead, and of a body.
const (
	maxAhead      = 64
	maxAheadBytes = 64 << 20
	maxBody       = 1 << 31 // Content-Length is an int32 to ASP.NET
)

// message is a recorded request or answer.
type message struct {
	wire.Head
	length int64
	body   []byte // nil if bodies were not recorded
	cookie int64  // LockCookie; -1: none, or none that can be read
	at     float64
	event  int // its place among the events
	line   int
	cut    bool
}

// exchange is a recorded request with what came of it.
type exchange struct {
	conn    int64
	op      store.Op
	key     string
	request message
	answer  *message // nil: there was none
	// by is who ended the connection without an answer.
	by string
	// last: nothing follows on its connection, which is closed after it. An exchange without a method is nothing but that.
	last bool
}

func (x *exchange) isEnd() bool { return x.request.Method == "" }

// recorded is a connection of the recording.
type recorded struct {
	waiting []message         // requests without an answer so far
	parts   map[string][]byte // of bodies, by side
	by      string            // who ended it first
	ended   map[string]bool
}

// sequence gives the exchanges of a recording in the order in which they are to be sent.
type sequence struct {
	in     *recording.Reader
	bodies bool
	conns  map[int64]*recorded
	events int
	ahead  []*exchange
	bytes  int64 // of the bodies ahead
	end    bool  // of the recording
	cutOff bool  // it ended in the middle of a line

	strange int64 // bytes of the recording that were no message
	cut     int   // requests that were not complete
}

func newSequence(in *recording.Reader) *sequence {
	return &sequence{in: in, bodies: in.Header.Bodies, conns: make(map[int64]*recorded)}
}

// next gives the next exchange; io.EOF after the last.
func (s *sequence) next() (*exchange, error) {
	for !s.end && len(s.ahead) < maxAhead && s.bytes < maxAheadBytes {
		if err := s.read(); err != nil {
			return nil, err
		}
	}
	if len(s.ahead) == 0 {
		return nil, io.EOF
	}
	i := s.first()
	x := s.ahead[i]
	s.ahead = append(s.ahead[:i], s.ahead[i+1:]...)
	s.bytes -= x.size()
	return x, nil
}

func (x *exchange) size() int64 {
	n := int64(len(x.request.body))
	if x.answer != nil {
		n += int64(len(x.answer.body))
	}
	return n
}

// first finds the exchange to send next: the one that was answered first, unless the cookies show that another one was carried out before.
func (s *sequence) first() int {
	i := 0
	for range s.ahead {
		j := s.before(i)
		if j < 0 {
			break
		}
		i = j
	}
	return i
}

// before looks for an exchange that was carried out before number i though it was answered later; -1: there is none.
func (s *sequence) before(i int) int {
	x := s.ahead[i]
	if x.answer == nil || x.isEnd() {
		return -1
	}
	blocked := map[int64]bool{x.conn: true}
	for j, y := range s.ahead {
		switch {
		case j == i || blocked[y.conn]:
		case j > i && y.answer != nil && y.key == x.key && y.request.event < x.answer.event && precedes(y, x):
			return j
		default:
			blocked[y.conn] = true // what comes later on that connection has to wait for this
		}
	}
	return -1
}

// precedes tells of two requests for one session that were under way at the same time whether y must have been carried out
// before x, which was answered first.
func precedes(y, x *exchange) bool {
	done := y.answer.Status == 200
	ends := done && (y.op == store.Put || y.op == store.Release || y.op == store.Delete)
	switch {
	case x.answer.Status == 423: // by the lock that y took, or after the one that y ended
		return done && y.op == store.Acquire && y.answer.cookie == x.answer.cookie ||
			ends && y.request.cookie > 0 && y.request.cookie < x.answer.cookie
	case x.answer.Status == 404:
		return done && y.op == store.Delete
	case x.op == store.Acquire && x.answer.Status == 200: // it had to wait for the lock that y ended
		return ends && y.request.cookie > 0 && y.request.cookie < x.answer.cookie
	case x.op == store.Get && x.answer.Status == 200:
		return ends && y.request.cookie > 0
	}
	return false
}

// read takes in one event.
func (s *sequence) read() error {
	e, err := s.in.Next()
	switch {
	case errors.Is(err, recording.ErrCutOff), errors.Is(err, io.EOF):
		s.end, s.cutOff = true, errors.Is(err, recording.ErrCutOff)
		return nil
	case err != nil:
		return err
	}
	s.events++
	c := s.conns[e.Conn]
	if c == nil {
		c = &recorded{parts: map[string][]byte{}, ended: map[string]bool{}}
		s.conns[e.Conn] = c
	}
	switch e.What {
	case recording.Part:
		if int64(len(c.parts[e.From]))+int64(len(e.Body)) > maxBody {
			return fmt.Errorf("line %d: the body is larger than 2 GiB", s.in.Line())
		}
		c.parts[e.From] = append(c.parts[e.From], e.Body...)
	case recording.Request:
		m, err := s.message(c, &e, recording.Client, false)
		if err != nil {
			return err
		}
		c.waiting = append(c.waiting, m)
	case recording.Answer:
		m, err := s.message(c, &e, recording.Server, true)
		if err != nil {
			return err
		}
		s.answered(e.Conn, c, m)
	case recording.Raw:
		s.strange += e.Length
	case recording.End:
		s.ended(&e, c)
	}
	return nil
}

// message puts a message together.
func (s *sequence) message(c *recorded, e *recording.Event, side string, answer bool) (message, error) {
	h, ok := wire.NewHead(e.GetHead(), answer)
	body := append(c.parts[side], e.Body...)
	delete(c.parts, side)
	switch {
	case !ok:
		return message{}, fmt.Errorf("line %d: its head is none", s.in.Line())
	case s.bodies && int64(len(body)) != e.Length && !e.Unfinished, e.Length > maxBody:
		return message{}, fmt.Errorf("line %d: the body is not as long as it says", s.in.Line())
	}
	m := message{Head: h, length: e.Length, cookie: -1, at: e.At, event: s.events, line: s.in.Line(), cut: e.Unfinished}
	if s.bodies {
		m.body = body
	}
	for _, name := range cookieNames {
		if n, ok := h.Number(name); ok {
			m.cookie = n
		}
	}
	return m, nil
}

// answered adds the exchange that an answer completes.
func (s *sequence) answered(conn int64, c *recorded, a message) {
	if len(c.waiting) == 0 {
		s.strange += int64(len(a.Bytes)) + a.length
		return
	}
	request := c.waiting[0]
	c.waiting = c.waiting[1:]
	if request.cut || a.cut {
		s.cut++
		return
	}
	s.add(newExchange(conn, request, &a))
	s.tidy(conn, c)
}

func newExchange(conn int64, request message, answer *message) *exchange {
	d := proxy.Describe(request.Bytes)
	return &exchange{conn: conn, op: d.Op, key: string(proxy.KeyOf(request.Target)), request: request, answer: answer}
}

func (s *sequence) add(x *exchange) {
	s.ahead = append(s.ahead, x)
	s.bytes += x.size()
}

// ended takes in that a side of a connection has ended.
func (s *sequence) ended(e *recording.Event, c *recorded) {
	if c.by == "" {
		c.by = e.From
	}
	c.ended[e.From] = true
	if e.Reset {
		c.ended[recording.Client], c.ended[recording.Server] = true, true
	}
	s.tidy(e.Conn, c)
}

// tidy closes a connection that has ended. What is unanswered then was never answered.
func (s *sequence) tidy(conn int64, c *recorded) {
	if !c.ended[recording.Server] && (!c.ended[recording.Client] || len(c.waiting) > 0) {
		return
	}
	for _, request := range c.waiting {
		if request.cut {
			s.cut++
			continue
		}
		x := newExchange(conn, request, nil)
		x.by = c.by
		s.add(x)
		if c.by == recording.Client {
			break // nobody knows whether the server has seen the others
		}
	}
	s.add(&exchange{conn: conn, last: true})
	delete(s.conns, conn)
}
