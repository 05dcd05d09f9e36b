//go:build !windows

package private

import (
	"errors"
	"os"
)

// Create makes a new file that only its owner can read, to be written.
func Create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// MakeDir makes a directory that only its owner can look into, with those above it. A directory
// that exists stays as it is.
func MakeDir(dir string) error {
	return os.MkdirAll(dir, 0o700)
}

// SyncDir makes what was created, renamed and removed in the directory last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
