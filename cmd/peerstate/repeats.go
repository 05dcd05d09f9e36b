package main

import (
	"context"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"
)

// repeats is a slog.Handler that passes a warning or an error on at once when it is new, and then at
// most once in repeatEvery while it keeps coming; that line has "repeated", the number of those left
// out since the last. Nothing is delayed, and levels below warning are not touched.
//
// Two records are the same when level, message and attributes are, but for numbers, times and
// durations, and for the port in the attributes of portless: a client has another one each
// time. Say "peer", "addr" or "file" in an attribute, and each of them has its own first line.
type repeats struct {
	next slog.Handler
	with string // what WithAttrs and WithGroup added, as identity has it
	seen *seenRecords
}

const (
	repeatEvery = 30 * time.Second
	maxRepeats  = 1024 // records remembered; with more, a new one is logged each time
)

// portless are the attributes in which a port does not count.
var portless = map[string]bool{"client": true, "from": true, "remote": true, "error": true, "err": true}

var portNumber = regexp.MustCompile(`([\w\]]):\d{1,5}\b`)

// seenRecords is shared by a handler and those made from it.
type seenRecords struct {
	mu sync.Mutex
	by map[string]*seenRecord // guarded by mu
}

type seenRecord struct {
	logged  time.Time
	leftOut int
}

func thinOut(next slog.Handler) slog.Handler {
	return &repeats{next: next, seen: &seenRecords{by: make(map[string]*seenRecord)}}
}

func (h *repeats) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		writeIdentity(&b, a)
	}
	return &repeats{h.next.WithAttrs(attrs), h.with + b.String(), h.seen}
}

func (h *repeats) WithGroup(name string) slog.Handler {
	return &repeats{h.next.WithGroup(name), h.with + name + ".", h.seen}
}

func (h *repeats) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r)
	}
	leftOut, ok := h.seen.admit(h.identity(r), time.Now())
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", leftOut))
	}
	return h.next.Handle(ctx, r)
}

// admit tells whether a record may be logged now, and how many of its kind were left out before it.
func (s *seenRecords) admit(identity string, now time.Time) (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.by[identity]; before != nil {
		if now.Sub(before.logged) < repeatEvery {
			before.leftOut++
			return 0, false
		}
		leftOut, before.leftOut, before.logged = before.leftOut, 0, now
		return leftOut, true
	}
	if len(s.by) >= maxRepeats {
		// Those with something left out stay a while longer, so that their number is told.
		maps.DeleteFunc(s.by, func(_ string, r *seenRecord) bool {
			quiet := now.Sub(r.logged)
			return quiet >= repeatEvery && r.leftOut == 0 || quiet >= 10*repeatEvery
		})
	}
	if len(s.by) < maxRepeats {
		s.by[identity] = &seenRecord{logged: now}
	}
	return 0, true
}

func (h *repeats) identity(r slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Level.String() + " " + r.Message + h.with)
	r.Attrs(func(a slog.Attr) bool {
		writeIdentity(&b, a)
		return true
	})
	return b.String()
}

func writeIdentity(b *strings.Builder, a slog.Attr) {
	v := a.Value.Resolve()
	b.WriteString("\x00" + a.Key)
	switch v.Kind() {
	case slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindDuration, slog.KindTime:
	case slog.KindGroup:
		for _, in := range v.Group() {
			writeIdentity(b, in)
		}
	default:
		text := v.String()
		if portless[a.Key] {
			text = portNumber.ReplaceAllString(text, "$1")
		}
		b.WriteString("=" + text)
	}
}
