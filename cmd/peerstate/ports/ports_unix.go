//go:build !windows

package ports

import "syscall"

// ErrInUse is what the system says of an address that another program has.
const ErrInUse = syscall.EADDRINUSE

// What it calls other ways in which listening fails.
const (
	errAddrNotAvailable = syscall.EADDRNOTAVAIL
	errAccess           = syscall.EACCES
)

// ASPNETStateRuns tells whether Microsoft's state service runs here; it exists on Windows only.
func ASPNETStateRuns() bool { return false }
