package check

import (
	"fmt"
	"time"

	"peerstate/cmd/peerstate/settings"
	"peerstate/store"
)

// checkSafety says which sessions are lost when: first what a crash takes, then where the settings leave a hole that may not be
// meant. others is how many other nodes have been reached, since nobody else can keep a backup. The table "What is safe when" of
// the README has it all.
func checkSafety(s *settings.Settings, others int) []Finding {
	all := []Finding{crashTakes(s, others)}
	say := func(what, mend string) { all = append(all, warning(what, mend)) }
	memoryOnly, alone := s.DataDir == "", s.CertDir == ""

	if !memoryOnly && s.DataSync > 0 && time.Duration(s.DataSync) > mostUnsynced {
		say(fmt.Sprintf("PEERSTATE_DATA_SYNC is %q: a power cut takes the changes of that much time", s.Value("DataSync")),
			"set it to 1s or less, or to always")
	}
	if s.OnStop == settings.OnStopKeep && !alone {
		say(fmt.Sprintf("PEERSTATE_ON_STOP is \"keep\": while this node is stopped, visitors of its sessions wait for up to %v; %s", keptFor(s), afterKeep(s)),
			"good for a restart that takes less than that; for a longer stop, and before the machine is taken away, type peerstate drain")
	}
	if s.BackupSync == store.SyncOn && memoryOnly && !alone && s.Backups > 0 {
		say("PEERSTATE_BACKUP_SYNC is \"on\" and PEERSTATE_DATA_DIR is empty: while no other node is linked, a crash still takes what was answered",
			"set PEERSTATE_DATA_DIR and PEERSTATE_DATA_SYNC=always, or PEERSTATE_BACKUP_SYNC=strict, which answers with an error then")
	}
	return all
}

// crashTakes says what a crash of this node takes.
func crashTakes(s *settings.Settings, others int) Finding {
	const noKeeper = "no other node can be reached, so nobody keeps backups"
	memoryOnly, alone := s.DataDir == "", s.CertDir == ""
	switch backups := !alone && s.Backups > 0; {
	case alone && memoryOnly:
		return warning("sessions are in the memory of this process only: each stop, restart or crash of it ends them all, as with Microsoft's service",
			"set PEERSTATE_DATA_DIR for a journal on disk, or link this node with others (PEERSTATE_CERT_DIR)")
	case memoryOnly && !backups:
		return warning("PEERSTATE_BACKUPS is 0 and PEERSTATE_DATA_DIR is empty: a crash of this node ends all sessions that it holds",
			"set PEERSTATE_BACKUPS=1, or PEERSTATE_DATA_DIR, or both")
	case memoryOnly && others == 0:
		return warning(noKeeper+": until one is linked, a crash of this node, or a stop, ends all sessions that it holds",
			"link another node, if this is the first one of the farm; or set PEERSTATE_DATA_DIR for a journal on disk")
	case memoryOnly:
		return good("the crash of one node takes no session%s; if all nodes lose power at once, all sessions end", lastBackedUp(s))
	case !backups:
		return good("a crash or a power cut takes no session%s: all come back from the journal, with this node; if its disk is lost, its sessions are", lastJournalled(s))
	case others == 0:
		return good("a crash or a power cut takes no session%s: all come back from the journal, with this node; %s: until one is linked, the loss of the disk takes its sessions", lastJournalled(s), noKeeper)
	}
	return good("neither the crash of one node, nor the loss of its disk, nor a power cut of all takes a session%s", lastOf(s))
}

// lastBackedUp is what a crash takes all the same where backups are all there is.
func lastBackedUp(s *settings.Settings) string {
	switch s.BackupSync {
	case store.SyncStrict:
		return ", and no write that was answered"
	case store.SyncOn:
		return ", and no write that was answered, but for those that peerstate_backup_unsynced_total counts"
	}
	return ", but for what was written in its last moment"
}

// lastJournalled is what a crash takes all the same where the journal is all there is.
func lastJournalled(s *settings.Settings) string {
	if s.DataSync == 0 {
		return ", and no write that was answered"
	}
	return fmt.Sprintf(", but for the changes of the last %s", s.Value("DataSync"))
}

// lastOf is what a crash takes all the same with backups and a journal.
func lastOf(s *settings.Settings) string {
	if s.DataSync == 0 && s.BackupSync != store.SyncOff {
		return ", and no write that was answered"
	}
	return ", but for what was written in the last moment (README: What is safe when)"
}

// mostUnsynced is how much work a power cut may take without check saying so.
const mostUnsynced = 10 * time.Second

// keptFor is how long the others wait for a node that keeps its sessions while it is stopped.
func keptFor(s *settings.Settings) time.Duration {
	if s.Backups > 0 {
		return s.MissingGrace
	}
	return s.MissingGrace + s.LostAfter
}

func afterKeep(s *settings.Settings) string {
	if s.Backups > 0 {
		return "then they are served from their backups"
	}
	return "then they get new, empty ones, and what they do with those counts when the node is back"
}

// checkWaits looks whether a web server gets each answer before it gives up.
func checkWaits(s *settings.Settings) []Finding {
	longest := store.Options{FetchTimeout: s.FetchTimeout, Joining: s.CertDir != ""}.LongestWait()
	if longest < settings.StateNetworkTimeout {
		return []Finding{good("every answer comes within %v, and ASP.NET waits for %v", longest, settings.StateNetworkTimeout)}
	}
	return []Finding{warning(fmt.Sprintf("just after a start of peerstate a write may take %v (until the other nodes know of this one, and then PEERSTATE_FETCH_TIMEOUT), and ASP.NET gives up after %v with an error page",
		longest, settings.StateNetworkTimeout),
		fmt.Sprintf("set PEERSTATE_FETCH_TIMEOUT to less than %v, or stateNetworkTimeout=\"%d\" at <sessionState> in Web.config",
			s.FetchTimeout-(longest-settings.StateNetworkTimeout), int((longest+5*time.Second)/time.Second)))}
}
