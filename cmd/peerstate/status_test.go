package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peerstate/certs"
	"peerstate/cmd/peerstate/terminal"
)

func TestTheStatusIsAskedOverTheControlSocketAlsoWithoutAnAdminListener(t *testing.T) {
	i := startIssuer(t, "PEERSTATE_ADMIN_LISTEN=", "PEERSTATE_SITE=london")
	t.Setenv("PEERSTATE_ADMIN_LISTEN", "")
	text, _ := i.does("status")
	for _, want := range []string{"web1  london, farm shop, up ", "\nready\n", "Sessions        0 held (0 B)", "\n  web1  london  this node", "Issuer          this node",
		"this node is the farm's issuer  farm=shop", " days left, until "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("it is coloured, and this is no terminal")
	}
	if text, _ := i.does("status", "--events", "0"); strings.Contains(text, "Events") {
		t.Errorf("there are events in\n%s", text)
	}
}

func TestTheStatusAsJSONIsThatOfTheAdminListener(t *testing.T) {
	i := startIssuer(t, "PEERSTATE_DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	text, _ := i.does("status", "--json")
	_, page := i.get(t, "/api/status")
	var got, want map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(page), &want); err != nil {
		t.Fatal(err)
	}
	delete(got, "uptime_seconds") // they were asked one after the other
	delete(want, "uptime_seconds")
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 8 {
		t.Errorf("%s\n%s", diff, text)
	}
}

func TestWhoMayNotUseTheControlSocketAsksTheAdminListener(t *testing.T) {
	r := startSidecar(t, "PEERSTATE_CONTROL="+controlFor(t, "one"))
	t.Setenv("PEERSTATE_CONTROL", controlFor(t, "another")) // as if it was not there
	t.Setenv("PEERSTATE_ADMIN_LISTEN", r.admin)
	code, text, errs := command(t, "status")
	if code != exitDone || !strings.Contains(text, "stand-alone") || !strings.Contains(text, "\nready\n") {
		t.Errorf("exit code %d: %s%s", code, text, errs)
	}
}

func TestWhatIsAskedOfAnotherNodesSidecarIsNotDone(t *testing.T) {
	i := startIssuer(t)
	ca, err := certs.LoadCA(filepath.Join(i.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(i.dir, "web2"), "web2", certs.DefaultNodeLife, time.Now()); err != nil {
		t.Fatal(err)
	}
	const says = "answers the node web1 of the farm shop, and the certificates in PEERSTATE_CERT_DIR are of the node web2 of the farm shop; name the settings"
	t.Setenv("PEERSTATE_CERT_DIR", filepath.Join(i.dir, "web1"))
	if text, _ := i.does("cert", "status"); !strings.Contains(text, "The nodes of the farm, as the running sidecar knows them") {
		t.Errorf("its own node's status is\n%s", text)
	}
	t.Setenv("PEERSTATE_CERT_DIR", filepath.Join(i.dir, "web2"))
	t.Setenv("PEERSTATE_ADMIN_LISTEN", i.admin)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"drain"}, {"forget", "web3"}, {"explain", "5f1d03aa"}, {"cert", "renew"},
		{"cert", "token", "web3"}, {"cert", "revoke", "web3", "--force"}, {"cert", "unrevoke", "web3"}, {"cert", "rotate-ca"}, {"cert", "rotate-ca", "--status"}} {
		i.refuses(says, args...)
	}
	text, _ := i.does("cert", "status")
	if !strings.Contains(text, "Warning: the farm's nodes are not shown: at ") || !strings.Contains(text, says) || strings.Contains(text, "The nodes of the farm") || !strings.Contains(text, "node    web2") {
		t.Errorf("the status of web2's certificate is\n%s", text)
	}
	t.Setenv("PEERSTATE_CONTROL", controlFor(t, "absent")) // then the admin listener is asked
	i.refuses(says, "status")
	if log := i.log.String(); strings.Contains(log, "drain") || strings.Contains(log, "revoked") || strings.Contains(log, "invit") {
		t.Errorf("it did something:\n%s", log)
	}
}

// controlFor is a control socket for a test.
func controlFor(t *testing.T, name string) string {
	if runtime.GOOS == "windows" {
		return `\\.\pipe\peerstate-test-` + name + filepath.Base(filepath.Dir(t.TempDir()))
	}
	return filepath.Join(t.TempDir(), name)
}

// counted is a screen that says how often it was drawn on.
type counted struct {
	strings.Builder
	drawn atomic.Int32
	again chan struct{}
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Builder.Write(p)
	c.drawn.Add(1)
	c.again <- struct{}{}
	return n, err
}

func TestAWatchedStatusIsDrawnAgainAndSurvivesARestart(t *testing.T) {
	socket := controlFor(t, "socket")
	r := startSidecar(t, "PEERSTATE_CONTROL="+socket)
	s := mustSettings(t, "PEERSTATE_CONTROL="+socket, "PEERSTATE_ADMIN_LISTEN=")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &counted{again: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- watchStatus(ctx, s, terminal.NewScreen(out), 3) }()
	<-out.again
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	<-out.again
	<-out.again
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	text := out.String()
	if strings.Count(text, "stand-alone") < 1 || !strings.Contains(text, "no sidecar is running") {
		t.Errorf("it has shown\n%s", text)
	}
}

// says sends a request as a web server does, and wants it answered with that status.
func (r running) says(t *testing.T, request, status string) {
	t.Helper()
	nc, err := net.Dial("tcp", r.web)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close() // all of the answer that matters was read
	if _, err := io.WriteString(nc, request); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(nc, answer); err != nil || !strings.HasSuffix(string(answer), status) {
		t.Fatalf("%q is answered with %q, %v", request, answer, err)
	}
}

func TestASessionIsInTheStatusByHashOnly(t *testing.T) {
	i := startIssuer(t)
	const id = "mbkzjsnmvgpbxytfdrlwhq5e"
	i.says(t, "PUT %2fapp%2f"+id+" HTTP/1.1\r\nTimeout:20\r\nContent-Length:4\r\n\r\ncart", "200")
	i.says(t, "GET %2fapp%2f"+id+" HTTP/1.1\r\nExclusive:acquire\r\n\r\n", "200")
	i.says(t, "GET %2fapp%2f"+id+" HTTP/1.1\r\nExclusive:acquire\r\n\r\n", "423")
	text, _ := i.does("status")
	asJSON, _ := i.does("status", "--json")
	_, page := i.get(t, "/api/page")
	if !regexp.MustCompile(`(?m)^  session +met +longest wait +waiting now +locked for\n  [0-9a-f]{8} +1 `).MatchString(text) {
		t.Errorf("the session that was met locked is not in\n%s", text)
	}
	for _, shown := range []string{text, asJSON, page} {
		if strings.Contains(shown, id) || strings.Contains(shown, "cart") {
			t.Errorf("its id or its contents are in\n%s", shown)
		}
	}
}
