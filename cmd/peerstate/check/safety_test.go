package check

import (
	"testing"
)

func TestCheckSaysWhichSessionsTheSettingsLeaveUnsafe(t *testing.T) {
	farm := []string{"PEERSTATE_CERT_DIR=certs"}
	for name, c := range map[string]struct {
		environ    []string
		grade      Grade
		what, mend string
	}{
		"alone, in memory":          {nil, Doubtful, "each stop, restart or crash of it ends them all", "PEERSTATE_DATA_DIR"},
		"alone, with a journal":     {[]string{"PEERSTATE_DATA_DIR=data"}, Fine, "no single crash takes sessions", ""},
		"a farm with backups":       {farm, Fine, "no single crash takes sessions", ""},
		"a farm without anything":   {append(farm, "PEERSTATE_BACKUPS=0"), Doubtful, "a crash of this node ends all sessions that it holds", "PEERSTATE_BACKUPS=1"},
		"a journal without backups": {append(farm, "PEERSTATE_BACKUPS=0", "PEERSTATE_DATA_DIR=data"), Fine, "no single crash", ""},
		"a journal that is late":    {[]string{"PEERSTATE_DATA_DIR=data", "PEERSTATE_DATA_SYNC=1m"}, Doubtful, `PEERSTATE_DATA_SYNC is "1m"`, "1s or less"},
		"kept, with backups": {append(farm, "PEERSTATE_DATA_DIR=data", "PEERSTATE_ON_STOP=keep"), Doubtful,
			"visitors of its sessions wait for up to 5s; then they are served from their backups", "peerstate drain"},
		"kept, without": {append(farm, "PEERSTATE_DATA_DIR=data", "PEERSTATE_ON_STOP=keep", "PEERSTATE_BACKUPS=0"), Doubtful,
			"wait for up to 1m5s; then they get new, empty ones", "a restart that takes less"},
		"kept, alone":              {[]string{"PEERSTATE_DATA_DIR=data", "PEERSTATE_ON_STOP=keep"}, Fine, "no single crash", ""},
		"sync backups and no disk": {append(farm, "PEERSTATE_BACKUP_SYNC=on"), Doubtful, "while no other node is linked, a crash still takes what was answered", "strict"},
		"strict backups":           {append(farm, "PEERSTATE_BACKUP_SYNC=strict"), Fine, "no single crash", ""},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, checkSafety(mustSettings(t, c.environ...)), c.grade, c.what, c.mend)
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
