//go:build !windows

package transport

import (
	"errors"
	"net"
	"syscall"
)

// hearResets has nothing to do: a connected socket hears of a closed port.
func hearResets(*net.UDPConn) {}

// portClosed tells whether the other machine said that the port is closed.
func portClosed(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
