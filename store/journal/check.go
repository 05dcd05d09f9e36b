package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Check says what [Open] would refuse the directory for, without taking it or leaving anything in it. With farm and
// node empty it does not ask whose it is. A directory that does not exist is [fs.ErrNotExist]: Open makes it.
func Check(dir, farm, node string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fs.ErrNotExist
	case err != nil:
		return bare(err)
	case !info.IsDir():
		return errors.New("it is no directory")
	}
	if err := probe(filepath.Join(dir, probeName)); err != nil {
		return fmt.Errorf("cannot write there: %w", bare(err))
	}
	if err := used(filepath.Join(dir, lockName)); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) || farm == "" && node == "" {
		return nil
	}
	if err != nil {
		return bare(err)
	}
	if id, ok := decodeIdentity(data); ok {
		return id.check(farm, node)
	}
	return nil // it is made anew
}

// used tells whether another process has the lock.
func used(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && busy(err):
		return ErrInUse
	case err != nil:
		return bare(err)
	}
	return errors.Join(lockFile(f), f.Close())
}
