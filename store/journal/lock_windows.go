package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the lock that the system drops with the process, however that ends.
func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}

// busy: somebody else has it open in a way that keeps others out, as he who has just made it does.
func busy(err error) bool { return errors.Is(err, windows.ERROR_SHARING_VIOLATION) }

// readOnly: the volume takes no writes at all.
func readOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
