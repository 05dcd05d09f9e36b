package transport

import (
	"os"
	"syscall"
)

// Nodes force what they write to disk, which proves nothing where no machine loses power, and takes as long as much of
// what is tested. So the tests write to memory, where there is room.
func init() {
	const dir, room = "/dev/shm", 1 << 30
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(dir, &fs) != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
}
