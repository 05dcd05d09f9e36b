package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"peerstate/cmd/peerstate/settings"
)

// portFault is why an address cannot be listened on, and how to mend it.
type portFault struct {
	what, mend string
	err        error
}

func (f *portFault) Error() string { return f.what + ": " + f.mend }
func (f *portFault) Unwrap() error { return f.err }

// listenTCP listens on the address of a setting. The error is a portFault.
func listenTCP(ctx context.Context, setting string, addr settings.ListenAddr) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", string(addr))
	if err != nil {
		return nil, explainListen(ctx, setting, "TCP", addr, err)
	}
	return l, nil
}

// listenUDP does the same for UDP.
func listenUDP(ctx context.Context, setting string, addr settings.ListenAddr) (net.PacketConn, error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "udp", string(addr))
	if err != nil {
		return nil, explainListen(ctx, setting, "UDP", addr, err)
	}
	return c, nil
}

func explainListen(ctx context.Context, setting, network string, addr settings.ListenAddr, err error) *portFault {
	f := &portFault{err: err, what: fmt.Sprintf("%s: cannot listen on %s %s", setting, network, addr)}
	switch {
	case errors.Is(err, errAddrInUse):
		f.what += ", another program has the port"
		f.mend = "stop that program, or set " + setting + " to another port"
		if network == "TCP" {
			f.whoHas(ctx, setting, addr)
		}
	case errors.Is(err, errAddrNotAvailable):
		f.what += ", this machine does not have that address"
		f.mend = "set " + setting + " to an address of this machine"
	case errors.Is(err, os.ErrPermission), errors.Is(err, errAccess):
		f.what += ", the system does not allow it"
		f.mend = "set " + setting + " to a port above 1023 that nothing else has reserved"
	default:
		f.what += ": " + err.Error()
		f.mend = "set " + setting + " to an address and port of this machine"
	}
	return f
}

// whoHas adds who it is that has a port, as far as it can be told.
func (f *portFault) whoHas(ctx context.Context, setting string, addr settings.ListenAddr) {
	if aspnetStateRuns() {
		f.what = fmt.Sprintf("%s: cannot listen on %s while Microsoft's own state service runs", setting, addr)
		f.mend = disableASPNETState
		return
	}
	if who := whoAnswers(ctx, addr); who != "" {
		f.what += "; " + who + " answers there"
	}
}

// disableASPNETState is what an administrator types to make room for us.
const disableASPNETState = "stop it for good, as administrator: sc stop aspnet_state & sc config aspnet_state start= disabled"

// whoAnswers asks the program that listens on addr, in the state protocol, what it is. It changes
// nothing there. The answer is "" if nothing useful comes within a second.
func whoAnswers(ctx context.Context, addr settings.ListenAddr) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr.Reachable())
	if err != nil {
		return ""
	}
	defer nc.Close() // only a question was asked
	deadline, _ := ctx.Deadline()
	if err := nc.SetDeadline(deadline); err != nil {
		return ""
	}
	if _, err := fmt.Fprint(nc, "HEAD %2fpeerstate%2fcheck HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return ""
	}
	answer, err := http.ReadResponse(bufio.NewReader(nc), &http.Request{Method: http.MethodHead})
	if err != nil {
		return ""
	}
	defer answer.Body.Close() // empty
	if v := answer.Header.Get("X-AspNet-Version"); v != "" {
		return fmt.Sprintf("a state server (X-AspNet-Version %.20q: a peerstate, or Microsoft's service)", v)
	}
	if v := answer.Header.Get("Server"); v != "" {
		return fmt.Sprintf("a web server (%.40q)", v)
	}
	return "a web server"
}
