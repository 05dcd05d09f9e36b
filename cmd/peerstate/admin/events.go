package admin

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// What an operator should know of is logged at info and above, in whole sentences and without any session's id, key or
// contents. So the events on the page are the log's last lines, and there is no second vocabulary to keep up.

const (
	maxEvents = 200
	// sameWithin is how long the same event about the same node is counted instead of being shown again.
	sameWithin = time.Minute
	maxDetail  = 400 // characters of one attribute
)

// Event is a log line.
type Event struct {
	Number  int64     `json:"n"` // rising; another one when it is counted again
	At      time.Time `json:"at"`
	Level   string    `json:"level"` // info, warn or error
	Text    string    `json:"text"`
	Details []Detail  `json:"details"`
	Times   int       `json:"times"` // how often within a minute
}

// Detail is an attribute of a log line.
type Detail struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Events keeps the last log lines at level info and above. Its methods are safe for concurrent use.
type Events struct {
	mu     sync.Mutex
	events []Event // guarded by mu, the newest last
	number int64   // guarded by mu
}

// Over gives a handler that keeps records and passes them on to next, if next wants them.
func (e *Events) Over(next slog.Handler) slog.Handler { return &keeper{events: e, next: next} }

// Last gives the events, the newest first.
func (e *Events) Last() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := append([]Event{}, e.events...)
	slices.Reverse(all)
	return all
}

// add keeps an event.
func (e *Events) add(x Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.number++
	x.Number, x.Times = e.number, 1
	for i, old := range slices.Backward(e.events) {
		if x.At.Sub(old.At) > sameWithin {
			break
		}
		if old.Text == x.Text && old.Level == x.Level && old.about() == x.about() {
			x.Times += old.Times
			e.events = slices.Delete(e.events, i, i+1)
			break
		}
	}
	if len(e.events) == maxEvents {
		e.events = slices.Delete(e.events, 0, 1)
	}
	e.events = append(e.events, x)
}

// about is the node that the event is about, if any.
func (x Event) about() string {
	for _, d := range x.Details {
		if d.Name == "peer" {
			return d.Value
		}
	}
	return ""
}

// keeper is a slog.Handler.
type keeper struct {
	events *Events
	next   slog.Handler
	with   []Detail // what WithAttrs added
	group  string   // what WithGroup did, with a dot behind each
}

func (k *keeper) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || k.next.Enabled(ctx, level)
}

func (k *keeper) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		x := Event{At: r.Time, Level: "info", Text: clip(r.Message), Details: append([]Detail{}, k.with...)}
		switch {
		case r.Level >= slog.LevelError:
			x.Level = "error"
		case r.Level >= slog.LevelWarn:
			x.Level = "warn"
		}
		r.Attrs(func(a slog.Attr) bool {
			x.Details = details(x.Details, k.group, a)
			return true
		})
		k.events.add(x)
	}
	if !k.next.Enabled(ctx, r.Level) {
		return nil
	}
	return k.next.Handle(ctx, r)
}

func (k *keeper) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *k
	more.next, more.with = k.next.WithAttrs(attrs), slices.Clip(k.with)
	for _, a := range attrs {
		more.with = details(more.with, k.group, a)
	}
	return &more
}

func (k *keeper) WithGroup(name string) slog.Handler {
	more := *k
	more.next, more.group = k.next.WithGroup(name), k.group+name+"."
	return &more
}

// details adds an attribute.
func details(to []Detail, group string, a slog.Attr) []Detail {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return to
	}
	if v.Kind() == slog.KindGroup {
		for _, in := range v.Group() {
			to = details(to, group+a.Key+".", in)
		}
		return to
	}
	text := v.String()
	if text == "" {
		return to // it says nothing
	}
	if v.Kind() == slog.KindTime {
		text = v.Time().UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return append(to, Detail{group + a.Key, clip(text)})
}

// clip makes foreign text fit to be kept: of a bounded length, and of one line.
func clip(s string) string {
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
