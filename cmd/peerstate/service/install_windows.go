package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"peerstate/certs/private"
)

// Administrator is nil for who may install and control services, and otherwise says how to become that.
func Administrator() error {
	if windows.GetCurrentProcessToken().IsElevated() {
		return nil
	}
	return errors.New("this needs an administrator: open the command prompt with \"Run as administrator\"")
}

// command is the command line of the service, as Windows keeps it.
func command(p Place) string {
	return windows.ComposeCommandLine(append([]string{p.Program}, arguments(p)...))
}

func arguments(p Place) []string {
	return []string{"serve", "--env-file", p.Env, "--log-file", p.Log}
}

// Install has the system run the service from now on, and with each start of Windows. It does not start it. If a step
// fails the service is removed again. enclosed: its directory was there, and others could look into it or write there until now.
func Install(_ context.Context, p Place) (enclosed bool, err error) {
	m, err := connect()
	if err != nil {
		return false, err
	}
	defer disconnect(m)
	if s, err := m.OpenService(Name); err == nil {
		return false, errors.Join(ErrInstalled, s.Close())
	}
	if err := private.MakeDir(p.Data); err != nil {
		return false, fmt.Errorf("make the service's directory: %w", err)
	}
	if err := private.Trusted(p.Data); err != nil {
		return false, err
	}
	if enclosed, err = private.Enclose(p.Data); err != nil {
		return false, err
	}
	s, err := m.CreateService(Name, p.Program, mgr.Config{
		StartType: mgr.StartAutomatic, ErrorControl: mgr.ErrorNormal, ServiceStartName: p.Account,
		DisplayName: Name, Description: description,
	}, arguments(p)...)
	if err != nil {
		return enclosed, fmt.Errorf("make the service: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Delete())
		}
		err = errors.Join(err, s.Close())
	}()
	return enclosed, configure(s)
}

// configure sets what is not said when a service is made.
func configure(s *mgr.Service) error {
	delayed := windows.SERVICE_DELAYED_AUTO_START_INFO{IsDelayedAutoStartUp: 1}
	err := change(s, windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, (*byte)(unsafe.Pointer(&delayed)))
	if err != nil {
		return fmt.Errorf("have the service started after others: %w", err)
	}
	again := func(after time.Duration) mgr.RecoveryAction {
		return mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: after}
	}
	err = known(s.SetRecoveryActions([]mgr.RecoveryAction{again(2 * time.Second), again(10 * time.Second), again(time.Minute)}, 3600))
	if err != nil {
		return fmt.Errorf("have the service started again after a failure: %w", err)
	}
	// Also when it ends in good order, with an error.
	if err := known(s.SetRecoveryActionsOnNonCrashFailures(true)); err != nil {
		return fmt.Errorf("have the service started again after an error: %w", err)
	}
	// By itself Windows waits for 10 s, since version 10.
	limit := uint32(StopTime * 1000) // SERVICE_PRESHUTDOWN_INFO
	if err := change(s, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&limit))); err != nil {
		return fmt.Errorf("have a shutdown of Windows wait for the service: %w", err)
	}
	err = eventlog.InstallAsEventCreate(Name, eventlog.Error|eventlog.Warning|eventlog.Info)
	if err != nil && err.Error() != alreadyThere {
		return fmt.Errorf("make the source of events: %w", err)
	}
	return nil
}

// change sets one of the service's further settings.
func change(s *mgr.Service, level uint32, info *byte) error {
	return known(windows.ChangeServiceConfig2(s.Handle, level, info))
}

// known passes over what this Windows has no setting for: the service runs without it as well.
func known(err error) error {
	if errors.Is(err, windows.ERROR_INVALID_LEVEL) {
		return nil
	}
	return err
}

// alreadyThere is how eventlog says that a source exists, for which it has no error of its own.
const alreadyThere = `SYSTEM\CurrentControlSet\Services\EventLog\Application\` + Name + ` registry key already exists`

// Readable is nil if the service's account can run the program where it lies.
func Readable(program string) error {
	profiles, err := windows.KnownFolderPath(windows.FOLDERID_UserProfiles, 0)
	if err != nil || !below(program, profiles) {
		return nil
	}
	return fmt.Errorf(`the service's account cannot run a program below %s: copy it, for instance to C:\Program Files\peerstate, and run that one`, profiles)
}

