//go:build !windows

package machine

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// mostFiles is the limit of the process on open files; Go has raised it as far as the account may.
func mostFiles() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt64 {
		return 0
	}
	return l.Cur
}

func socketOption(fd uintptr, option int) (int, error) {
	return unix.GetsockoptInt(int(fd), syscall.SOL_SOCKET, option)
}

// DiskFree is how many bytes this account may still write to the file system that has path.
func DiskFree(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}
