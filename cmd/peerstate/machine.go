package main

import (
	"fmt"
	"net"
	"path/filepath"
	"syscall"
)

// machine is what the system gives this process.
type machine struct {
	Files   uint64 `json:"files"`   // that it may have open, connections among them; 0: no limit, or it cannot be told
	Receive int    `json:"receive"` // bytes that the system buffers for a UDP socket, as far as the process may ask for
	Send    int    `json:"send"`
	Memory  uint64 `json:"memory"` // bytes
}

// thisMachine asks the system.
func thisMachine() (m machine, err error) {
	m.Files = mostFiles()
	if m.Receive, m.Send, err = udpBuffers(); err != nil {
		return m, err
	}
	if m.Memory, err = memory(); err != nil {
		return m, fmt.Errorf("find out how much memory there is: %w", err)
	}
	return m, nil
}

// wantedBuffer is what quic-go asks for (sys_conn_buffers_nonopenbsd.go in 0.65).
const wantedBuffer = 7 << 20

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
	_ = conn.SetReadBuffer(wantedBuffer)
	_ = conn.SetWriteBuffer(wantedBuffer)
	receive, send, err = buffersOf(raw)
	if err == nil && (receive < wantedBuffer || send < wantedBuffer) {
		forceBuffers(raw, wantedBuffer)
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

// existing is the nearest directory above path that exists, or path itself.
func existing(path string, exists func(string) bool) string {
	for !exists(path) {
		up := filepath.Dir(path)
		if up == path {
			break
		}
		path = up
	}
	return path
}