func below(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '\\' && strings.EqualFold(path[:len(dir)], dir)
}

// Uninstall stops the service and has the system forget it. Settings and data stay.
func Uninstall(ctx context.Context, p Place) error {
	if err := Stop(ctx, p); err != nil {
		return err
	}
	m, s, err := open()
	if err != nil {
		return err
	}
	defer disconnect(m)
	defer s.Close()
	if err := s.Delete(); err != nil {
		return fmt.Errorf("delete the service: %w", err)
	}
	if err := eventlog.Remove(Name); err != nil && !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return fmt.Errorf("remove the source of events: %w", err)
	}
	return nil
}

// Start starts the service, and returns when it runs.
func Start(ctx context.Context, p Place) error {
	m, s, err := open()
	if err != nil {
		return err
	}
	defer disconnect(m)
	defer s.Close()
	err = s.Start()
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
		return fmt.Errorf("start the service: %w", err)
	}
	return await(ctx, s, svc.Running, p)
}

// Stop stops the service, and returns when it has ended. A service that does not run is stopped.
func Stop(ctx context.Context, p Place) error {
	m, s, err := open()
	if err != nil {
		return err
	}
	defer disconnect(m)
	defer s.Close()
	_, err = s.Control(svc.Stop)
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return fmt.Errorf("stop the service: %w", err)
	}
	return await(ctx, s, svc.Stopped, p)
}

// await waits until the service is in a state.
func await(ctx context.Context, s *mgr.Service, want svc.State, p Place) error {
	ctx, cancel := context.WithTimeout(ctx, StopTime*time.Second)
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		now, err := s.Query()
		switch {
		case err != nil:
			return fmt.Errorf("ask how the service is: %w", err)
		case now.State == want:
			return nil
		case now.State == svc.Stopped:
			return fmt.Errorf("the service has stopped again (exit code %d, %d): %s", now.Win32ExitCode, now.ServiceSpecificExitCode, Reading(p))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the service is %s: %w", stateText(now.State), ctx.Err())
		case <-t.C:
		}
	}
}

// Query asks how the service is. It needs no administrator.
func Query(Place) (State, error) {
	scm, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return State{}, fmt.Errorf("connect to the service manager: %w", err)
	}
	m := &mgr.Mgr{Handle: scm}
	defer disconnect(m)
	h, err := windows.OpenService(scm, windows.StringToUTF16Ptr(Name), windows.SERVICE_QUERY_STATUS)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return State{}, ErrNotInstalled
	}
	if err != nil {
		return State{}, fmt.Errorf("look at the service: %w", err)
	}
	s := &mgr.Service{Name: Name, Handle: h}
	defer s.Close()
	now, err := s.Query()
	if err != nil {
		return State{}, fmt.Errorf("ask how the service is: %w", err)
	}
	return State{Running: now.State == svc.Running, Text: stateText(now.State), PID: int(now.ProcessId)}, nil
}

func stateText(s svc.State) string {
	switch s {
	case svc.Stopped:
		return "stopped"
	case svc.StartPending:
		return "starting"
	case svc.StopPending:
		return "stopping"
	case svc.Running:
		return "running"
	}
	return fmt.Sprintf("in state %d", s)
}

func connect() (*mgr.Mgr, error) {
	m, err := mgr.Connect()
	if err != nil {
		return nil, fmt.Errorf("connect to the service manager: %w", err)
	}
	return m, nil
}

func disconnect(m *mgr.Mgr) { _ = m.Disconnect() } // nothing is lost with it

// open opens the service, which must be there.
func open() (*mgr.Mgr, *mgr.Service, error) {
	m, err := connect()
	if err != nil {
		return nil, nil, err
	}
	s, err := m.OpenService(Name)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		err = ErrNotInstalled
	}
	if err != nil {
		disconnect(m)
		return nil, nil, err
	}
	return m, s, nil
}
