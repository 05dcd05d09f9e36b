package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
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

func TestWhenOneSiteEndsTheOtherStaysUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	program, sites := demotest.Build(t, t.TempDir(), "peerstate/cmd/peerstate"), demotest.Sites(t, dir, "london", "tokyo")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lines, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, out, program, dir, false, sites...)
		ended <- errors.Join(err, out.Close())
	}()
	var seen strings.Builder
	for s := bufio.NewScanner(lines); s.Scan(); {
		seen.WriteString(s.Text() + "\n")
		switch {
		case strings.HasPrefix(s.Text(), "Both stay up"):
			if out, err := exec.Command(program, "drain", "--env-file", sites[1].Env).CombinedOutput(); err != nil {
				t.Errorf("drain: %v\n%s", err, out)
				stop()
			}
		case strings.HasPrefix(s.Text(), "To have tokyo back"):
			r, err := http.Get("http://" + sites[0].Admin + "/readyz")
			if err != nil || r.StatusCode != http.StatusOK {
				t.Errorf("london answers %v, %v", r, err)
			}
			if err == nil {
				r.Body.Close()
			}
			stop()
		}
	}
	if err := <-ended; err != nil || !strings.Contains(seen.String(), "tokyo has ended (normally). london stays up") || !strings.Contains(seen.String(), "Both have stopped.") {
		t.Errorf("it ended with %v, and printed\n%s", err, &seen)
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
