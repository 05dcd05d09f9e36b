//go:build !windows

package control

import (
	"net"
	"os"
	"path/filepath"
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
