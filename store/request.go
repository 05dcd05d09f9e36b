package store

import (
	"time"

	"peerstate/store/journal"
)

// Op is what a request asks for. The names are those of [MS-ASP] 3.1.5.
type Op uint8

// The operations of the state protocol.
const (
	Get     Op = iota // read without a lock
	Acquire           // read and lock
	Release           // unlock
	Put               // write, and unlock
	Delete            // remove
	Head              // only renew
)

var opNames = [...]string{"get", "acquire", "release", "put", "delete", "head"}

// String gives the name that logs and metrics use.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// Ops is how many operations there are: for tables indexed by Op.
const Ops = len(opNames)

// Values of Request.Cookie that are not a lock's cookie; those are never negative.
const (
	NoCookie  int32 = -1 // the request has none
	BadCookie int32 = -2 // it has one that cannot be parsed or is negative
)

// FlagUninitialized is bit 0 of ExtraFlags: create the session only if there is none,
// and let the first request that finds it initialise it.
const FlagUninitialized int32 = 1

// Limits of a timeout in minutes, and what a Put without one gets.
const (
	MaxTimeout     = 525600 // a year
	DefaultTimeout = 20
)

// Request is one operation on one session.
type Request struct {
	Op      Op
	Key     []byte // only read during the call; the store copies what it keeps
	Cookie  int32  // LockCookie, or NoCookie, or BadCookie
	Timeout int32  // Put: minutes, 0 to MaxTimeout; 0: never expires
	Flags   int32  // Put: ExtraFlags
	Body    []byte // Put: the store keeps it, and nobody changes it afterwards
	Counted int64  // Put: bytes of Body that Store.Reserve counts; 0 when the store has taken it over, else for GiveBack. See Upstream, too
	Client  uint16 // the TCP port that it comes from, on this machine; shown to people who look for a lock's owner
}

// Status is the outcome of a request.
type Status uint8

// The outcomes. All but Unknown are answers of the state protocol.
const (
	OK         Status = iota
	BadRequest        // LockCookie is missing or bad where it is needed
	NotFound          // no such session in the whole farm
	Locked            // somebody else holds the lock
	// Unknown says that the truth cannot be had just now: the session may be on a node that
	// cannot be asked, or a change may or may not have been carried out. It must never reach the
	// client as "no such session" or as success: a read is answered so that the client comes
	// back, and a write so that it raises an error.
	Unknown
	// Full says that there is no memory for a write (Options.MaxMemory): nothing was changed, but that the lock of its
	// page, if it had one, is released. The client must be answered so that it raises an error.
	Full
)

// Answer is the store's answer to a Request.
type Answer struct {
	Status  Status
	Init    bool          // the client must initialise the session (ActionFlags: 1); at any status
	Stamp   Stamp         // Init, and a write that was carried out here: the session's since then
	Cookie  int32         // the lock's: OK to Acquire, Locked
	Timeout int32         // minutes: OK to Get and Acquire
	LockAge time.Duration // Locked: how long the lock has been held
	Body    []byte        // OK to Get and Acquire; shared, not to be changed

	Mark journal.Mark // of what it changed, where there is a journal
}
