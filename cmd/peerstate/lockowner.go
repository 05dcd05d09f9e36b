package main

import (
	"net"
	"strconv"
	"time"

	"peerstate/cmd/peerstate/process"
	"peerstate/transport"
)

// lockOwner says who was at the other end of a web server's connection from that port some time ago, and has a session's
// lock from it. The connection goes back to the web server's pool while the page still runs, and may be closed.
func (n *sidecar) lockOwner(port uint16, ago time.Duration) transport.Client {
	addr := n.web.ClientAt(port, ago)
	if addr == "" {
		host, _, err := net.SplitHostPort(string(n.settings.Listen))
		if err != nil || !n.settings.Listen.IsLoopback() {
			host = "" // it may have been any machine
		}
		return transport.Client{Addr: net.JoinHostPort(host, strconv.Itoa(int(port)))}
	}
	c := transport.Client{Addr: addr, Open: true}
	if isThisMachine(addr) {
		c.PID, c.Process = process.At(port, uint16(n.webPort.Load()))
	}
	return c
}

// isThisMachine tells whether an address, with a port, is one of this machine's.
func isThisMachine(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	if err != nil || ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	mine, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range mine {
		if own, ok := a.(*net.IPNet); ok && own.IP.Equal(ip) {
			return true
		}
	}
	return false
}
