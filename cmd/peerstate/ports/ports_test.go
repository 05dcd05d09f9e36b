package ports

import (
	"errors"
	"net"
	"strings"
	"testing"

	"peerstate/cmd/peerstate/settings"
)

func TestAPortThatCannotBeListenedOnIsAFaultThatSaysWhatToDo(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() { // whoever asks what this is hears nothing, and not for a second
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()

	_, inUse := ListenTCP(t.Context(), "PEERSTATE_LISTEN", settings.ListenAddr(tcp.Addr().String()))
	_, udpInUse := ListenUDP(t.Context(), "PEERSTATE_PEER_LISTEN", settings.ListenAddr(udp.LocalAddr().String()))
	_, foreign := ListenTCP(t.Context(), "PEERSTATE_LISTEN", "192.0.2.1:0") // for documentation (RFC 5737)
	for _, c := range []struct {
		err        error
		is         error
		what, mend string
	}{
		{inUse, ErrInUse, "PEERSTATE_LISTEN: cannot listen on TCP " + tcp.Addr().String() + ", another program has the port", "another port"},
		{udpInUse, ErrInUse, "PEERSTATE_PEER_LISTEN: cannot listen on UDP " + udp.LocalAddr().String() + ", another program has the port", "another port"},
		{foreign, errAddrNotAvailable, "this machine does not have that address", "an address of this machine"},
	} {
		f, ok := errors.AsType[*Fault](c.err)
		if !ok {
			t.Errorf("%v is no fault", c.err)
			continue
		}
		if !errors.Is(f, c.is) || !strings.Contains(f.What, c.what) || !strings.Contains(f.Mend, c.mend) || !strings.Contains(f.Error(), f.Mend) {
			t.Errorf("%q, %q; want %q, %q and %v in it", f.What, f.Mend, c.what, c.mend, c.is)
		}
	}
}

func TestAFreePortIsListenedOn(t *testing.T) {
	l, err := ListenTCP(t.Context(), "PEERSTATE_LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ListenUDP(t.Context(), "PEERSTATE_PEER_LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), c.Close()); err != nil {
		t.Error(err)
	}
}
