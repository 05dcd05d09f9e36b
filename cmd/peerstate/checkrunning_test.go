package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"peerstate/certs"
)

func TestCheckLearnsFromTheRunningSidecarWhatOnlyItKnows(t *testing.T) {
	i := startIssuer(t)
	same := []string{"PEERSTATE_CERT_DIR=" + filepath.Join(i.dir, "web1"), "PEERSTATE_CA_DIR=" + filepath.Join(i.dir, "ca"), "PEERSTATE_BACKUPS=0",
		"PEERSTATE_CONTROL=" + os.Getenv("PEERSTATE_CONTROL"), "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_PEER_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN="}
	findings := check(t.Context(), mustSettings(t, append(same, "PEERSTATE_SITE=tokyo", "PEERSTATE_MAX_CONNS=7")...))
	want(t, findings, fine, "runs here (node web1), so its ports are in use", "")
	want(t, findings, doubtful, `PEERSTATE_SITE was "" and is "tokyo"; PEERSTATE_MAX_CONNS was "10000" and is "7"`, "restart it")
	if err := printFindings(io.Discard, findings); err != nil {
		t.Error(err)
	}
	for _, f := range findings {
		if strings.Contains(f.what, "is free") {
			t.Errorf("it tried a port that the running one has: %s", f.what)
		}
	}

	ca, err := certs.LoadCA(filepath.Join(i.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(i.dir, "web2"), "web2", certs.DefaultNodeLife, time.Now()); err != nil {
		t.Fatal(err)
	}
	same[0] = "PEERSTATE_CERT_DIR=" + filepath.Join(i.dir, "web2")
	want(t, check(t.Context(), mustSettings(t, same...)), problem, "another node's peerstate runs here (web1), and the certificate is web2's", "of its own")
}

func TestCheckSaysWhatTheRunningSidecarSaysOfItself(t *testing.T) {
	s := mustSettings(t)
	r := &runningSidecar{node: "web1", version: "1.0", told: &insight{NotReady: starting, Warnings: []string{"the sky falls", "peer web2 is out: gone"}}}
	found := checkRunning(s, r)
	want(t, found, doubtful, "this program is version "+buildVersion()+", the one that runs is 1.0", "restart it")
	want(t, found, doubtful, "it is not ready: starting", "")
	want(t, found, doubtful, "it warns: the sky falls", "")
	for _, f := range found {
		if strings.Contains(f.what, "web2") {
			t.Errorf("what check looks at itself is said twice: %s", f.what)
		}
	}
}

func TestCheckTriesAnAddressThatTheRunningSidecarDoesNotHave(t *testing.T) {
	taken := answering(t, "")
	r := &runningSidecar{told: &insight{Settings: map[string]string{"PEERSTATE_LISTEN": "127.0.0.1:42424", "PEERSTATE_ADMIN_LISTEN": "127.0.0.1:42426"}}}
	s := mustSettings(t, "PEERSTATE_ADMIN_LISTEN="+string(taken))
	want(t, checkPorts(t.Context(), s, r), problem, "PEERSTATE_ADMIN_LISTEN: cannot listen", "another port")
}

func TestCheckSaysThatTheControlSocketDoesNotAnswer(t *testing.T) {
	r := startSidecar(t) // without one: the port of its web listener is 0
	s := mustSettings(t, "PEERSTATE_ADMIN_LISTEN="+r.admin, "PEERSTATE_CONTROL="+controlIn(t.TempDir()))
	findings := check(t.Context(), s)
	want(t, findings, doubtful, "answers at PEERSTATE_ADMIN_LISTEN, but not at the control socket", "under the account")
	want(t, findings, fine, "runs here", "")
}
