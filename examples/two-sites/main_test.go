package main

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"peerstate/examples/demo/demotest"
)

func TestTheTwoSitesShareASession(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	program, sites := demotest.Build(t, t.TempDir(), "peerstate/cmd/peerstate"), demotest.Sites(t, dir, "london", "tokyo")
	var out bytes.Buffer
	if err := run(t.Context(), &out, program, dir, true, sites...); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"tokyo: the page there fetches it", "It waited for the lock, for as long as PEERSTATE_LOCK_WAIT says: 400 ms.", `stateConnectionString="tcpip=` + sites[0].Web, "http://" + sites[1].Admin + "/",
		"Both have stopped."} {
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
	dir := filepath.Join(t.TempDir(), "run")
	program, sites := demotest.Build(t, t.TempDir(), "peerstate/cmd/peerstate"), demotest.Sites(t, dir, "london", "tokyo")
	sites[0].Web = taken.Addr().String()
	var out bytes.Buffer
	err = run(t.Context(), &out, program, dir, true, sites...)
	if err == nil || !strings.Contains(err.Error(), "another program has the port") {
		t.Errorf("it said %v", err)
	}
}
