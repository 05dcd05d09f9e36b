package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/check"
)

// says looks for one finding of that grade with both texts.
func says(t *testing.T, findings []check.Finding, g check.Grade, what, mend string) {
	t.Helper()
	if !slices.ContainsFunc(findings, func(f check.Finding) bool {
		return f.Grade == g && strings.Contains(f.What, what) && strings.Contains(f.Mend, mend)
	}) {
		t.Errorf("no finding with %q and %q in %+v", what, mend, findings)
	}
}

func TestCheckMayBeUsedWhileTheSidecarRuns(t *testing.T) {
	r := startSidecar(t)
	s := mustSettings(t, "PEERSTATE_LISTEN="+r.web, "PEERSTATE_ADMIN_LISTEN="+r.admin)
	findings := check.All(t.Context(), s, buildVersion())
	says(t, findings, check.Fine, "runs here", "")
	if err := check.Print(io.Discard, findings); err != nil {
		t.Error(err)
	}
}

func TestCheckLearnsFromTheRunningSidecarWhatOnlyItKnows(t *testing.T) {
	i := startIssuer(t)
	same := []string{"PEERSTATE_CERT_DIR=" + filepath.Join(i.dir, "web1"), "PEERSTATE_CA_DIR=" + filepath.Join(i.dir, "ca"), "PEERSTATE_BACKUPS=0",
		"PEERSTATE_CONTROL=" + os.Getenv("PEERSTATE_CONTROL"), "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_PEER_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN="}
	findings := check.All(t.Context(), mustSettings(t, append(same, "PEERSTATE_SITE=tokyo", "PEERSTATE_MAX_CONNS=7")...), buildVersion())
	says(t, findings, check.Fine, "runs here (node web1), so its ports are in use", "")
	says(t, findings, check.Doubtful, "a crash of this node ends all sessions that it holds", "PEERSTATE_BACKUPS=1")
	says(t, findings, check.Doubtful, `PEERSTATE_SITE was "" and is "tokyo"; PEERSTATE_MAX_CONNS was "10000" and is "7"`, "restart it")
	if err := check.Print(io.Discard, findings); err != nil {
		t.Error(err)
	}
	for _, f := range findings {
		if strings.Contains(f.What, "is free") {
			t.Errorf("it tried a port that the running one has: %s", f.What)
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
	says(t, check.All(t.Context(), mustSettings(t, same...), buildVersion()), check.Problem,
		"answers the node web1 of the farm shop, and the certificates in PEERSTATE_CERT_DIR are of the node web2 of the farm shop", "of its own")
}

func TestCheckSaysThatTheControlSocketDoesNotAnswer(t *testing.T) {
	r := startSidecar(t) // without one: the port of its web listener is 0
	s := mustSettings(t, "PEERSTATE_ADMIN_LISTEN="+r.admin, "PEERSTATE_CONTROL="+controlIn(t.TempDir()))
	findings := check.All(t.Context(), s, buildVersion())
	says(t, findings, check.Doubtful, "answers at PEERSTATE_ADMIN_LISTEN, but not at the control socket", "under the account")
	says(t, findings, check.Fine, "runs here", "")
}

// lookAt checks the settings of a node that does not run.
func lookAt(t *testing.T, certDir string, environ ...string) []check.Finding {
	t.Helper()
	return check.All(t.Context(), mustSettings(t, append(environ, "PEERSTATE_CERT_DIR="+certDir, "PEERSTATE_LISTEN=127.0.0.1:0",
		"PEERSTATE_PEER_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=")...), buildVersion())
}

func TestCheckAsksThoseWhomTheNodeKnowsFromBefore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web1")
	other, err := certs.CreateCA(filepath.Join(t.TempDir(), "ca"), "shop", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Issue(dir, "web1", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	i := startIssuer(t)
	_, port, err := net.SplitHostPort(field(i.log.String()[strings.Index(i.log.String(), "msg=ready"):], "peers"))
	if err != nil {
		t.Fatal(err)
	}
	known := fmt.Sprintf(`[{"node":"web1","addr":"127.0.0.1:%s","state":"connecting"},{"node":"gone","addr":"127.0.0.1:1","state":"lost"}]`, port)
	if err := os.MkdirAll(filepath.Join(dir, certs.StateDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, certs.StateDir, "nodes.json"), []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	// It is of another farm, which shows that it was asked.
	found := lookAt(t, dir)
	says(t, found, check.Doubtful, "none of the nodes that this one knows from before can be reached", "")
	says(t, found, check.Problem, "another CA", "")

	ca, err := certs.LoadCA(filepath.Join(i.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(i.dir, "web2"), "web2", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(i.dir, "web2", certs.StateDir), 0o700); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, filepath.Join(dir, certs.StateDir), filepath.Join(i.dir, "web2", certs.StateDir), "nodes.json")
	found = lookAt(t, filepath.Join(i.dir, "web2"))
	says(t, found, check.Fine, "the node begins with those that it knows from before", "")
}

func TestCheckHearsFromPeersWhatTheyAreBeforeItsOwnNodeRuns(t *testing.T) {
	i := startIssuer(t)
	_, port, err := net.SplitHostPort(field(i.log.String()[strings.Index(i.log.String(), "msg=ready"):], "peers"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadCA(filepath.Join(i.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(i.dir, "web2"), "web2", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	found := lookAt(t, filepath.Join(i.dir, "web2"), "PEERSTATE_PEERS=127.0.0.1:"+port)
	says(t, found, check.Fine, "node web1, round trip", "")
	says(t, found, check.Fine, "the clocks agree", "")
	says(t, found, check.Fine, "the crash of one node takes no session", "")
	for _, f := range found {
		if strings.Contains(f.What, "several versions") {
			t.Error(f.What)
		}
	}
}
