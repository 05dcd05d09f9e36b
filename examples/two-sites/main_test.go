package main

import (
	"bytes"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestTheTwoSitesShareASession(t *testing.T) {
	program, dir, sites := demonstration(t)
	var out bytes.Buffer
	if err := run(t.Context(), &out, program, filepath.Join(dir, "run"), true, sites...); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"tokyo: the page there fetches it", `stateConnectionString="tcpip=` + sites[0].web, "Both have stopped."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it did not print %q:\n%s", want, &out)
		}
	}
}

func TestASiteThatCannotStartIsSaidWithItsLog(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	program, dir, sites := demonstration(t)
	sites[0].web = taken.Addr().String()
	var out bytes.Buffer
	err = run(t.Context(), &out, program, filepath.Join(dir, "run"), true, sites...)
	if err == nil || !strings.Contains(err.Error(), "another program has the port") {
		t.Errorf("it said %v", err)
	}
}

// demonstration builds the program and picks addresses for two sites.
func demonstration(t *testing.T) (program, dir string, sites []*site) {
	t.Helper()
	dir = t.TempDir()
	program = filepath.Join(dir, "peerstate")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", program, "peerstate/cmd/peerstate").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	for _, name := range []string{"london", "tokyo"} {
		s := newSite(name, filepath.Join(dir, "run"), 0)
		s.web, s.peer, s.admin = freeTCP(t), freeUDP(t), freeTCP(t)
		sites = append(sites, s)
	}
	return program, dir, sites
}

// freeTCP picks an address that nothing else uses just now.
func freeTCP(t *testing.T) string {
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
