//go:build !windows

package demo

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// apart keeps Ctrl-C from a command that is to be stopped by interrupt.
func apart(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// interrupt asks a process to stop, as Ctrl-C does.
func interrupt(p *os.Process) error {
	if err := p.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
