package service

import "os"

// Defaults says where the parts of the service are on this system, but for the program. It runs under the account
// that sudo was called from.
func Defaults() Place {
	account := os.Getenv("SUDO_USER")
	if account == "" {
		account = "nobody"
	}
	return Place{
		Env: "/usr/local/etc/peerstate/peerstate.env", Data: "/usr/local/var/peerstate", Log: "/usr/local/var/peerstate/log/peerstate.log",
		Account: account, Control: "/usr/local/var/peerstate/control.sock",
	}
}

// Definition is what Install has the system know, as text.
func Definition(p Place) string { return plist(p) }

// Reading says with which command the log is read.
func Reading(p Place) string { return "tail -f " + p.Log }
