package service

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
)

// LogHandlers are where the log goes besides its file: to the Event Log, if this is a Windows service.
func LogHandlers() ([]slog.Handler, error) {
	service, err := svc.IsWindowsService()
	if err != nil || !service {
		return nil, err
	}
	l, err := eventlog.Open(Name)
	if err != nil {
		return nil, fmt.Errorf("open the Event Log: %w", err)
	}
	return []slog.Handler{&eventHandler{log: l}}, nil
}

// eventHandler writes to the Event Log what is an event (see eventOf).
type eventHandler struct {
	log   *eventlog.Log
	attrs []slog.Attr
}

func (h *eventHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *eventHandler) Handle(_ context.Context, r slog.Record) error {
	id, ok := eventOf(r)
	if !ok {
		return nil
	}
	text := eventText(h.attrs, r)
	switch {
	case r.Level >= slog.LevelError:
		return h.log.Error(id, text)
	case r.Level >= slog.LevelWarn:
		return h.log.Warning(id, text)
	}
	return h.log.Info(id, text)
}

// eventText is the message, and below it one line for each value.
func eventText(attrs []slog.Attr, r slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Message)
	write := func(a slog.Attr) bool {
		fmt.Fprintf(&b, "\r\n%s: %s", a.Key, a.Value.Resolve())
		return true
	}
	for _, a := range attrs {
		write(a)
	}
	r.Attrs(write)
	return b.String()
}

func (h *eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = append(with.attrs[:len(with.attrs):len(with.attrs)], attrs...)
	return &with
}

// WithGroup changes nothing: the program's log has no groups.
func (h *eventHandler) WithGroup(string) slog.Handler { return h }

// writeEvent writes one event that is no line of the log.
func writeEvent(id uint32, text string) error {
	l, err := eventlog.Open(Name)
	if err != nil {
		return fmt.Errorf("open the Event Log: %w", err)
	}
	defer l.Close()
	return l.Error(id, text)
}
