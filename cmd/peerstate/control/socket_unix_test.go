//go:build !windows

package control

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func socketIn(t *testing.T) string { return filepath.Join(t.TempDir(), "deep", "control.sock") }

func TestOnlyTheOwnerMayOpenTheSocket(t *testing.T) {
	info, err := os.Stat(listening(t))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("its mode is %o", mode)
	}
}

func TestTheSocketOfAKilledSidecarIsTakenOver(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as after kill -9
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatKeepsASocketFromBeingMadeIsSaidBeforehand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ socket, wrong string }{
		"new":                {filepath.Join(dir, "new"), ""},
		"in a new directory": {filepath.Join(dir, "not", "yet", "new"), ""},
		"left by a crash":    {listening(t), ""},
		"a file":             {file, "is a file, and not a control socket"},
		"below a file":       {filepath.Join(file, "new"), "cannot be made"},
		"too long":           {filepath.Join(dir, strings.Repeat("x", longest)), "may have"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(c.socket)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("it says %v", err)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("it left %v, %v", entries, err)
	}
	if _, err := Listen(t.Context(), file); err == nil {
		t.Error("a file was taken for a socket")
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "kept" {
		t.Errorf("the file is %q, %v", data, err)
	}
}
