package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/ports"
	"peerstate/store/journal"
)

const (
	// handBack is how long a start waits for what another process has. The system gives the directory, the ports and the control
	// socket of a process that was killed free a little later than it says that the process is gone, on Windows, or than
	// whoever killed it goes on, which may start the next at once: first all its memory is freed.
	handBack = 2 * time.Second
	// handBackAgain is the pause between two tries.
	handBackAgain = 20 * time.Millisecond
)

// handedBack takes something by calling take, and tries again for a while if another process has it.
func handedBack[T any](ctx context.Context, log *slog.Logger, take func() (T, error)) (T, error) {
	end := time.Now().Add(handBack)
	said := false
	for {
		x, err := take()
		if err == nil || !taken(err) || !time.Now().Before(end) {
			return x, err
		}
		if !said {
			log.Info("another process has what this one needs; it is waited for, in case it is just ending", "for", handBack, "reason", err)
			said = true
		}
		select {
		case <-time.After(handBackAgain):
		case <-ctx.Done():
			return x, err
		}
	}
}

// taken tells whether something failed since another process has it.
func taken(err error) bool {
	return errors.Is(err, journal.ErrInUse) || errors.Is(err, ports.ErrInUse) || errors.Is(err, control.ErrInUse)
}
