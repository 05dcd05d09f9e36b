//go:build !windows

package journal

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock that the system drops with the process, however that ends.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// busy: somebody else has it open in a way that keeps others out. Never so here.
func busy(error) bool { return false }

// readOnly: the file system takes no writes at all.
func readOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
