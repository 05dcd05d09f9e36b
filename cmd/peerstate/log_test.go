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
	log := newLogger(f, mustSettings(t, environ...))
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

func TestALogFileIsMadeWithItsDirectoryAndTakesUpWhereItWas(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log", "peerstate.log")
	for range 2 {
		log, closeLog, err := openLog(file, mustSettings(t))
		if err != nil {
			t.Fatal(err)
		}
		log.Info("an event")
		if err := closeLog(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "an event") != 2 {
		t.Errorf("it holds %q, %v", text, err)
	}
}

func TestALogFileThatCannotBeWrittenIsSaidAtOnce(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := openLog(dir, mustSettings(t)); err == nil || !strings.Contains(err.Error(), "--log-file") {
		t.Errorf("error %v", err)
	}
}

func TestAFullLogFileIsPutAside(t *testing.T) {
	dir := t.TempDir()
	log, closeLog, err := openLog(filepath.Join(dir, "peerstate.log"), mustSettings(t))
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 1<<20)
	for range logSize + 1 {
		log.Info(line)
	}
	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) != 2 {
		t.Errorf("the files are %v, %v", files, err)
	}
}
