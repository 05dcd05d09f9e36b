//go:build !windows

package certs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// createPrivate makes a new file that only its owner can read.
func createPrivate(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// makePrivateDir makes a directory that only its owner can look into, with those above it. A directory
// that exists stays as it is.
func makePrivateDir(dir string) error {
	return os.MkdirAll(dir, 0o700)
}

// syncDir makes a rename in the directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Exposure says in one phrase who else can read a key file, and what to do about it. It is empty if only
// the file's owner can (and the superuser, who can read everything).
func Exposure(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look at who can read %s: %w", path, bare(err))
	}
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return "", nil
	}
	return fmt.Sprintf("its mode is %#o, so other users of this machine may read it; chmod 600 %s", mode, path), nil
}

// lock makes f locked by this process, or fails at once if another one has done so.
func lock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
