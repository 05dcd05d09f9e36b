package machine

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// forceBuffers: nothing is to be forced here.
func forceBuffers(syscall.RawConn, int) {}

// LargerBuffers is what an administrator types.
const LargerBuffers = "sysctl -w kern.ipc.maxsockbuf=8441037"

// memory is how many bytes this machine has.
func memory() (uint64, error) { return unix.SysctlUint64("hw.memsize") }
