package service

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// Defaults says where the parts of the service are on this system, but for the program.
func Defaults() Place {
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		data = `C:\ProgramData` // where it is on every Windows that nobody has moved it on
	}
	dir := filepath.Join(data, Name)
	return Place{
		Env: filepath.Join(dir, "peerstate.env"), Data: dir, Log: filepath.Join(dir, "log", "peerstate.log"),
		Account: `NT SERVICE\` + Name,
	}
}

// Definition is what Install has the system know, as text.
func Definition(p Place) string {
	return "service " + Name + ": " + description + "\n" +
		"command         " + command(p) + "\n" +
		"account         " + p.Account + " (a virtual account, which only this service has)\n" +
		"start           automatic, delayed\n" +
		"on failure      start again after 2 s, 10 s, and then each time after 60 s\n" +
		"on shutdown     Windows waits for its hand-over, 300 s at most\n" +
		"event source    " + Name + ", in the log Application\n"
}

// Reading says with which command the log is read.
func Reading(p Place) string { return `type "` + p.Log + `"` }
