package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// logLines runs do in virtual time and gives what it logged.
func logLines(t *testing.T, do func(*slog.Logger)) (lines []string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var out bytes.Buffer
		do(slog.New(thinOut(slog.NewTextHandler(&out, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
					return slog.Attr{}
				}
				return a
			},
		}))))
		lines = strings.Split(strings.TrimSpace(out.String()), "\n")
	})
	return lines
}

func TestARepeatedWarningIsLoggedOnceInThirtySecondsWithItsNumber(t *testing.T) {
	got := logLines(t, func(l *slog.Logger) {
		for range 1000 {
			l.Warn("peer does not answer", "peer", "tokyo", "waited", time.Second)
			time.Sleep(100 * time.Millisecond) // 100 s in all
		}
	})
	if len(got) != 4 {
		t.Fatalf("1000 warnings in 100 s gave %d lines, want 4: %q", len(got), got)
	}
	for i, want := range []string{"waited=1s", "repeated=299", "repeated=299", "repeated=299"} {
		if !strings.HasSuffix(got[i], want) {
			t.Errorf("line %d is %q, want it to end in %s", i, got[i], want)
		}
	}
}

func TestDistinctEventsAreAllLoggedAtOnce(t *testing.T) {
	got := logLines(t, func(l *slog.Logger) {
		for i := range 50 {
			l.Error("link closed", "peer", fmt.Sprintf("node%d", i))
			l.With("peer", fmt.Sprintf("node%d", i)).Error("link refused")
			l.WithGroup(fmt.Sprintf("g%d", i)).Warn("grouped", "a", "b")
		}
		l.Warn("link closed", "peer", "node0") // another level
		l.Warn("cannot reach", "addr", "10.0.0.1:42425")
		l.Warn("cannot reach", "addr", "10.0.0.1:42435")
		l.Warn("cannot reach", slog.Group("who", "addr", "10.0.0.1:42435"))
		l.Warn("cannot reach", slog.Group("who", "addr", "10.0.0.2:42435"))
	})
	if len(got) != 155 {
		t.Errorf("155 distinct events gave %d lines", len(got))
	}
}

func TestAClientsNewPortMakesNoNewEvent(t *testing.T) {
	got := logLines(t, func(l *slog.Logger) {
		for port := range 100 {
			l.Warn("not the state protocol", "client", fmt.Sprintf("127.0.0.1:%d", 50000+port),
				"error", errors.New(fmt.Sprint("read 127.0.0.1:", 50000+port, ": reset")))
		}
	})
	if len(got) != 1 {
		t.Errorf("one event from 100 ports gave %d lines: %q", len(got), got)
	}
}

func TestInformationIsNeverLeftOut(t *testing.T) {
	got := logLines(t, func(l *slog.Logger) {
		for range 10 {
			l.Info("peer up", "peer", "tokyo")
		}
	})
	if len(got) != 10 {
		t.Errorf("10 records at info gave %d lines", len(got))
	}
}

func TestWhatIsRememberedIsBoundedAndNothingIsDroppedForIt(t *testing.T) {
	got := logLines(t, func(l *slog.Logger) {
		for round := range 2 {
			for i := range maxRepeats + 100 {
				l.Warn("bad request", "kind", fmt.Sprint("k", i))
			}
			if round == 0 {
				time.Sleep(repeatEvery)
			}
		}
	})
	if want := 2 * (maxRepeats + 100); len(got) != want {
		t.Errorf("%d distinct warnings gave %d lines", want, len(got))
	}
}
