//go:build !windows

package ports

import "syscall"

// What the system calls the ways in which listening fails.
const (
	errAddrInUse        = syscall.EADDRINUSE
	errAddrNotAvailable = syscall.EADDRNOTAVAIL
	errAccess           = syscall.EACCES
)

// ASPNETStateRuns tells whether Microsoft's state service runs here; it exists on Windows only.
func ASPNETStateRuns() bool { return false }
