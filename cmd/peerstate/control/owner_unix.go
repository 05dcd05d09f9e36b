//go:build !windows

package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ownDirectory is where the control socket of an ordinary user is who has no runtime directory. Everybody may write
// to the directory above it, so somebody else may have made it first (see private).
func ownDirectory() string {
	return filepath.Join(os.TempDir(), "peerstate-"+strconv.Itoa(os.Geteuid()))
}

// private is an error if the directory dir is not one that only the account me can write to and look into.
func private(dir string, me int) error {
	const remedy = "remove it, or set PEERSTATE_CONTROL to a path in a directory of your own"
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("look at the control socket's directory: %w", err)
	case !info.IsDir(): // also a link to one, which its maker can lead elsewhere
		return fmt.Errorf("%w: %s should be a directory, and is none: %s", ErrForeign, dir, remedy)
	case owner(info) != me:
		return fmt.Errorf("%w: %s belongs to another account (%s), which could answer in the sidecar's place: %s", ErrForeign, dir, accountName(owner(info)), remedy)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: others may use %s too (mode %o): chmod 700 %s", ErrForeign, dir, info.Mode().Perm(), dir)
	}
	return nil
}

// trusted is an error if somebody else than the account me or root may have made the control socket: who answers there
// is told what the command is about, and his answer is believed. What is not there is no error here. Root asks wherever its
// settings say, as it controls services that run under accounts of their own.
func trusted(socket string, me int) error {
	dir := filepath.Dir(socket)
	if dir == ownDirectory() {
		if err := private(dir, me); errors.Is(err, ErrForeign) {
			return err
		}
	}
	for _, path := range []string{dir, socket} {
		info, err := os.Stat(path)
		if err != nil || me == 0 {
			continue // connecting says what is wrong
		}
		if o := owner(info); o != me && o != 0 {
			return fmt.Errorf("%w: %s belongs to another account (%s), so nothing is asked there: use that account, or root", ErrForeign, path, accountName(o))
		}
	}
	return nil
}

// accountName is an account's name, or its number if it has none.
func accountName(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}

// owner is the number of the account that something belongs to.
func owner(info fs.FileInfo) int {
	return int(info.Sys().(*syscall.Stat_t).Uid)
}
