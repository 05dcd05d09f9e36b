package check

import (
	"os"
	"path/filepath"
	"testing"

	"peerstate/cmd/peerstate/machine"
	"peerstate/cmd/peerstate/settings"
)

func TestCheckComparesTheSettingsWithWhatTheSystemGives(t *testing.T) {
	s := &settings.Settings{CertDir: "certs", MaxConns: 10_000}
	enough := machine.Limits{Files: 20_000, Receive: 8 << 20, Send: 8 << 20, Memory: 16 << 30}
	none(t, judgeMachine(s, enough))
	none(t, judgeMachine(s, machine.Limits{Receive: 8 << 20, Send: 8 << 20})) // no limit on files

	few := enough
	few.Files = 1024
	want(t, judgeMachine(s, few), Doubtful, "the system allows 1,024 open files, and PEERSTATE_MAX_CONNS is 10,000", "LimitNOFILE=10200")
	small := enough
	small.Receive = 208 << 10
	want(t, judgeMachine(s, small), Doubtful, "a buffer of 208 KiB to receive and 8.0 MiB to send, and QUIC wants 7.0 MiB", machine.LargerBuffers)
	none(t, judgeMachine(&settings.Settings{MaxConns: 100}, machine.Limits{Files: 1000, Receive: 1})) // without peers there is no UDP
}

func TestCheckLooksForRoomOnTheDiskOfTheJournal(t *testing.T) {
	want(t, []Finding{judgeSpace("data", 63<<20, 1<<30)}, Problem, "has only 63 MiB left", "make room")
	want(t, []Finding{judgeSpace("data", 3<<30, 4<<30)}, Doubtful, "has 3.0 GiB left, and the journal may come to take 4.0 GiB", "larger disk")
	want(t, []Finding{judgeSpace("data", 5<<30, 4<<30)}, Fine, "has 5.0 GiB left", "")

	dir := t.TempDir()
	free, err := machine.DiskFree(dir)
	if err != nil || free == 0 {
		t.Fatal(free, err)
	}
	much := &runningSidecar{told: &Insight{Sessions: int64(free)}} // three times what is free
	want(t, checkSpace(&settings.Settings{DataDir: filepath.Join(dir, "not", "yet")}, much), Doubtful, "and the journal may come to take", "")
	if found := checkSpace(&settings.Settings{DataDir: dir}, nil); len(found) != 1 {
		t.Error(found)
	}
	if _, err := os.Stat(filepath.Join(dir, "not")); !os.IsNotExist(err) {
		t.Error("it made a directory")
	}
}

func TestCheckComparesTheLimitForMemoryWithTheMachine(t *testing.T) {
	limited := mustSettings(t, "PEERSTATE_MAX_MEMORY=1GiB") // 1.375 GiB in all
	want(t, []Finding{judgeMemory(mustSettings(t), 8<<30)}, Fine, "sets no limit, and this machine has 8.0 GiB", "")
	want(t, []Finding{judgeMemory(limited, 1<<30)}, Problem, "PEERSTATE_MAX_MEMORY=1GiB the whole process takes up to 1.4 GiB, and this machine has 1.0 GiB", "lower")
	want(t, []Finding{judgeMemory(limited, 1700<<20)}, Doubtful, "for the web server too", "lower")
	want(t, []Finding{judgeMemory(limited, 2<<30)}, Fine, "this machine has 2.0 GiB", "")
}
