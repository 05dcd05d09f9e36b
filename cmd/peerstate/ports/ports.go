// Package ports listens on the addresses of settings, and says of one that cannot be listened on why, who has it, and what to do.
package ports

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"peerstate/cmd/peerstate/settings"
)

// Fault is why an address cannot be listened on, and how to mend it.
type Fault struct {
	What, Mend string
	err        error
}

func (f *Fault) Error() string { return f.What + ": " + f.Mend }
func (f *Fault) Unwrap() error { return f.err }

// ListenTCP listens on the address of a setting. An error is a *Fault.
func ListenTCP(ctx context.Context, setting string, addr settings.ListenAddr) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", string(addr))
	if err != nil {
		return nil, explainListen(ctx, setting, "TCP", addr, err)
	}
	return l, nil
}

// ListenUDP does the same for UDP.
func ListenUDP(ctx context.Context, setting string, addr settings.ListenAddr) (net.PacketConn, error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "udp", string(addr))
	if err != nil {
		return nil, explainListen(ctx, setting, "UDP", addr, err)
	}
	return c, nil
}

func explainListen(ctx context.Context, setting, network string, addr settings.ListenAddr, err error) *Fault {
	f := &Fault{err: err, What: fmt.Sprintf("%s: cannot listen on %s %s", setting, network, addr)}
	switch {
	case errors.Is(err, ErrInUse):
		f.What += ", another program has the port"
		f.Mend = "stop that program, or set " + setting + " to another port"
		if network == "TCP" {
			f.whoHas(ctx, setting, addr)
		}
	case errors.Is(err, errAddrNotAvailable):
		f.What += ", this machine does not have that address"
		f.Mend = "set " + setting + " to an address of this machine"
	case errors.Is(err, os.ErrPermission), errors.Is(err, errAccess):
		f.What += ", the system does not allow it"
		f.Mend = "set " + setting + " to a port above 1023 that nothing else has reserved"
	default:
		f.What += ": " + err.Error()
		f.Mend = "set " + setting + " to an address and port of this machine"
	}
	return f
}

// whoHas adds who it is that has a port, as far as it can be told.
func (f *Fault) whoHas(ctx context.Context, setting string, addr settings.ListenAddr) {
	if ASPNETStateRuns() {
		f.What = fmt.Sprintf("%s: cannot listen on %s while Microsoft's own state service runs", setting, addr)
		f.Mend = DisableASPNETState
		return
	}
	if who := whoAnswers(ctx, addr); who != "" {
		f.What += "; " + who + " answers there"
		return
	}
	if _, port, err := net.SplitHostPort(string(addr)); err == nil && nobodyListens(ctx, addr) {
		f.What = fmt.Sprintf("%s: cannot listen on TCP %s: nobody listens there, but a connection of another program goes out from that port, or did in the last minute", setting, addr)
		f.Mend = fmt.Sprintf("start again in a minute; on Linux keep such connections off the port: sysctl -w net.ipv4.ip_local_reserved_ports=%s (lasting in /etc/sysctl.d)", port)
	}
}

// nobodyListens tells that a port which is in use is not one that a program listens on: the system gives such ports to connections.
func nobodyListens(ctx context.Context, addr settings.ListenAddr) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr.Reachable())
	if err == nil {
		_ = nc.Close() // only a question was asked
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// DisableASPNETState is what an administrator types to make room for us.
const DisableASPNETState = "stop it for good, as administrator: cmd /c \"sc stop aspnet_state & sc config aspnet_state start= disabled\""

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
