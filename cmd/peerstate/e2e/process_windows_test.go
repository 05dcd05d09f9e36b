package e2e

import (
	"crypto/rand"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func (n *node) pause(t *testing.T) { t.Skip("a process cannot be stopped and go on here") }

func (n *node) goOn(*testing.T) {}

// interrupt asks a process to stop by its control pipe: Ctrl-C is for all that have the console. Where no other
// node is left the command fails, and the process stops all the same.
func (n *node) interrupt() {
	n.farm.t.Helper()
	if out, err := n.commandFor("drain").CombinedOutput(); err != nil && !strings.Contains(string(out), "no other node is linked") {
		n.farm.t.Fatalf("%s: drain: %v\n%s", n.name, err, out)
	}
}

// needsCtrlC is for tests that need more of a stop than interrupt gives here.
func needsCtrlC(t *testing.T) {
	t.Helper()
	t.Skip("Ctrl-C is for all that have the console, this test too")
}

// interruptCommand ends a command, which cannot be asked to here.
func interruptCommand(t *testing.T, c *exec.Cmd) (asked bool) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	return false
}

// newSocket picks a control pipe.
func newSocket(testing.TB) string { return `\\.\pipe\peerstate-e2e-` + rand.Text() }

// freed waits until the port of a process that was killed is free: that is a moment after the process has ended, and
// under Wine not always so.
func (n *node) freed() {
	n.farm.t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.ListenPacket("udp", n.peer)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			n.farm.t.Skipf("the system does not free the port of a process that was killed: %v", err)
		}
	}
}
