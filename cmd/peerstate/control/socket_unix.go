//go:build !windows

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Default is where the control socket is without a setting: root's is in /var/run, another user's in his runtime
// directory, or else in a directory of his own among the temporary files. It goes by the port of the state
// protocol, so that several sidecars on one machine do not meet.
func Default(port string) string {
	name := "peerstate-" + port + ".sock"
	if os.Geteuid() == 0 { // whose runtime directory a service has not, and may after "sudo -E" be another user's
		return filepath.Join("/var/run", name)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, name)
	}
	return filepath.Join(ownDirectory(), name)
}

// Listen opens the control socket for its owner only.
func Listen(ctx context.Context, socket string) (net.Listener, error) {
	dir := filepath.Dir(socket)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the control socket's directory: %w", err)
	}
	if dir == ownDirectory() {
		if err := private(dir, os.Geteuid()); err != nil {
			return nil, err
		}
	}
	if err := removeStale(ctx, socket); err != nil {
		return nil, err
	}
	// Between the two calls nobody else can connect: the mask of new files is the process's, and this
	// happens before anything else is started that makes files.
	old := syscall.Umask(0o177)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the control socket to its owner: %w", err), l.Close())
	}
	return l, nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", socket)
}

// Check says what [Listen] would fail for, and changes nothing.
func Check(socket string) error {
	if len(socket) > longest {
		return fmt.Errorf("the path of a control socket may have %d bytes, and %s has %d", longest, socket, len(socket))
	}
	if info, err := os.Lstat(socket); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return notSocket(socket)
		}
	}
	dir := filepath.Dir(socket)
	if _, err := os.Lstat(dir); err == nil && dir == ownDirectory() {
		if err := private(dir, os.Geteuid()); err != nil {
			return err
		}
	}
	for {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir:
			if _, err := os.Lstat(dir); err == nil {
				return fmt.Errorf("the control socket %s cannot be made: %s is a link to nothing", socket, dir)
			}
			dir = filepath.Dir(dir) // it will be made
			continue
		case err != nil:
			return fmt.Errorf("the control socket %s cannot be made: %w", socket, err)
		case !info.IsDir():
			return fmt.Errorf("the control socket %s cannot be made: %s is no directory", socket, dir)
		}
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			return fmt.Errorf("the control socket %s cannot be made: this account may not write to %s", socket, dir)
		}
		return nil
	}
}

// longest is how many bytes a path may have, by the system's sockaddr_un, which ends it with a zero.
const longest = len(syscall.RawSockaddrUnix{}.Path) - 1

func notSocket(path string) error {
	return fmt.Errorf("%s is a file, and not a control socket: set PEERSTATE_CONTROL to another path", path)
}

// removeStale removes the socket file of a sidecar that was killed; one that answers stays, and so does any other file.
func removeStale(ctx context.Context, socket string) error {
	info, err := os.Lstat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && info.Mode()&fs.ModeSocket == 0:
		return notSocket(socket)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if c, err := dial(ctx, socket); err == nil {
		return errors.Join(fmt.Errorf("%w %s: set PEERSTATE_CONTROL to another path", ErrInUse, socket), c.Close())
	}
	return os.Remove(socket)
}
