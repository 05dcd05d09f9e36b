//go:build !windows

package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/kardianos/service"
)

// Administrator is nil for who may install and control services, and otherwise says how to become that.
func Administrator() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return errors.New("this needs root: run it with sudo")
}

// Readable is nil if the service's account can run the program where it lies.
func Readable(program string) error {
	for _, dir := range []string{"/home/", "/root/", "/tmp/", "/var/tmp/", "/run/user/"} {
		if strings.HasPrefix(program, dir) && runtime.GOOS != "darwin" {
			return fmt.Errorf("the service cannot run a program below %s, which systemd hides from it: install -m 755 %s /usr/local/bin/%s, "+
				"and run that one", dir, program, Name)
		}
	}
	return nil
}

// manager is the system's service manager.
func manager(p Place) (service.Service, error) {
	config := &service.Config{
		Name: Name, DisplayName: Name, Description: description, UserName: p.Account, Executable: p.Program,
		Option: service.KeyValue{"SystemdScript": unit(p), "LaunchdConfig": plist(p)},
	}
	m, err := service.New(nil, config)
	if err != nil {
		return nil, fmt.Errorf("find this system's service manager: %w", err)
	}
	if name := m.Platform(); name != "linux-systemd" && name != "darwin-launchd" {
		return nil, fmt.Errorf("services are installed with systemd or launchd, and this system has neither (%s): have it run \"peerstate serve\"", name)
	}
	return m, nil
}

// Install has the system run the service from now on, and with each start of the machine. It does not start it.
// enclosed is for Windows only.
func Install(_ context.Context, p Place) (enclosed bool, err error) {
	m, err := manager(p)
	if err != nil {
		return false, err
	}
	if _, err := m.Status(); !errors.Is(err, service.ErrNotInstalled) {
		return false, ErrInstalled
	}
	account, err := accountOf(p.Account)
	if err != nil {
		return false, err
	}
	if err := makeData(p, account); err != nil {
		return false, err
	}
	if err := m.Install(); err != nil {
		return false, fmt.Errorf("install the service: %w", err)
	}
	return false, nil
}

// Exposed is nothing here: what others may write to is seen at a glance, and root installs the program where they may not.
func Exposed() ([]Exposure, error) { return nil, nil }

// accountOf gives the account of a name; on Linux it is made if it does not exist.
func accountOf(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown && runtime.GOOS == "linux" {
		out, merr := exec.Command("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
			"--shell", "/usr/sbin/nologin", name).CombinedOutput()
		if merr != nil {
			return nil, fmt.Errorf("make the account %s: %w: %s", name, merr, strings.TrimSpace(string(out)))
		}
		u, err = user.Lookup(name)
	}
	if err != nil {
		return nil, fmt.Errorf("find the account %s: %w", name, err)
	}
	return u, nil
}

// makeData makes the directories that the service writes in, and gives them to its account. One that exists stays
// as it is.
func makeData(p Place, account *user.User) error {
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return fmt.Errorf("the account %s has the number %q: %w", account.Username, account.Uid, err)
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		return fmt.Errorf("the account %s has the group %q: %w", account.Username, account.Gid, err)
	}
	dirs := []string{p.Data}
	if p.Log != "" {
		dirs = append(dirs, filepath.Dir(p.Log))
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// Uninstall stops the service and has the system forget it. Settings, data and account stay.
func Uninstall(_ context.Context, p Place) error {
	m, err := installed(p)
	if err != nil {
		return err
	}
	if s, err := m.Status(); err == nil && s == service.StatusRunning {
		if err := m.Stop(); err != nil {
			return fmt.Errorf("stop the service: %w", err)
		}
	}
	if err := m.Uninstall(); err != nil {
		return fmt.Errorf("uninstall the service: %w", err)
	}
	return nil
}

// Start starts the service; on Linux it returns when it is ready.
func Start(_ context.Context, p Place) error {
	m, err := installed(p)
	if err != nil {
		return err
	}
	if err := m.Start(); err != nil {
		return fmt.Errorf("start the service: %w; its log: %s", err, Reading(p))
	}
	return nil
}

// Stop stops the service, and returns when it has ended.
func Stop(_ context.Context, p Place) error {
	m, err := installed(p)
	if err != nil {
		return err
	}
	if err := m.Stop(); err != nil {
		return fmt.Errorf("stop the service: %w", err)
	}
	return nil
}

// Query asks how the service is.
func Query(p Place) (State, error) {
	m, err := manager(p)
	if err != nil {
		return State{}, err
	}
	s, err := m.Status()
	switch {
	case errors.Is(err, service.ErrNotInstalled):
		return State{}, ErrNotInstalled
	case err != nil && s == service.StatusUnknown:
		return State{Text: err.Error()}, nil // it has failed, say
	case err != nil:
		return State{}, err
	case s == service.StatusRunning:
		return State{Running: true, Text: "running"}, nil
	}
	return State{Text: "stopped"}, nil
}

// installed is manager for a service that must be there.
func installed(p Place) (service.Service, error) {
	m, err := manager(p)
	if err != nil {
		return nil, err
	}
	if _, err := m.Status(); errors.Is(err, service.ErrNotInstalled) {
		return nil, ErrNotInstalled
	}
	return m, nil
}
