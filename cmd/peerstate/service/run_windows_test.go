package service

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/windows/svc"
)

// run is a sidecar under a service manager that the test plays.
type run struct {
	requests chan svc.ChangeRequest
	statuses []svc.Status
	specific bool
	code     uint32
	ended    chan struct{}
}

func start(sidecar func(context.Context, Supervisor) error) *run {
	r := &run{requests: make(chan svc.ChangeRequest), ended: make(chan struct{})}
	tell, heard := make(chan svc.Status), make(chan struct{})
	go func() {
		defer close(heard)
		for s := range tell {
			r.statuses = append(r.statuses, s)
		}
	}()
	go func() {
		defer close(r.ended)
		r.specific, r.code = (&handler{ctx: context.Background(), sidecar: sidecar}).Execute(nil, r.requests, tell)
		close(tell)
		<-heard
	}()
	return r
}

// last waits until all is quiet, and gives what Windows was told last.
func (r *run) last() svc.Status {
	synctest.Wait()
	return r.statuses[len(r.statuses)-1]
}

func TestWindowsSeesAStartThatGoesOnAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(func(ctx context.Context, s Supervisor) error {
			time.Sleep(10*time.Second + 1)
			s.Report(Ready)
			<-ctx.Done()
			return nil
		})
		time.Sleep(10 * time.Second)
		if s := r.last(); s.State != svc.StartPending || s.CheckPoint < 9 || s.WaitHint < 10_000 {
			t.Errorf("after 10 s Windows was told %+v", s)
		}
		time.Sleep(time.Second)
		if s := r.last(); s.State != svc.Running || s.Accepts != svc.AcceptStop|svc.AcceptPreShutdown {
			t.Errorf("when it was ready Windows was told %+v", s)
		}
		r.requests <- svc.ChangeRequest{Cmd: svc.Stop}
		<-r.ended
		if r.specific || r.code != 0 {
			t.Errorf("it ended with %v, %d", r.specific, r.code)
		}
	})
}

func TestAShutdownOfWindowsWaitsForAHandOver(t *testing.T) {
	for _, cmd := range []svc.Cmd{svc.Stop, svc.PreShutdown} {
		synctest.Test(t, func(t *testing.T) {
			r := start(func(ctx context.Context, s Supervisor) error {
				s.Report(Ready)
				<-ctx.Done()
				s.Report(Stopping)
				time.Sleep(90*time.Second + 1)
				return nil
			})
			synctest.Wait()
			r.requests <- svc.ChangeRequest{Cmd: cmd}
			before := r.last()
			for range 9 {
				time.Sleep(10 * time.Second)
				s := r.last()
				if s.State != svc.StopPending || s.CheckPoint <= before.CheckPoint || s.WaitHint < 10_000 {
					t.Fatalf("after %+v Windows was told %+v", before, s)
				}
				before = s
			}
			<-r.ended
			if r.specific || r.code != 0 {
				t.Errorf("it ended with %v, %d", r.specific, r.code)
			}
		})
	}
}

func TestAServiceThatStopsByItselfShowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(func(_ context.Context, s Supervisor) error {
			s.Report(Ready)
			time.Sleep(time.Second)
			s.Report(Stopping)
			time.Sleep(5 * time.Second)
			return nil
		})
		time.Sleep(3 * time.Second)
		if s := r.last(); s.State != svc.StopPending {
			t.Errorf("Windows was told %+v", s)
		}
		<-r.ended
	})
}

func TestAFailureIsOneForTheRecoveryActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(func(context.Context, Supervisor) error { return errors.New("no port") })
		<-r.ended
		if !r.specific || r.code == 0 {
			t.Errorf("it ended with %v, %d", r.specific, r.code)
		}
	})
}
