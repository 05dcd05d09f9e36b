package ports

import (
	"errors"
	"net"
	"strings"
	"testing"

	"peerstate/cmd/peerstate/settings"
)

// Linux gives the ports from 32768 to connections, and so that of the state protocol.
func TestAPortThatAConnectionGoesOutFromIsSaidToBeThat(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	addr := out.LocalAddr().String()
	_, failed := ListenTCP(t.Context(), "PEERSTATE_LISTEN", settings.ListenAddr(addr))
	f, ok := errors.AsType[*Fault](failed)
	if !ok || !errors.Is(f, ErrInUse) || !strings.Contains(f.What, "a connection of another program goes out from that port") ||
		!strings.Contains(f.Mend, "ip_local_reserved_ports="+addr[strings.LastIndex(addr, ":")+1:]+" ") {
		t.Errorf("it says %v", failed)
	}
	if err := errors.Join(out.Close(), l.Close()); err != nil {
		t.Error(err)
	}
}
