//go:build !windows && !darwin

package service

// Defaults says where the parts of the service are on this system, but for the program.
func Defaults() Place {
	return Place{Env: "/etc/peerstate/peerstate.env", Data: "/var/lib/peerstate", Account: Name, Control: "/run/peerstate/control.sock"}
}

// Definition is what Install has the system know, as text.
func Definition(p Place) string { return unit(p) }

// Reading says with which command the log is read.
func Reading(Place) string { return "journalctl -u " + Name + " -f" }
