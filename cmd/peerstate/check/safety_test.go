package check

import (
	"testing"
)

func TestCheckSaysWhichSessionsTheSettingsLeaveUnsafe(t *testing.T) {
	alone, farm := []string{}, []string{"PEERSTATE_CERT_DIR=certs"}
	data, always := "PEERSTATE_DATA_DIR=data", "PEERSTATE_DATA_SYNC=always"
	for name, c := range map[string]struct {
		environ    []string
		others     int
		grade      Grade
		what, mend string
	}{
		"alone, in memory":      {alone, 0, Doubtful, "each stop, restart or crash of it ends them all", "PEERSTATE_DATA_DIR"},
		"alone, with a journal": {append(alone, data), 0, Fine, "takes no session, but for the changes of the last 100ms: all come back from the journal, with this node; if its disk is lost", ""},
		"alone, forced to disk": {append(alone, data, always), 0, Fine, "takes no session, and no write that was answered: all come back", ""},

		"a farm with backups":          {farm, 1, Fine, "the crash of one node takes no session, but for what was written in its last moment; if all nodes lose power at once, all sessions end", ""},
		"the first node":               {farm, 0, Doubtful, "nobody keeps backups: until one is linked, a crash of this node, or a stop, ends all sessions", "link another node"},
		"a farm without anything":      {append(farm, "PEERSTATE_BACKUPS=0"), 2, Doubtful, "a crash of this node ends all sessions that it holds", "PEERSTATE_BACKUPS=1"},
		"a journal without backups":    {append(farm, "PEERSTATE_BACKUPS=0", data), 2, Fine, "but for the changes of the last 100ms: all come back from the journal, with this node; if its disk is lost", ""},
		"the first node, with a disk":  {append(farm, data), 0, Fine, "with this node; no other node can be reached, so nobody keeps backups: until one is linked, the loss of the disk takes its sessions", ""},
		"a journal and backups":        {append(farm, data), 1, Fine, "neither the crash of one node, nor the loss of its disk, nor a power cut of all takes a session, but for what was written in the last moment", ""},
		"both, and sync":               {append(farm, data, always, "PEERSTATE_BACKUP_SYNC=on"), 1, Fine, "nor a power cut of all takes a session, and no write that was answered", ""},
		"sync backups, a late journal": {append(farm, data, "PEERSTATE_BACKUP_SYNC=strict"), 1, Fine, "nor a power cut of all takes a session, but for what was written in the last moment", ""},

		"a journal that is late": {append(alone, data, "PEERSTATE_DATA_SYNC=1m"), 0, Doubtful, `PEERSTATE_DATA_SYNC is "1m"`, "1s or less"},
		"kept, with backups": {append(farm, data, "PEERSTATE_ON_STOP=keep"), 1, Doubtful,
			"visitors of its sessions wait for up to 5s; then they are served from their backups", "peerstate drain"},
		"kept, without": {append(farm, data, "PEERSTATE_ON_STOP=keep", "PEERSTATE_BACKUPS=0"), 1, Doubtful,
			"wait for up to 1m5s; then they get new, empty ones", "a restart that takes less"},
		"kept, alone":              {append(alone, data, "PEERSTATE_ON_STOP=keep"), 0, Fine, "all come back from the journal", ""},
		"sync backups and no disk": {append(farm, "PEERSTATE_BACKUP_SYNC=on"), 1, Doubtful, "while no other node is linked, a crash still takes what was answered", "strict"},
		"of them, with somebody":   {append(farm, "PEERSTATE_BACKUP_SYNC=on"), 1, Fine, "no write that was answered, but for those that peerstate_backup_unsynced_total counts; if all nodes", ""},
		"strict backups":           {append(farm, "PEERSTATE_BACKUP_SYNC=strict"), 1, Fine, "takes no session, and no write that was answered; if all nodes", ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := checkSafety(mustSettings(t, c.environ...), c.others)
			want(t, found, c.grade, c.what, c.mend)
			if c.grade == Fine {
				none(t, found[:1])
			}
		})
	}
}

func TestCheckComparesWaitingWithWhatASPNETWaits(t *testing.T) {
	farm := "PEERSTATE_CERT_DIR=certs"
	want(t, checkWaits(mustSettings(t, farm)), Fine, "every answer comes within 8.5s, and ASP.NET waits for 10s", "")
	want(t, checkWaits(mustSettings(t, "PEERSTATE_FETCH_TIMEOUT=9s")), Fine, "within 9s", "") // alone it waits for nobody
	want(t, checkWaits(mustSettings(t, farm, "PEERSTATE_FETCH_TIMEOUT=5s")), Doubtful,
		"a write may take 11s", `PEERSTATE_FETCH_TIMEOUT to less than 4s, or stateNetworkTimeout="16"`)
}
