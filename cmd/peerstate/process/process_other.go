//go:build !linux && !windows

package process

// At would find the process at the other end of a connection; here the system does not tell.
func At(port, to uint16) (pid int, name string) { return 0, "" }
