package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// forceBuffers asks past net.core.rmem_max and wmem_max, as an administrator may. What came of it is measured.
func forceBuffers(raw syscall.RawConn, size int) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size)
	})
}

// LargerBuffers is what an administrator types.
const LargerBuffers = "sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000, and the same two in a file of /etc/sysctl.d for the next start"

// memory is how many bytes this machine has, or may be used by the control group (version 2) that this process is in, as in a
// container.
func memory() (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	all := uint64(info.Totalram) * uint64(info.Unit)
	limit, err := groupLimit("/proc/self/cgroup", "/sys/fs/cgroup")
	if err == nil && limit > 0 {
		all = min(all, limit)
	}
	return all, err
}

// groupLimit is the smallest limit of a control group and those above it, by the file that says which one it is and the
// directory that has them all; 0: there is none.
func groupLimit(self, root string) (limit uint64, err error) {
	text, err := os.ReadFile(self)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for dir := filepath.Clean("/" + path); ok; dir = filepath.Dir(dir) {
			data, err := os.ReadFile(filepath.Join(root, dir, "memory.max"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
			if n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64); err == nil && (limit == 0 || n < limit) { // or "max"
				limit = n
			}
			if dir == "/" {
				break
			}
		}
	}
	return limit, nil
}
