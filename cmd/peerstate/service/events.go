package service

import (
	"log/slog"
	"strings"
)

// Numbers of events in the Event Log. They stand in the README with what to do, and never change their meaning.
const (
	eventReady    = 1
	eventStopping = 2
	eventStopped  = 3
	eventFailed   = 10
	eventLeft     = 11
	eventOut      = 20
	eventLost     = 21
	eventUnlinked = 22
	eventRefused  = 23
	eventTwin     = 24
	eventCerts    = 30
	eventRevoked  = 31
	eventDisk     = 40
	eventMemory   = 41
	eventClock    = 50
	eventConflict = 51
	eventFlood    = 60
	eventWarning  = 90
	eventError    = 91
)

// events says which message of the log is which event: the first whose text is in the message.
var events = []struct {
	id   uint32
	text string
}{
	{eventFailed, "stopping, as a part has failed"},
	{eventLeft, "sessions are left behind"},
	{eventOut, "a node is out: "},
	{eventLost, "a node is lost: "},
	{eventUnlinked, "a peer cannot be linked"},
	{eventTwin, "two machines use one node's certificate"},
	{eventRevoked, "this node is revoked"},
	{eventRefused, "a peer's certificate is refused"},
	{eventRefused, "a peer refuses this node's certificate"},
	{eventRefused, "a peer speaks no version of the protocol"},
	{eventCerts, "the certificate files have changed"},
	{eventCerts, "the certificates on the disk"},
	{eventCerts, " ends soon, and has not been replaced"},
	{eventCerts, " has ended: other nodes refuse this one"},
	{eventCerts, "this node's certificate has ended"},
	{eventDisk, "journal"},
	{eventDisk, " disk"},
	{eventMemory, "PEERSTATE_MAX_MEMORY"},
	{eventClock, "clock"},
	{eventConflict, "two nodes had a copy of one session"},
	{eventFlood, "a peer sends more than any node has reason to"},
	{eventFlood, "for very many sessions that nobody has"},
	{eventFlood, "very many connections are begun here"},
}

// eventOf gives a line of the log its number; false: it is none for the Event Log, which has what starts and
// stops, warnings and errors.
func eventOf(r slog.Record) (id uint32, ok bool) {
	switch {
	case r.Level < slog.LevelInfo:
		return 0, false
	case r.Level < slog.LevelWarn:
		switch {
		case r.Message == "ready":
			return eventReady, true
		case r.Message == "stopping", r.Message == "stopping, as a command said":
			return eventStopping, true
		case r.Message == "stopped":
			return eventStopped, true
		}
		return 0, false
	}
	for _, e := range events {
		if strings.Contains(r.Message, e.text) {
			return e.id, true
		}
	}
	if r.Level < slog.LevelError {
		return eventWarning, true
	}
	return eventError, true
}
