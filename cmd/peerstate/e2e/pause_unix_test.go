//go:build !windows

package e2e

import (
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
