package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/settings"
	"peerstate/store/journal"
)

func TestWhatAnotherProcessHasIsWaitedForForAMoment(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		free time.Duration // when what is needed is free
		err  error         // until then
		took time.Duration
		ok   bool
	}{
		{0, nil, 0, true},
		{500 * time.Millisecond, journal.ErrInUse, 500 * time.Millisecond, true},
		{time.Minute, journal.ErrInUse, handBack, false},
		{time.Minute, other, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log logged
			begun := time.Now()
			_, err := handedBack(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), func() (int, error) {
				if time.Since(begun) < c.free {
					return 0, fmt.Errorf("the thing: %w", c.err)
				}
				return 0, nil
			})
			if took := time.Since(begun); took != c.took || (err == nil) != c.ok || !c.ok && !errors.Is(err, c.err) {
				t.Errorf("%+v: after %v it is %v", c, took, err)
			}
			if n := strings.Count(log.String(), "waited for"); n > 1 || (n == 1) != (c.took > 0) || n == 1 && !strings.Contains(log.String(), "the thing") {
				t.Errorf("%+v: it says %s", c, &log)
			}
		})
	}
}

// The next process may begin before the system has taken from one that was killed what it had.
func TestANodeStartsAtOnceAfterOneThatIsJustEnding(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "control")
	if control.Check(socket) != nil { // the name of a pipe
		socket = `\\.\pipe\peerstate-test-` + filepath.Base(dir)
	}
	held := startSidecar(t, "PEERSTATE_DATA_DIR="+filepath.Join(dir, "data"), "PEERSTATE_CONTROL="+socket)
	s := mustSettings(t, "PEERSTATE_LISTEN="+held.web, "PEERSTATE_ADMIN_LISTEN="+held.admin, "PEERSTATE_DATA_DIR="+filepath.Join(dir, "data"), "PEERSTATE_CONTROL="+socket)
	time.AfterFunc(300*time.Millisecond, func() {
		if err := held.stop(); err != nil {
			t.Error(err)
		}
	})
	next := startSidecarWith(t, s)
	if next.web != held.web || next.admin != held.admin {
		t.Errorf("it listens on %s and %s", next.web, next.admin)
	}
	for _, wrong := range []string{"level=WARN", "level=ERROR"} {
		if strings.Contains(next.log.String(), wrong) {
			t.Errorf("it says\n%s", next.log)
		}
	}
	if !strings.Contains(next.log.String(), "another process uses it") {
		t.Errorf("it does not say what it waits for:\n%s", next.log)
	}
}

func TestAPortThatIsJustBeingFreedIsWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := mustSettings(t, "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=127.0.0.1:0")
	s.Listen = settings.ListenAddr(l.Addr().String())
	if r := startSidecarWith(t, s); r.web != l.Addr().String() {
		t.Errorf("it listens on %s", r.web)
	}
}
