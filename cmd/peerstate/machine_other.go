//go:build !linux && !windows

package main

import "syscall"

// forceBuffers: nothing is to be forced here.
func forceBuffers(syscall.RawConn, int) {}

// largerBuffers is what an administrator types.
const largerBuffers = "sysctl -w kern.ipc.maxsockbuf=8441037"
