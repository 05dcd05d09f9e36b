package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/windows/svc"
)

// Run runs the sidecar. If Windows started it as a service, Windows is told how it does, and may stop it; a
// shutdown of Windows is a stop that Windows waits for. An error goes to the Event Log then.
func Run(ctx context.Context, sidecar func(context.Context, Supervisor) error) error {
	service, err := svc.IsWindowsService()
	if err != nil {
		return fmt.Errorf("find out whether this is a Windows service: %w", err)
	}
	if !service {
		return sidecar(ctx, Alone{})
	}
	h := &handler{ctx: ctx, sidecar: sidecar}
	if err := svc.Run(Name, h); err != nil {
		return fmt.Errorf("run as a Windows service: %w", err)
	}
	if h.err != nil {
		h.err = errors.Join(h.err, writeEvent(eventFailed, h.err.Error()))
	}
	return h.err
}

// handler answers the service manager.
type handler struct {
	ctx     context.Context
	sidecar func(context.Context, Supervisor) error
	err     error // what the sidecar ended with, for after Execute
}

// windowsService is the service manager as the sidecar sees it.
type windowsService struct {
	ctx    context.Context // until the sidecar is told to stop
	phases chan<- Phase
}

func (w windowsService) Report(p Phase) {
	select {
	case w.phases <- p:
	case <-w.ctx.Done(): // it is known to stop
	}
}

// Watch does nothing: Windows has no watchdog for services.
func (windowsService) Watch(func()) {}

const (
	// pulse is how often the service manager is shown that a start or a stop goes on.
	pulse = time.Second
	// patience is what it is asked to wait for the next time.
	patience = 20 * time.Second
	// accepted while the sidecar runs. A shutdown is announced before anything else is ended.
	accepted = svc.AcceptStop | svc.AcceptPreShutdown
)

// Execute runs the sidecar until it ends. It ends by itself only for a reason that is an error.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, tell chan<- svc.Status) (specific bool, code uint32) {
	ctx, stop := context.WithCancel(h.ctx)
	defer stop()
	phases, ended := make(chan Phase, 4), make(chan error, 1)
	go func() {
		ended <- h.sidecar(ctx, windowsService{ctx, phases})
	}()
	now := svc.Status{State: svc.StartPending, WaitHint: uint32(patience.Milliseconds())}
	tell <- now
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	stopping := func() {
		if now.State != svc.StopPending {
			now = svc.Status{State: svc.StopPending, CheckPoint: 1, WaitHint: uint32(patience.Milliseconds())}
			tell <- now
		}
		stop()
	}
	for {
		select {
		case h.err = <-ended:
			if h.err != nil && !errors.Is(h.err, context.Canceled) {
				return true, 1 // a failure, for the recovery actions
			}
			return false, 0
		case p := <-phases:
			switch {
			case p == Ready && now.State == svc.StartPending:
				now = svc.Status{State: svc.Running, Accepts: accepted}
				tell <- now
			case p == Stopping:
				stopping()
			}
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				tell <- r.CurrentStatus
			case svc.Stop, svc.PreShutdown, svc.Shutdown:
				stopping()
			}
		case <-beat.C:
			if now.State == svc.StartPending || now.State == svc.StopPending {
				now.CheckPoint++
				tell <- now
			}
		}
	}
}
