// Package demotest is what the tests of the demonstrations share.
package demotest

import (
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"peerstate/examples/demo"
)

// Build builds the program of a package into dir.
func Build(t *testing.T, dir, pkg string) string {
	t.Helper()
	program := filepath.Join(dir, filepath.Base(pkg))
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", program, pkg).CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return program
}

// Sites are some with their files in dir, and addresses that nothing else uses.
func Sites(t *testing.T, dir string, names ...string) (sites []*demo.Site) {
	t.Helper()
	for _, name := range names {
		s := demo.NewSite(name, dir, 0)
		s.Web, s.Peer, s.Admin = FreeTCP(t), freeUDP(t), FreeTCP(t)
		sites = append(sites, s)
	}
	return sites
}

// FreeTCP picks an address that nothing else uses just now.
func FreeTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func freeUDP(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}
