//go:build !windows

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// pause stops a process where it is, as a suspended machine does.
func (n *node) pause(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func (n *node) goOn(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// interrupt asks a process to stop, as Ctrl-C does.
func (n *node) interrupt() {
	n.farm.t.Helper()
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		n.farm.t.Fatal(err)
	}
}

// newSocket picks a control socket. Its path can have only some 100 characters, and a test's directory has
// its name in it.
func newSocket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "control")
}

// needsCtrlC is for tests that need more of a stop than other systems have.
func needsCtrlC(*testing.T) {}

// interruptCommand asks a command to end, as Ctrl-C does.
func interruptCommand(t *testing.T, c *exec.Cmd) (asked bool) {
	t.Helper()
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	return true
}

// freed: the port of a process that was killed is free when the process has ended.
func (n *node) freed() {}
