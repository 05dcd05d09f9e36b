//go:build !windows

package main

import "syscall"

// What the system calls the ways in which listening fails.
const (
	errAddrInUse        = syscall.EADDRINUSE
	errAddrNotAvailable = syscall.EADDRNOTAVAIL
	errAccess           = syscall.EACCES
)

// aspnetStateRuns tells whether Microsoft's state service runs here; it exists on Windows only.
func aspnetStateRuns() bool { return false }
