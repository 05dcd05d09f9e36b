package relay

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"peerstate/proxy"
	"peerstate/proxy/recording"
	"peerstate/proxy/wire"
	"peerstate/store"
)

// colour is an escape sequence of the terminal.
type colour string

const (
	grey   colour = "\x1b[90m"
	red    colour = "\x1b[31m"
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	purple colour = "\x1b[35m"
	cyan   colour = "\x1b[36m"
	bold   colour = "\x1b[1m"
	plain  colour = "\x1b[0m"
)

// block is a piece of text for a screen.
type block struct {
	screen *Screen
	text   []byte
}

// begin begins a block with the time and the number of the connection.
func (s *Screen) begin(conn int64) *block {
	b := &block{screen: s}
	b.paint(grey, s.now().Format("15:04:05.000"))
	b.add(fmt.Sprintf(" #%-3d ", conn))
	return b
}

func (b *block) add(text string) { b.text = append(b.text, text...) }

func (b *block) paint(c colour, text string) {
	if !b.screen.colour {
		b.add(text)
		return
	}
	b.add(string(c) + text + string(plain))
}

// line begins a further line of the block.
func (b *block) line() { b.add("\n                       ") }

func (b *block) end() {
	b.add("\n")
	b.screen.put(b.text)
}

// note shows something that is no message.
func (s *Screen) note(conn int64, format string, args ...any) { s.say(grey, conn, format, args...) }

// fault shows something that went wrong.
func (s *Screen) fault(conn int64, format string, args ...any) { s.say(red, conn, format, args...) }

func (s *Screen) say(c colour, conn int64, format string, args ...any) {
	if s == nil {
		return
	}
	b := s.begin(conn)
	b.paint(c, "    "+fmt.Sprintf(format, args...))
	b.end()
}

// message shows a request or an answer.
func (s *Screen) message(conn int64, answer bool, m *message) {
	if s == nil {
		return
	}
	b := s.begin(conn)
	if answer {
		b.answerLine(m)
	} else {
		b.requestLine(m)
	}
	for name, value := range m.head.Headers() {
		b.line()
		if name != nil {
			b.paint(bold, safe(name)+":")
			b.add(" ")
		}
		b.add(safe(value))
	}
	for _, line := range m.dropped {
		b.line()
		b.paint(grey, "("+safe([]byte(line))+" is not passed on)")
	}
	b.body(m)
	b.end()
}

func (b *block) requestLine(m *message) {
	b.paint(cyan, "--> "+opOf(&m.head, m.request)+" ")
	if key := proxy.KeyOf(m.head.Target); key != nil {
		b.add(safe(key))
	} else {
		b.add(safe(m.head.Target))
	}
	if m.request.Refused != "" {
		b.line()
		b.paint(yellow, "peerstate would answer 400 to this: "+m.request.Refused)
	}
}

func (b *block) answerLine(m *message) {
	c := purple
	switch m.head.Status {
	case 200:
		c = green
	case 400:
		c = red
	case 423:
		c = yellow
	}
	b.paint(c, "<-- "+strconv.Itoa(m.head.Status)+" "+safe([]byte(m.head.Reason)))
	if m.answers.at.IsZero() {
		b.paint(red, " to no request")
		return
	}
	took := m.after(b.screen.now())
	b.paint(grey, fmt.Sprintf(" to %s, %v", m.answers.op, took.Round(10*time.Microsecond)))
	b.add(" " + safe(m.answers.key))
}

func (b *block) body(m *message) {
	if m.length > 0 || m.cut {
		b.line()
		b.paint(grey, "body of "+bytesOf(m.length))
	}
	if m.cut {
		b.paint(red, fmt.Sprintf(", of %s: it is not complete", bytesOf(m.head.Length)))
	}
	b.dump(m.dump, m.length)
}

// strange shows bytes that are no message.
func (s *Screen) strange(conn int64, side string, p []byte) {
	if s == nil {
		return
	}
	b := s.begin(conn)
	arrow := "--> "
	if side == recording.Server {
		arrow = "<-- "
	}
	b.paint(red, arrow+"no message: "+bytesOf(int64(len(p))))
	b.dump(p[:min(len(p), maxDump)], int64(len(p)))
	b.end()
}

// dump adds bytes in hex; length is how many there are in all.
func (b *block) dump(p []byte, length int64) {
	if len(p) == 0 {
		return
	}
	for line := range strings.Lines(hex.Dump(p)) {
		b.line()
		b.add(strings.TrimRight(line, "\n"))
	}
	if more := length - int64(len(p)); more > 0 {
		b.line()
		b.paint(grey, bytesOf(more)+" more")
	}
}

func bytesOf(n int64) string {
	if n == 1 {
		return "1 byte"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// opOf names what a request is for.
func opOf(h *wire.Head, d proxy.Described) string {
	if d.Refused == "" && (d.Op == store.Acquire || d.Op == store.Release) {
		return h.Method + " (" + d.Op.String() + ")"
	}
	return safe([]byte(h.Method))
}

// safe makes text harmless for a terminal: what it could take for a command is escaped.
func safe(b []byte) string {
	quoted := strconv.Quote(string(b))
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
