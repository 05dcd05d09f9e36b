package service

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEachEventIsSomethingThatIsLogged(t *testing.T) {
	var source strings.Builder
	root := filepath.Join("..", "..", "..")
	for _, dir := range []string{"cmd", "proxy", "store", "transport", "certs"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || d.Name() == "events.go" {
				return err
			}
			text, err := os.ReadFile(path)
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range events {
		if !strings.Contains(source.String(), e.text) {
			t.Errorf("nothing logs %q", e.text)
		}
	}
}

func TestTheREADMESaysWhatToDoForEachEvent(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[uint32]bool{eventReady: true, eventStopping: true, eventStopped: true, eventWarning: true, eventError: true}
	for _, e := range events {
		ids[e.id] = true
	}
	for id := range ids {
		if !strings.Contains(string(readme), fmt.Sprintf("\n| %d |", id)) {
			t.Errorf("nothing about event %d", id)
		}
	}
}

func TestWhatStartsStopsWarnsAndFailsIsAnEvent(t *testing.T) {
	for _, c := range []struct {
		level slog.Level
		text  string
		want  uint32
	}{
		{slog.LevelInfo, "ready", eventReady},
		{slog.LevelInfo, "stopping", eventStopping},
		{slog.LevelInfo, "stopped", eventStopped},
		{slog.LevelInfo, "linked", 0},
		{slog.LevelDebug, "ready", 0},
		{slog.LevelWarn, "a node is out: it has not been reachable for the grace time; its sessions are served from their backups", eventOut},
		{slog.LevelError, "this node is revoked: the farm has cut it off, nobody asks it for sessions, and it gets none of others", eventRevoked},
		{slog.LevelError, "changes of sessions do not get to disk; it is tried again until it works", eventDisk},
		{slog.LevelWarn, "something new", eventWarning},
		{slog.LevelError, "something new", eventError},
	} {
		id, ok := eventOf(slog.NewRecord(time.Time{}, c.level, c.text, 0))
		if id != c.want || ok != (c.want != 0) {
			t.Errorf("%v %q is event %d, %v; want %d", c.level, c.text, id, ok, c.want)
		}
	}
}
