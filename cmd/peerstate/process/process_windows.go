package process

import (
	"encoding/binary"
	"math/bits"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

var getExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// Values of iprtrmib.h, and where fields are in a row of MIB_TCPTABLE_OWNER_PID and MIB_TCP6TABLE_OWNER_PID (tcpmib.h).
const ownerPIDConnections = 4 // TCP_TABLE_OWNER_PID_CONNECTIONS

var tcpTables = []struct{ family, row, local, remote, pid uint32 }{
	{windows.AF_INET, 24, 8, 16, 20},
	{windows.AF_INET6, 56, 20, 44, 52},
}

// At finds the process that has the end at port of a TCP connection to another port of this machine. Its name is ""
// where this account may not see it.
func At(port, to uint16) (pid int, name string) {
	for _, t := range tcpTables {
		table := tcpTable(t.family)
		if len(table) < 4 {
			continue
		}
		rows := table[4:]
		for n := binary.NativeEndian.Uint32(table); n > 0 && uint32(len(rows)) >= t.row; n-- {
			if portIn(rows[t.local:]) == port && portIn(rows[t.remote:]) == to {
				if pid := binary.NativeEndian.Uint32(rows[t.pid:]); pid != 0 {
					return int(pid), processName(pid)
				}
			}
			rows = rows[t.row:]
		}
	}
	return 0, ""
}

// portIn reads a port, which stands in network order in the lower half of a DWORD.
func portIn(field []byte) uint16 {
	return bits.ReverseBytes16(uint16(binary.NativeEndian.Uint32(field)))
}

// tcpTable gives the table of connections with their processes; nil: there is none.
func tcpTable(family uint32) []byte {
	size := uint32(16 << 10)
	for range 5 { // it may grow between two calls
		b := make([]byte, size)
		r, _, _ := getExtendedTCPTable.Call(uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0, uintptr(family), ownerPIDConnections, 0)
		switch windows.Errno(r) {
		case windows.ERROR_SUCCESS:
			return b
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += 4 << 10
		default:
			return nil
		}
	}
	return nil
}

func processName(pid uint32) string {
	p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(p)
	path := make([]uint16, 1024)
	n := uint32(len(path))
	if err := windows.QueryFullProcessImageName(p, 0, &path[0], &n); err != nil {
		return ""
	}
	return filepath.Base(windows.UTF16ToString(path[:n]))
}
