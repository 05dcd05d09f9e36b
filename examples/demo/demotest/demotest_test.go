package demotest

import (
	"net"
	"testing"
)

func TestEachSiteHasAddressesOfItsOwnThatAreFree(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for _, s := range Sites(t, dir, "london", "tokyo") {
		for _, tcp := range []string{s.Web, s.Admin} {
			l, err := net.Listen("tcp", tcp)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				continue
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		udp, err := net.ListenPacket("udp", s.Peer)
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
		} else if err := udp.Close(); err != nil {
			t.Error(err)
		}
		for _, what := range []string{"tcp " + s.Web, "tcp " + s.Admin, "udp " + s.Peer, s.Log, s.Env} {
			if seen[what] {
				t.Errorf("%s has %s, as another has", s.Name, what)
			}
			seen[what] = true
		}
	}
}
