package process

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// At finds the process that has the end at port of a TCP connection to another port of this machine, in /proc (proc(5)).
// It is 0 where that cannot be seen: another account's, unless this one is root's.
func At(port, to uint16) (pid int, name string) {
	inode := socketAt("/proc/net/tcp", port, to)
	if inode == "" {
		inode = socketAt("/proc/net/tcp6", port, to)
	}
	if inode == "" {
		return 0, ""
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, ""
	}
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && hasOpen(p.Name(), "socket:["+inode+"]") {
			comm, err := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
			if err != nil {
				comm = nil // its number is something
			}
			return pid, strings.TrimSpace(string(comm))
		}
	}
	return 0, ""
}

// socketAt finds the inode of a socket in a table of /proc/net; "": it is not there.
func socketAt(table string, port, to uint16) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer f.Close()
	local, remote := fmt.Sprintf(":%04X", port), fmt.Sprintf(":%04X", to)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[1], local) && strings.HasSuffix(fields[2], remote) && fields[9] != "0" {
			return fields[9]
		}
	}
	return ""
}

// hasOpen tells whether a process has a file open that links to target.
func hasOpen(pid, target string) bool {
	dir := filepath.Join("/proc", pid, "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false // another account's, or it has ended
	}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && to == target {
			return true
		}
	}
	return false
}
