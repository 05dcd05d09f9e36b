//go:build !windows

package service

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listenAsSystemd opens a socket to be told on, and gives what comes: one message a receive.
func listenAsSystemd(t *testing.T) (receive func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestSystemdIsToldHowTheServiceDoes(t *testing.T) {
	receive := listenAsSystemd(t)
	err := Run(t.Context(), func(_ context.Context, s Supervisor) error {
		s.Watch(func() { t.Error("without a watchdog it is asked whether it is alive") })
		for _, c := range []struct {
			phase Phase
			says  string
		}{{Starting, "STATUS=starting"}, {Ready, "READY=1"}, {Reloading, "RELOADING=1\nMONOTONIC_USEC="}, {Ready, "READY=1"}, {Stopping, "STOPPING=1"}} {
			s.Report(c.phase)
			if got := receive(); !strings.HasPrefix(got, c.says) {
				t.Errorf("systemd was told %q, want %q", got, c.says)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAServiceThatHangsStopsFeedingTheWatchdog(t *testing.T) {
	receive := listenAsSystemd(t)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "30000")
	failed := errors.New("it ends")
	hangs, fed := make(chan struct{}), 0
	err := Run(t.Context(), func(_ context.Context, s Supervisor) error {
		s.Watch(func() {
			if fed == 3 {
				<-hangs
			}
			fed++
		})
		for range 3 {
			if got := receive(); got != "WATCHDOG=1" {
				t.Errorf("systemd was told %q", got)
			}
		}
		s.Report(Stopping)
		if got := receive(); got != "STOPPING=1" { // and nothing else, while it hangs
			t.Errorf("systemd was told %q", got)
		}
		close(hangs)
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
}

func TestWithoutSystemdNobodyIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Run(t.Context(), func(_ context.Context, s Supervisor) error { s.Report(Ready); return nil }); err != nil {
		t.Error(err)
	}
}
