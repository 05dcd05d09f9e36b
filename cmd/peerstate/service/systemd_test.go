package service

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestTheUnitNamesTheProgramAndTheSettings(t *testing.T) {
	text := unit(place)
	for _, line := range []string{
		`ExecStart="/opt/a b/50%% & <more>/peerstate" serve --env-file /etc/peerstate/peerstate.env`,
		"User=peerstate", "Type=notify", "StateDirectory=peerstate", "TimeoutStopSec=300",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	// A crash of a Go program ends with 2, as wrong settings do: it has to be started again.
	if strings.Contains(text, "RestartPreventExitStatus") {
		t.Error("there are exit codes after which it is not started again")
	}
}

func TestSystemdTakesTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("there is no systemd-analyze here")
	}
	dir := t.TempDir()
	p := place
	p.Program = filepath.Join(dir, "a b", "50%", "peerstate")
	if err := os.MkdirAll(filepath.Dir(p.Program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "peerstate.service")
	for text, good := range map[string]bool{unit(p): true, strings.Replace(unit(p), "Type=notify", "Type=nonsense", 1): false} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", file).CombinedOutput()
		if ok := err == nil && len(out) == 0; ok != good {
			t.Errorf("taken: %v, want %v (%v):\n%s", ok, good, err, out)
		}
	}
}
