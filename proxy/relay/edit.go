package relay

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Edit changes the headers of the messages of one direction.
type Edit struct {
	drop [][]byte
	set  [][2]string // name and value, in the order in which they were given
}

// Edits are those of both directions.
type Edits struct{ Requests, Answers Edit }

// The directions by which a header may be named, such as "request/Host".
const (
	ofRequests = "request/"
	ofAnswers  = "answer/"
)

// Drop has a header dropped: in both directions, or with "request/" or "answer/" in front of its name in one.
func (e *Edits) Drop(name string) error {
	to, name := e.sides(name)
	if err := checkName(name); err != nil {
		return err
	}
	for _, one := range to {
		one.drop = append(one.drop, []byte(name))
	}
	return nil
}

// Set has a header "H: v" set, in place of the one of that name if there is one; in which directions, see Drop.
func (e *Edits) Set(header string) error {
	to, header := e.sides(header)
	name, value, ok := strings.Cut(header, ":")
	if !ok {
		return errors.New("there is no colon in it")
	}
	value = strings.TrimSpace(value)
	if err := checkName(name); err != nil {
		return err
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return errors.New("the value has control characters")
	}
	for _, one := range to {
		one.set = append(one.set, [2]string{name, value})
	}
	return nil
}

func (e *Edits) sides(s string) ([]*Edit, string) {
	if rest, ok := strings.CutPrefix(s, ofRequests); ok {
		return []*Edit{&e.Requests}, rest
	}
	if rest, ok := strings.CutPrefix(s, ofAnswers); ok {
		return []*Edit{&e.Answers}, rest
	}
	return []*Edit{&e.Requests, &e.Answers}, s
}

func checkName(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/:"(),;<=>?@[\]{}`, r) }) {
		return fmt.Errorf("%q is no header's name", name)
	}
	if strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding") {
		return fmt.Errorf("without the right %s nobody could tell where the message ends", name)
	}
	return nil
}

func (e *Edit) nothing() bool { return len(e.drop) == 0 && len(e.set) == 0 }

// apply appends the head with its changes to out, and says what was dropped. Lines that are not concerned stay as they are.
func (e *Edit) apply(out, head []byte) (edited []byte, dropped []string) {
	first := true
	for len(head) > 0 {
		line := head
		if i := bytes.IndexByte(head, '\n'); i >= 0 {
			line = head[:i+1]
		}
		head = head[len(line):]
		bare := bytes.TrimRight(line, "\r\n")
		name, _, _ := bytes.Cut(bare, []byte(":"))
		name = bytes.TrimSpace(name)
		switch {
		case len(bare) == 0 && !first: // the end of the head
			for _, h := range e.set {
				out = append(append(out, h[0]+": "+h[1]...), line...)
			}
			out = append(out, line...)
		case len(bare) > 0 && !first && e.concerns(name):
			dropped = append(dropped, string(bare))
		default:
			first = first && len(bare) == 0 // empty lines in front of the head
			out = append(out, line...)
		}
	}
	return out, dropped
}

func (e *Edit) concerns(name []byte) bool {
	for _, d := range e.drop {
		if bytes.EqualFold(d, name) {
			return true
		}
	}
	for _, h := range e.set {
		if bytes.EqualFold([]byte(h[0]), name) {
			return true
		}
	}
	return false
}
