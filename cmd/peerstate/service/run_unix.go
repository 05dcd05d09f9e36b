//go:build !windows

package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Run runs the sidecar, and tells systemd how it does, if that started it with Type=notify.
func Run(ctx context.Context, sidecar func(context.Context, Supervisor) error) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read what systemd says of its watchdog: %w", err)
	}
	s := &systemd{every: every}
	s.watching, s.stop = context.WithCancel(context.Background())
	err = sidecar(ctx, s)
	s.stop()
	s.running.Wait()
	return errors.Join(err, s.failed)
}

// systemd is told over the socket in $NOTIFY_SOCKET; without one nothing is sent.
type systemd struct {
	every    time.Duration // the unit's WatchdogSec; 0: none
	watching context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
	once     sync.Once
	failed   error // of the first report
}

func (s *systemd) Report(p Phase) {
	if _, err := daemon.SdNotify(false, state(p)); err != nil {
		s.once.Do(func() { s.failed = fmt.Errorf("tell systemd how the service does: %w", err) })
	}
}

func (s *systemd) Watch(alive func()) {
	if s.every > 0 {
		s.running.Go(func() { watchdog(s.watching, s.every/3, alive) })
	}
}

// state is a phase in systemd's words.
func state(p Phase) string {
	switch p {
	case Ready:
		return daemon.SdNotifyReady
	case Reloading:
		return daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec()
	case Stopping:
		return daemon.SdNotifyStopping
	}
	return "STATUS=starting"
}

// watchdog tells systemd again and again that the sidecar is alive, until ctx is done.
func watchdog(ctx context.Context, every time.Duration, alive func()) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		alive()
		// An error shows in what follows from it: systemd hears nothing, and acts.
		_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
