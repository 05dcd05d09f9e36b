// Package recording is the format of a conversation between web servers and a state server, as the relay writes it and
// replay reads it.
//
// It is a text of lines, each one JSON object. The first is a Header, each other one an Event, in the order in which things
// happened: a request stands there when it was complete and before it was passed on, an answer likewise. So a request that
// was sent because of an answer, on whichever connection, stands behind it.
//
// A body of more than PartSize bytes comes in pieces, as events "part", before its message. A recording contains session
// ids, which are needed to send it again, and with bodies what users typed: its file is for its owner only.
//
// Fields may be added without a new version; a reader passes over those that it does not know.
package recording

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

// Version is that of the format.
const Version = 1

// PartSize is how much of a body stands in one line at most.
const PartSize = 64 << 10

// maxLine is longer than any line that is written: a head of 64 KiB each byte of which is escaped.
const maxLine = 1 << 20

// Header is the first line.
type Header struct {
	Version int       `json:"peerstate_recording"`
	Started time.Time `json:"started"` // what all other times count from
	To      string    `json:"to"`      // the state server that was recorded
	Bodies  bool      `json:"bodies"`  // the bodies are in it
}

// What of an Event.
const (
	Connect = "connect" // a web server has connected
	Request = "request" // a whole request
	Answer  = "answer"  // a whole answer, to the connection's first request that had none
	Part    = "part"    // a piece of the body of the message that comes next on that side of the connection
	Raw     = "raw"     // bytes that belong to no message
	End     = "end"     // one side has ended its side of the connection, or all of it
)

// The sides of a connection.
const (
	Client = "client"
	Server = "server"
)

// Event is any other line.
type Event struct {
	At   float64 `json:"at"`   // seconds since the start
	Conn int64   `json:"conn"` // number of the connection, from 1
	What string  `json:"event"`
	From string  `json:"from,omitempty"` // the side: of Part, Raw and End
	// Head is the head of a message with all its line ends; one that is not UTF-8 is in HeadBytes.
	Head       string `json:"head,omitempty"`
	HeadBytes  []byte `json:"head_base64,omitempty"`
	Length     int64  `json:"length"`               // bytes of the body, or of Raw
	Body       []byte `json:"body,omitempty"`       // base64; what of it is not in parts
	Unfinished bool   `json:"unfinished,omitempty"` // the message did not end: it was answered before, or the connection ended
	Reset      bool   `json:"reset,omitempty"`      // End: by a reset, not in an orderly way
}

// SetHead stores a head in the field that can hold it.
func (e *Event) SetHead(head []byte) {
	if utf8.Valid(head) {
		e.Head, e.HeadBytes = string(head), nil
		return
	}
	e.Head, e.HeadBytes = "", append([]byte(nil), head...)
}

// GetHead is the head from whichever field has it.
func (e *Event) GetHead() []byte {
	if e.HeadBytes != nil {
		return e.HeadBytes
	}
	return []byte(e.Head)
}

// Writer writes a recording. Its methods are safe for concurrent use.
type Writer struct {
	started time.Time
	bodies  bool

	mu  sync.Mutex
	buf *bufio.Writer
	enc *json.Encoder
	err error // the first one; from then on nothing is written
}

// NewWriter begins a recording. h.Version is set by it.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Version = Version
	r := &Writer{started: h.Started, bodies: h.Bodies, buf: bufio.NewWriterSize(w, 64<<10)}
	r.enc = json.NewEncoder(r.buf)
	r.enc.SetEscapeHTML(false)
	return r, errors.Join(r.enc.Encode(h), r.Flush())
}

// Bodies tells whether bodies are recorded.
func (w *Writer) Bodies() bool { return w.bodies }

// Write adds an event that happens now. After an error it does nothing; Flush says what the error was.
func (w *Writer) Write(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	e.At = float64(time.Since(w.started).Microseconds()) / 1e6
	w.err = w.enc.Encode(e)
}

// Flush hands everything to the file, and gives the first error there was.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.buf.Flush()
	}
	return w.err
}

// Reader reads a recording.
type Reader struct {
	Header Header
	in     *bufio.Reader
	line   int
}

// ErrCutOff says that the last line is not whole: what wrote the recording was killed.
var ErrCutOff = errors.New("the last line is cut off")

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	d := &Reader{in: bufio.NewReaderSize(r, 64<<10)}
	line, err := d.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if json.Unmarshal(line, &d.Header) != nil || d.Header.Version == 0 {
		return nil, errors.New("it is not a recording of peerstate relay")
	}
	if d.Header.Version != Version {
		return nil, fmt.Errorf("its format has version %d, and this program knows version %d", d.Header.Version, Version)
	}
	return d, nil
}

// Line is the number of the line that was read last, from 1.
func (d *Reader) Line() int { return d.line }

// Next gives the next event; io.EOF at the end, ErrCutOff if that is in the middle of a line. Other errors name the line.
func (d *Reader) Next() (Event, error) {
	var e Event
	line, err := d.next()
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("line %d: %w", d.line, err)
	}
	switch e.What {
	case Connect, Request, Answer, Part, Raw, End:
	default:
		return e, fmt.Errorf("line %d: there is no event %q", d.line, e.What)
	}
	if e.Conn < 1 || e.Length < 0 || int64(len(e.Body)) > e.Length {
		return e, fmt.Errorf("line %d: conn, length or body cannot be right", d.line)
	}
	return e, nil
}

func (d *Reader) next() ([]byte, error) {
	d.line++
	var line []byte
	for {
		piece, err := d.in.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case err == nil:
			return line, nil
		case len(line) > maxLine:
			return nil, fmt.Errorf("line %d is longer than 1 MiB", d.line)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, ErrCutOff
		default:
			return nil, err
		}
	}
}
