package check

import (
	"strings"
	"testing"

	"peerstate/cmd/peerstate/service"
	"peerstate/transport"
)

func TestCheckSaysWhatTheRunningSidecarSaysOfItself(t *testing.T) {
	s := mustSettings(t)
	r := &runningSidecar{node: "web1", version: "1.0", told: &Insight{NotReady: "starting", Warnings: []string{"the sky falls", "peer web2 is out: gone"}}}
	found := checkRunning(s, r, "2.0")
	want(t, found, Doubtful, "this program is version 2.0, the one that runs is 1.0", "restart it")
	want(t, found, Doubtful, "it is not ready: starting", "")
	want(t, found, Doubtful, "it warns: the sky falls", "")
	for _, f := range found {
		if strings.Contains(f.What, "web2") {
			t.Errorf("what check looks at itself is said twice: %s", f.What)
		}
	}
}

func TestWhatCheckSaysItselfIsNotSaidOnceMore(t *testing.T) {
	const few = "PEERSTATE_BACKUPS is 2, and of the other nodes 1 can keep any: a crash now may lose sessions"
	told := &Insight{Warnings: []string{few}, Peers: []Peer{{Node: "web2", State: transport.Up}, {Node: "web3", State: transport.Out}}}
	want(t, checkRunning(mustSettings(t), &runningSidecar{told: told}, ""), Doubtful, "it warns: "+few, "") // there are fewer copies than were asked for
	told.Peers[0].State = transport.Lost
	for _, f := range checkRunning(mustSettings(t), &runningSidecar{told: told}, "") {
		if strings.Contains(f.What, few) {
			t.Errorf("checkSafety has said that there is nobody: %s", f.What)
		}
	}
}

func TestCheckTriesAnAddressThatTheRunningSidecarDoesNotHave(t *testing.T) {
	taken := answering(t, "")
	r := &runningSidecar{told: &Insight{Settings: map[string]string{"PEERSTATE_LISTEN": "127.0.0.1:42424", "PEERSTATE_ADMIN_LISTEN": "127.0.0.1:42426"}}}
	s := mustSettings(t, "PEERSTATE_ADMIN_LISTEN="+string(taken))
	want(t, checkPorts(t.Context(), s, r), Problem, "PEERSTATE_ADMIN_LISTEN: cannot listen", "another port")
}

func TestCheckSaysWhatOthersCouldDoToTheInstalledService(t *testing.T) {
	want(t, judgeExposed([]service.Exposure{{What: "everybody may replace it", Mend: "move it"}}), Doubtful, "everybody may replace it", "move it")
	if all := judgeExposed(nil); len(all) > 0 {
		t.Errorf("of a service that nobody else can change it says %v", all)
	}
}
