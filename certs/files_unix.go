//go:build !windows

package certs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

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
