// Package machine measures what the system gives a process: open files, buffers of UDP sockets, memory, room on a disk.
package machine

import (
	"fmt"
	"net"
	"syscall"
)

// Limits is what the system gives this process.
type Limits struct {
	Files   uint64 `json:"files"`   // that it may have open, connections among them; 0: no limit, or it cannot be told
	Receive int    `json:"receive"` // bytes that the system buffers for a UDP socket, as far as the process may ask for
	Send    int    `json:"send"`
	Memory  uint64 `json:"memory"` // bytes
}

// Measure asks the system. For the buffers it opens a UDP socket, on loopback, and closes it again.
func Measure() (m Limits, err error) {
	m.Files = mostFiles()
	if m.Receive, m.Send, err = udpBuffers(); err != nil {
		return m, err
	}
	if m.Memory, err = memory(); err != nil {
		return m, fmt.Errorf("find out how much memory there is: %w", err)
	}
	return m, nil
}

// WantedBuffer is what quic-go asks for (sys_conn_buffers_nonopenbsd.go in 0.65).
const WantedBuffer = 7 << 20

// udpBuffers gives how large the buffers of a UDP socket become that asks in the way in which quic-go does.
func udpBuffers() (receive, send int, err error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, 0, fmt.Errorf("open a UDP socket: %w", err)
	}
	defer conn.Close() // it was only measured
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, fmt.Errorf("measure a UDP socket: %w", err)
	}
	// Whether these two do what was asked is what the measurement tells.
	_ = conn.SetReadBuffer(WantedBuffer)
	_ = conn.SetWriteBuffer(WantedBuffer)
	receive, send, err = buffersOf(raw)
	if err == nil && (receive < WantedBuffer || send < WantedBuffer) {
		forceBuffers(raw, WantedBuffer)
		receive, send, err = buffersOf(raw)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("measure a UDP socket: %w", err)
	}
	return receive, send, nil
}

// buffersOf reads both sizes in the system's own count.
func buffersOf(raw syscall.RawConn) (receive, send int, err error) {
	failed := raw.Control(func(fd uintptr) {
		if receive, err = socketOption(fd, syscall.SO_RCVBUF); err == nil {
			send, err = socketOption(fd, syscall.SO_SNDBUF)
		}
	})
	if failed != nil {
		return 0, 0, failed
	}
	return receive, send, err
}
