package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// forceBuffers asks past net.core.rmem_max and wmem_max, as an administrator may. What came of it is measured.
func forceBuffers(raw syscall.RawConn, size int) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size)
	})
}

// largerBuffers is what an administrator types.
const largerBuffers = "sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000, and the same two in a file of /etc/sysctl.d for the next start"
