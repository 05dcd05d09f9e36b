package transport

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/windows"
)

// hearResets has a socket hear of a closed port, which Go turns off. If the system will not, a closed port is silence.
func hearResets(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		on, n := uint32(1), uint32(0)
		_ = windows.WSAIoctl(windows.Handle(fd), windows.SIO_UDP_CONNRESET, (*byte)(unsafe.Pointer(&on)), uint32(unsafe.Sizeof(on)), nil, 0, &n, nil, 0)
	})
}

// portClosed tells whether the other machine said that the port is closed.
func portClosed(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNREFUSED)
}
