// Package service has the system run peerstate: as a Windows service, a unit of systemd, or a daemon of launchd.
//
// It has two halves. One installs: [Place] says where things lie on this system, [Install] and its neighbours talk
// to the system's service manager, and the texts that it is given are in systemd.go and launchd.go. The other runs
// inside the sidecar: [Run] wraps its main function, and passes on to the service manager how the sidecar does, and to the
// sidecar that it is to stop. What an operator of Windows looks for in the Event Log is in events.go.
//
// On Linux and macOS installing is kardianos/service with our texts. On Windows it is the service manager's own
// interface, since a virtual account, a service SID and a shutdown of Windows that waits for the sidecar need more.
package service

import "errors"

// Name is the service's, on every system.
const Name = "peerstate"

// description is what lists of services show.
const description = "ASP.NET session state, shared between web servers"

// StopTime is how long the system lets a stop take, in seconds: a hand-over (PEERSTATE_DRAIN_TIMEOUT) and what
// comes after it. It is no delay but a limit.
const StopTime = 300

// Place is where the parts of an installed service lie.
type Place struct {
	Program string // its full path
	Env     string // the settings
	Data    string // the directory that the service may write in: certificates, journal
	Log     string // the log file; "": the system keeps the log
	Account string // that the service runs under
	Control string // the control socket, for the settings; "": where it is by default
}

// Phase is how a sidecar does, for the service manager.
type Phase int

const (
	Starting  Phase = iota // it does not answer yet
	Ready                  // it answers
	Reloading              // it reads certificate files anew; Ready follows
	Stopping               // it hands its sessions over, or closes; nothing follows
)

// Supervisor is the system's side of a running service. Its methods are safe for concurrent use.
type Supervisor interface {
	// Report says how the sidecar does.
	Report(Phase)
	// Watch has the system end a sidecar that hangs: alive is called now and then, and has to come back. It is
	// for once, after Ready.
	Watch(alive func())
}

// Alone is a supervisor for a sidecar that nobody supervises.
type Alone struct{}

// Report tells nobody.
func (Alone) Report(Phase) {}

// Watch does not watch: a sidecar that hangs is its operator's.
func (Alone) Watch(func()) {}

// Errors of the functions that talk to the service manager.
var (
	ErrNotInstalled = errors.New("the service is not installed: peerstate service install")
	ErrInstalled    = errors.New("the service is installed already; peerstate service uninstall removes it, and leaves settings and data")
)

// Exposure is what accounts that do not administer the machine could do to the installed service.
type Exposure struct {
	What string
	Mend string
}

// State is what the service manager says.
type State struct {
	Running bool
	Text    string // in its own words: running, stopped, starting
	PID     int    // 0: not told
}
