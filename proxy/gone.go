package proxy

import (
	"net"
	"syscall"
)

// goneCheck tells whether the client has closed its side of a connection, without reading from it
// and without waiting.
type goneCheck struct {
	raw  syscall.RawConn // nil: not a socket, so it cannot be told
	look func(fd uintptr)
	gone *bool
}

func newGoneCheck(nc net.Conn) goneCheck {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return goneCheck{}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return goneCheck{} // closed already: the first read will say so
	}
	gone := new(bool)
	return goneCheck{raw: raw, gone: gone, look: func(fd uintptr) { *gone = ended(fd) }}
}

// check costs one system call. Bytes that the client sent ahead hide that it closed afterwards.
func (g *goneCheck) check() bool {
	if g.raw == nil {
		return false
	}
	if err := g.raw.Control(g.look); err != nil {
		return true // closed on this side
	}
	return *g.gone
}
