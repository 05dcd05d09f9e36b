package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logFile logs to a file, which is no terminal, and gives what it then holds.
func logFile(t *testing.T, environ ...string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	log := newLogger(f, mustSettings(t, "", environ...))
	log.Debug("a detail", "peer", "tokyo")
	log.Info("an event", "peer", "tokyo")
	log.Warn("a fault", "peer", "tokyo")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheLogOfACollectorIsJSON(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(logFile(t, "PEERSTATE_LOG_FORMAT=json")), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %q, want the two lines from info up", lines)
	}
	for _, line := range lines {
		var record struct{ Level, Msg, Peer string }
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.Peer != "tokyo" || record.Msg == "" {
			t.Errorf("%q is %+v, %v", line, record, err)
		}
	}
}

func TestALogThatIsNoTerminalHasNoColours(t *testing.T) {
	text := logFile(t)
	if strings.Contains(text, "\x1b") || !strings.Contains(text, "an event peer=tokyo") {
		t.Errorf("got %q", text)
	}
}

func TestTheLevelDecidesWhatIsLogged(t *testing.T) {
	for level, want := range map[string]int{"debug": 3, "info": 2, "warn": 1, "error": 0} {
		if got := strings.Count(logFile(t, "PEERSTATE_LOG_LEVEL="+level), "\n"); got != want {
			t.Errorf("at %s %d lines are logged, want %d", level, got, want)
		}
	}
}
