package machine

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// mostFiles: Windows has no limit on sockets that would be reached.
func mostFiles() uint64 { return 0 }

func socketOption(fd uintptr, option int) (int, error) {
	return windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, option)
}

// forceBuffers: nothing is to be forced here.
func forceBuffers(syscall.RawConn, int) {}

// DiskFree is how many bytes this account may still write to the volume that has path.
func DiskFree(path string) (free uint64, err error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	return free, windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
}

// LargerBuffers: Windows gives what is asked for, as far as it has memory.
const LargerBuffers = "see whether this machine is short of memory"

// memoryStatus is MEMORYSTATUSEX.
type memoryStatus struct {
	length, load                                                                       uint32
	physical, freePhysical, pageFile, freePageFile, virtual, freeVirtual, freeExtended uint64
}

var globalMemoryStatus = windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")

// memory is how many bytes this machine has.
func memory() (uint64, error) {
	m := memoryStatus{length: uint32(unsafe.Sizeof(memoryStatus{}))}
	if ok, _, err := globalMemoryStatus.Call(uintptr(unsafe.Pointer(&m))); ok == 0 {
		return 0, err
	}
	return m.physical, nil
}
