package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// pollFD is WSAPOLLFD of winsock2.h, and the constants are from there too.
type pollFD struct {
	fd      uintptr
	events  int16
	revents int16
}

const (
	pollReadNormal = 0x0100                   // POLLRDNORM
	pollEnded      = 0x0001 | 0x0002 | 0x0004 // POLLERR, POLLHUP, POLLNVAL
	msgPeek        = 0x2                      // MSG_PEEK
)

// ended looks at the next byte of a socket, which stays there. It asks with WSAPoll first, because
// a peek would wait: Go's sockets are in blocking mode on Windows. A connection that the other
// side closed in good order is readable, with nothing to read.
func ended(fd uintptr) bool {
	p := pollFD{fd: fd, events: pollReadNormal}
	// Not wsaPoll.Call, which would put p on the heap with each answer.
	n, _, _ := syscall.SyscallN(wsaPoll.Addr(), uintptr(unsafe.Pointer(&p)), 1, 0) // the error is in n
	if int32(n) <= 0 {
		return false
	}
	if p.revents&pollEnded != 0 {
		return true
	}
	var b [1]byte
	buf := windows.WSABuf{Len: 1, Buf: &b[0]}
	var got, flags uint32 = 0, msgPeek
	err := windows.WSARecv(windows.Handle(fd), &buf, 1, &got, &flags, nil, nil)
	return err != nil || got == 0
}
