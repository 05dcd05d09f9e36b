package wire

import "bytes"

// Limits of a head. What is longer is no message.
const (
	maxHead  = 64 << 10
	maxLine  = 16 << 10 // of its first line
	maxEmpty = 16       // bytes of empty lines in front of it
)

// Sink gets what a Splitter finds, in the order of the bytes: each byte that goes in comes out once, as part of
// a head, of a body, or raw. The slices are valid during the call only.
type Sink interface {
	// Head is called with each head. For an answer it says whether a body may follow: none does after HEAD.
	Head(h *Head) (body bool)
	// Body is called with each further piece of the message's body.
	Body(p []byte)
	// End is called when the message is complete.
	End()
	// Raw is called with what belongs to no message. What follows it is raw, too.
	Raw(p []byte)
}

// Splitter cuts one direction into messages. Its zero value cuts requests.
type Splitter struct {
	Answers bool // it is the direction from the server to the client

	state state
	head  []byte // what has come of it
	begun bool   // its first line is there, and is right
	left  int64  // bytes of the body that are still to come
}

type state uint8

const (
	inHead   state = iota
	atBody         // a body is declared that may be missing
	inBody         // left bytes of it are still to come
	toTheEnd       // the body lasts until the connection ends
	isRaw
)

// Feed takes the next bytes.
func (s *Splitter) Feed(p []byte, to Sink) {
	for len(p) > 0 {
		switch s.state {
		case inHead:
			p = s.takeHead(p, to)
		case atBody:
			p = s.takeDoubtful(p, to)
		case inBody:
			n := min(int64(len(p)), s.left)
			to.Body(p[:n])
			p = p[n:]
			if s.left -= n; s.left == 0 {
				s.end(to)
			}
		case toTheEnd:
			to.Body(p)
			return
		case isRaw:
			to.Raw(p)
			return
		}
	}
}

// Finish says that no bytes follow.
func (s *Splitter) Finish(to Sink) {
	if s.state == atBody || s.state == toTheEnd {
		s.end(to)
	}
	if len(s.head) > 0 {
		to.Raw(s.head)
	}
	s.state, s.head = isRaw, nil
}

// Answered says that the last request was answered: a body of it that may be missing, and has not begun, is.
func (s *Splitter) Answered(to Sink) {
	if s.state == atBody {
		s.end(to)
	}
}

// Unfinished tells whether the end of a message is missing whose beginning was handed out.
func (s *Splitter) Unfinished() bool {
	return s.state == atBody || s.state == inBody || s.state == toTheEnd
}

func (s *Splitter) end(to Sink) {
	s.state = inHead
	to.End()
}

// takeHead takes bytes up to the end of a head, or as many as there are, and returns the rest.
func (s *Splitter) takeHead(p []byte, to Sink) (rest []byte) {
	for len(p) > 0 {
		line, more, ended := p, []byte(nil), false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, more, ended = p[:i+1], p[i+1:], true
		}
		s.head = append(s.head, line...)
		p = more
		if s.hopeless(line, ended) {
			s.head = append(s.head, p...) // what is raw is handed out in one piece
			s.giveUp(to)
			return nil
		}
		if ended && s.complete() {
			s.found(to)
			return p
		}
	}
	return nil
}

// hopeless tells early that what has come, with piece as its end, will be no head, so that it need not be kept.
func (s *Splitter) hopeless(piece []byte, ended bool) bool {
	for _, c := range piece {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			return true
		}
	}
	if s.begun || len(s.head) > maxHead {
		return len(s.head) > maxHead
	}
	start := bytes.TrimLeft(s.head, "\r\n")
	switch {
	case len(start) == 0:
		return len(s.head) > maxEmpty
	case !ended:
		return len(start) > maxLine
	}
	s.begun = true
	_, ok := NewHead(start, s.Answers)
	return !ok
}

// complete tells whether the head ends with an empty line.
func (s *Splitter) complete() bool {
	return len(bytes.TrimLeft(s.head, "\r\n")) > 0 &&
		(bytes.HasSuffix(s.head, []byte("\n\n")) || bytes.HasSuffix(s.head, []byte("\n\r\n")))
}

func (s *Splitter) giveUp(to Sink) {
	s.state = isRaw
	to.Raw(s.head)
	s.head = nil
}

// found hands a head out and decides what follows.
func (s *Splitter) found(to Sink) {
	h, ok := NewHead(s.head, s.Answers)
	if !ok {
		s.giveUp(to)
		return
	}
	body := to.Head(&h)
	s.head, s.begun = s.head[:0], false
	s.left = h.Length
	switch {
	case s.Answers && (!body || h.Status < 200), h.Length == 0, !s.Answers && h.Length < 0:
		s.end(to)
	case h.Length < 0:
		s.state = toTheEnd
	case !s.Answers && mayLackBody(h.Method):
		s.state = atBody
	default:
		s.state = inBody
	}
}

// mayLackBody tells the methods whose requests in [MS-ASP]'s examples declare a body that they do not have.
func mayLackBody(method string) bool {
	return method == "GET" || method == "HEAD" || method == "DELETE"
}

// starts are how the requests of the protocol begin.
var starts = [...]string{"GET ", "PUT ", "HEAD ", "DELETE "}

// takeDoubtful takes bytes that are either the body that was declared or the next request, until it is clear which.
// They are kept in head meanwhile.
func (s *Splitter) takeDoubtful(p []byte, to Sink) (rest []byte) {
	s.head = append(s.head, p[0])
	p = p[1:]
	request, open := false, false
	for _, start := range starts {
		request = request || string(s.head) == start
		open = open || len(s.head) < len(start) && start[:len(s.head)] == string(s.head)
	}
	switch {
	case request:
		s.end(to) // and what is in head is the beginning of the next one
	case open && int64(len(s.head)) < s.left:
	default:
		have := s.head
		s.head = nil
		s.state = inBody
		s.Feed(have, to)
	}
	return p
}
