//go:build !windows

package service

// ASPNETStatePort is the port that Microsoft's state service was set to listen on here; 0 if it is not installed.
func ASPNETStatePort() (int, error) { return 0, nil }
