package wire

import (
	"bytes"
	"iter"
	"math"
	"strconv"
)

// Head is the head of a message. It is valid until the Splitter gets its next bytes.
type Head struct {
	Bytes []byte // all of it as it came, with the empty line at its end

	Method string // of a request, as it stands there
	Target []byte // of a request, as it stands there

	Status int    // of an answer
	Reason string // of an answer: "OK", "Locked"

	// Length is what Content-Length says; -1: nothing, or nothing that makes sense.
	Length int64
}

// NewHead reads a head that is complete. It is false if that is none.
func NewHead(b []byte, answer bool) (Head, bool) {
	h := Head{Bytes: b, Length: -1}
	first := h.firstLine()
	if answer && !h.statusLine(first) || !answer && !h.requestLine(first) {
		return h, false
	}
	if value, ok := h.Get("Content-Length"); ok {
		if n, err := strconv.ParseUint(string(value), 10, 63); err == nil && n < math.MaxInt64 {
			h.Length = int64(n)
		}
	}
	return h, true
}

// firstLine is the request line or status line. Empty lines in front of it are passed over.
func (h *Head) firstLine() []byte {
	line, _, _ := bytes.Cut(bytes.TrimLeft(h.Bytes, "\r\n"), []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// longestMethod is longer than the name of any method there is.
const longestMethod = 20

func (h *Head) requestLine(line []byte) bool {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(method) == 0 || len(method) > longestMethod || bytes.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return false
	}
	if i := bytes.LastIndexByte(rest, ' '); i >= 0 {
		rest = rest[:i]
	}
	h.Method, h.Target = string(method), rest
	return len(rest) > 0
}

func (h *Head) statusLine(line []byte) bool {
	if rest, ok := bytes.CutPrefix(line, []byte("HTTP/")); ok {
		if _, line, ok = bytes.Cut(rest, []byte(" ")); !ok {
			return false
		}
	}
	code, reason, _ := bytes.Cut(line, []byte(" "))
	n, err := strconv.ParseUint(string(code), 10, 10)
	if err != nil || len(code) != 3 || n < 100 || n > 999 {
		return false
	}
	h.Status, h.Reason = int(n), string(reason)
	return true
}

// StartLine is the request line or status line, without its end.
func (h *Head) StartLine() []byte { return h.firstLine() }

// Headers gives name and value of each header, in the order in which they came. A line without a colon has no name.
func (h *Head) Headers() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		rest := bytes.TrimLeft(h.Bytes, "\r\n")
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
		for len(rest) > 0 {
			var line []byte
			line, rest, _ = bytes.Cut(rest, []byte("\n"))
			line = bytes.TrimSuffix(line, []byte("\r"))
			if len(line) == 0 {
				return
			}
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok {
				name, value = nil, line
			}
			if !yield(bytes.TrimSpace(name), bytes.TrimSpace(value)) {
				return
			}
		}
	}
}

// Get gives the value of a header; its name in any case. Of several the last one counts.
func (h *Head) Get(name string) (value []byte, ok bool) {
	for n, v := range h.Headers() {
		if bytes.EqualFold(n, []byte(name)) {
			value, ok = v, true
		}
	}
	return value, ok
}

// Number gives the value of a header as a decimal number that is not negative; false if it is missing or is none.
func (h *Head) Number(name string) (int64, bool) {
	value, ok := h.Get(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(value), 10, 63)
	return int64(n), err == nil
}
