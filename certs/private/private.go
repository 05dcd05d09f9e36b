// Package private makes files and directories that only their owner can read: keys, and sessions on disk. On
// Unix that is the mode, on Windows an access list for the current user, SYSTEM, the administrators and the service's account. They are
// private from the first moment on, whatever the umask or the directory above says.
package private

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes a file so that at any moment there is either all of it or what was there before. It is
// forced to disk, but the rename that puts it in its place lasts only after [SyncDir] of its directory.
func WriteFile(path string, data []byte) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text())
	err := writeForced(temporary, data)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		return nil
	}
	if left := os.Remove(temporary); left != nil && !errors.Is(left, fs.ErrNotExist) {
		err = fmt.Errorf("%w; and %s could not be removed", err, temporary)
	}
	return err
}

// writeForced makes a new file and returns when its contents are on the disk.
func writeForced(path string, data []byte) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
