package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"peerstate/certs"
)

// issuer makes the node that is the farm's issuer, without a web server; start runs it.
func (f *farm) issuer(env ...string) *node {
	f.t.Helper()
	n := f.node("issuer", append([]string{"PEERSTATE_LISTEN=", "PEERSTATE_CA_DIR=" + filepath.Join(f.dir, "ca")}, env...)...)
	return n
}

// joined runs an issuer and two nodes that have joined it, and returns when all are linked.
func (f *farm) joined(env ...string) (issuer, web1, web2 *node) {
	f.t.Helper()
	issuer = f.issuer(env...)
	issuer.start()
	web1, web2 = f.invited(issuer, "web1", env...), f.invited(issuer, "web2", env...)
	web1.start()
	web2.start()
	f.linked(issuer, web1, web2)
	return issuer, web1, web2
}

// invited makes a node that is invited by the issuer, which runs, and joins; start runs it, without any peers.
func (f *farm) invited(issuer *node, name string, env ...string) *node {
	f.t.Helper()
	line, err := issuer.command("", "cert", "token", name)
	if err != nil {
		f.t.Fatalf("cert token: %v\n%s", err, line)
	}
	fields := strings.Fields(line[strings.LastIndex(line, "peerstate join"):])
	out := f.command("join", fields[2], "--out", filepath.Join(f.dir, name))
	if !strings.Contains(out, "PEERSTATE_CERT_DIR=") || !strings.Contains(out, `node "`+name+`" of the farm "e2e"`) {
		f.t.Fatalf("join says\n%s", out)
	}
	return (&node{farm: f, name: name, peer: freeUDP(f.t), env: env}).controlled()
}

// command runs one with something on its standard input, and gives all that it prints.
func (n *node) command(stdin string, args ...string) (string, error) {
	c := n.commandFor(args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	return string(out), err
}

// does wants a command to succeed.
func (n *node) does(args ...string) string {
	n.farm.t.Helper()
	out, err := n.command("", args...)
	if err != nil {
		n.farm.t.Fatalf("peerstate %s on %s: %v\n%s\nlog:\n%s", strings.Join(args, " "), n.name, err, out, n.log)
	}
	return out
}

// refuses wants it to fail with that exit code, and say so.
func (n *node) refuses(code int, says string, args ...string) {
	n.farm.t.Helper()
	out, err := n.command("", args...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != code || !strings.Contains(out, says) {
		n.farm.t.Errorf("peerstate %s: %v, want exit code %d and %q:\n%s", strings.Join(args, " "), err, code, says, out)
	}
}

// certificates is what a node's status says of them.
type certificates struct {
	Certificate struct {
		Serial    string
		IssuerKey string `json:"issuer_key"`
		Document  uint64
		Rotation  string
	}
	Peers []struct {
		Node, State, Reason string
		CertSerial          string `json:"cert_serial"`
		CertIssuer          string `json:"cert_issuer"`
		Document            uint64
		Issuer              bool
	}
}

func (n *node) certificates() certificates {
	n.farm.t.Helper()
	var c certificates
	if err := json.Unmarshal(n.get("/api/status"), &c); err != nil {
		n.farm.t.Fatal(err)
	}
	return c
}

// serialOf is the number of another node's certificate, as this one knows it.
func (n *node) serialOf(peer string) string {
	for _, p := range n.certificates().Peers {
		if p.Node == peer {
			return p.CertSerial
		}
	}
	return ""
}

func (n *node) get(path string) []byte {
	n.farm.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	a, err := client.Get("http://" + n.admin + path)
	if err != nil {
		n.farm.t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		n.farm.t.Fatal(err)
	}
	return body
}

func (f *farm) copyDir(from, to string) {
	f.t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *farm) copyFile(from, to string) {
	f.t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// Files that are broken leave in force what was read before, and are said until they are mended; those that are whole
// are taken in while everything runs.
func TestChangedCertificateFilesAreTakenInAndBrokenOnesAreNot(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.node("london"), f.node("tokyo")
	f.startBoth(london, tokyo)
	london.want(200, "", "PUT", "visitor", "cart")
	before := london.certificates().Certificate.Serial
	dir, fresh := filepath.Join(f.dir, "london"), filepath.Join(f.dir, "fresh")
	f.command("cert", "issue", "london", "--ca", filepath.Join(f.dir, "ca"), "--out", fresh)

	file := filepath.Join(dir, certs.NodeCert)
	if err := os.WriteFile(file, []byte("-----BEGIN CERTIFICATE-----\nbroken"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.until("warned of", func() bool {
		return bytes.Contains(london.get("/readyz"), []byte("warning: the certificate files have changed"))
	})
	f.until("named in the log", func() bool { return strings.Contains(london.log.String(), file) })
	if serial := london.certificates().Certificate.Serial; serial != before || london.state("tokyo") != "up" {
		t.Errorf("the serial was %s and is %s; tokyo is %s", before, serial, london.state("tokyo"))
	}
	tokyo.want(200, "cart", "GET", "visitor", "")

	f.copyFile(filepath.Join(fresh, certs.NodeKey), filepath.Join(dir, certs.NodeKey))
	f.copyFile(filepath.Join(fresh, certs.NodeCert), file)
	f.until("taken in", func() bool { return london.certificates().Certificate.Serial != before })
	f.until("known to tokyo", func() bool { return tokyo.serialOf("london") == london.certificates().Certificate.Serial })
	if body := string(london.get("/readyz")); strings.Contains(body, "certificate files") {
		t.Errorf("it still warns: %s", body)
	}
	london.want(200, "cart", "GET", "visitor", "")
}

func TestSIGHUPReadsTheCertificatesAnewAndStopsNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such signal on Windows")
	}
	t.Parallel()
	f := newFarm(t)
	for _, n := range []*node{f.node("london"), {farm: f, name: "alone", env: []string{"PEERSTATE_CERT_DIR=", "PEERSTATE_PEER_LISTEN=127.0.0.1:0"}, peer: "127.0.0.1:0"}} {
		n.start()
		for i := range 3 {
			if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			f.until("read anew", func() bool { return strings.Count(n.log.String(), "SIGHUP: the certificate files are read anew") > i })
		}
		n.want(404, "", "GET", "nobody", "")
		n.stop()
	}
}

// The whole way of a farm: an issuer without a web server, and nodes that join with a line each and find each other.
func TestNodesJoinWithOneLineAndFindEachOther(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	issuer := f.issuer()
	issuer.start()
	web1 := f.invited(issuer, "web1")
	web1.start()

	// The second one's line comes through a pipe.
	line, err := issuer.commandFor("cert", "token", "web2").Output()
	if err != nil {
		t.Fatal(err)
	}
	web2 := (&node{farm: f, name: "web2", peer: freeUDP(t)}).controlled()
	if out, err := web2.command(string(line), "join", "-", "--out", filepath.Join(f.dir, "web2")); err != nil {
		t.Fatalf("join: %v\n%s", err, out)
	}
	web2.start()
	f.linked(issuer, web1, web2)
	web1.want(200, "", "PUT", "visitor", "cart")
	web2.want(200, "cart", "GET", "visitor", "")
	web2.missing("nobody")
	for _, n := range []*node{web1, web2} {
		n.refuses(1, "issuer is, so run this command there", "cert", "token", "web9")
		n.refuses(1, "issuer is, so run this command there", "cert", "revoke", "web9")
	}

	// After a restart of all they find each other again.
	for _, n := range []*node{issuer, web1, web2} {
		n.stop()
	}
	for _, n := range []*node{web2, web1, issuer} {
		n.start()
	}
	f.linked(issuer, web1, web2)

	before := web1.certificates().Certificate.Serial
	if out := web1.does("cert", "renew"); !strings.Contains(out, "has a new certificate and a new key") {
		t.Errorf("renew says\n%s", out)
	}
	after := web1.certificates().Certificate.Serial
	if after == before {
		t.Errorf("the serial is %s as before", after)
	}
	f.until("known to the others", func() bool { return web2.serialOf("web1") == after && issuer.serialOf("web1") == after })
	f.linked(issuer, web1, web2)
}

func TestAnInvitationThatIsNotGoodIsRefusedAndSaysWhy(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	issuer := f.issuer()
	ca, twin, other := filepath.Join(f.dir, "ca"), filepath.Join(f.dir, "twin"), filepath.Join(f.dir, "other")
	f.command("cert", "init", "--ca", other, "--farm", "e2e")
	f.copyDir(ca, twin)
	// invite has a CA directory make an invitation that this farm's issuer knows nothing of.
	invite := func(dir string, at time.Time) string {
		i, err := certs.OpenIssuer(dir, time.Hour, at)
		if err != nil {
			t.Fatal(err)
		}
		text, err := i.Invite("web1", time.Hour, "issuer", []string{issuer.peer}, at)
		if err = errors.Join(err, i.Close()); err != nil {
			t.Fatal(err)
		}
		return text
	}
	expired := invite(ca, time.Now().Add(-2*time.Hour))
	issuer.start()
	line, err := issuer.commandFor("cert", "token", "web1").Output()
	if err != nil {
		t.Fatal(err)
	}
	token := strings.Fields(string(line))[2]
	typo := []byte(token)
	typo[40] ^= 1
	dir := filepath.Join(f.dir, "web1")
	for _, c := range []struct {
		name, token, says string
		code              int
	}{
		{"cut off", token[:len(token)/2], "cut off", 2},
		{"with a typo", string(typo), "copy it again", 2},
		{"expired", expired, "ended on", 2},
		{"of another CA", invite(other, time.Now()), "is not the issuer of the farm", 1},
		{"with a secret of somebody else", invite(twin, time.Now()), "not known here", 1},
	} {
		t.Log(c.name)
		issuer.refuses(c.code, c.says, "join", c.token, "--out", dir)
		if _, err := os.Stat(filepath.Join(dir, certs.NodeCert)); err == nil {
			t.Fatalf("an invitation %s has given a certificate", c.name)
		}
	}
	issuer.does("join", token, "--out", dir)
	issuer.refuses(1, "used already", "join", token, "--out", filepath.Join(f.dir, "again"))
	issuer.refuses(1, "not overwritten", "join", token, "--out", dir)
}

// A node is cut off within a second, its sessions are served from their backups, and a restart does not bring it back.
func TestARevokedNodeIsOutAtOnceAndStaysOut(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	grace := "PEERSTATE_MISSING_GRACE=1m" // so nothing happens just because a node is away
	issuer, web1, web2 := f.joined(grace)
	for _, id := range []string{"a", "b", "c", "d"} {
		web2.want(200, "", "PUT", id, "cart")
	}
	f.until("backed up", func() bool { return web2.metric("peerstate_backup_pending") == 0 })

	ca := filepath.Join(f.dir, "ca")
	f.copyDir(ca, ca+".copy")
	begun := time.Now()
	out := issuer.does("cert", "revoke", "web2")
	f.until("cut off", func() bool { return web1.state("web2") == "refused" && issuer.state("web2") == "refused" })
	if took := time.Since(begun); took > 3*time.Second { // usually some 100 ms, with the command
		t.Errorf("it took %v until web2 was cut off", took)
	}
	if !strings.Contains(out, "All other nodes know it: web1.") {
		t.Errorf("revoke says\n%s", out)
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		web1.served(id, "cart")
	}
	web1.missing("nobody")
	f.until("said by web2 itself", func() bool {
		return strings.Contains(string(web2.get("/readyz")), "warning: this node is revoked") && strings.Contains(web2.log.String(), "this node is revoked")
	})
	if out := issuer.does("cert", "status", "--dir", filepath.Join(f.dir, "issuer")); !strings.Contains(out, "revoked         web2, on ") {
		t.Errorf("cert status says\n%s", out)
	}

	// Neither the node nor the farm forgets it, and a copy of the CA's directory from before does not either.
	web2.kill()
	issuer.kill()
	web1.kill()
	if err := os.RemoveAll(ca); err != nil {
		t.Fatal(err)
	}
	f.copyDir(ca+".copy", ca)
	web2.start()
	web1.start()
	issuer.start()
	f.linked(issuer, web1)
	f.until("refused again", func() bool { return web1.state("web2") == "refused" && issuer.state("web2") == "refused" })
	f.until("known to the restored issuer", func() bool {
		return strings.Contains(f.command("cert", "status", "--dir", ca), "revoked         web2, on ")
	})

	issuer.does("cert", "unrevoke", "web2")
	f.linked(issuer, web1, web2)
	web1.want(200, "", "PUT", "afterwards", "cart")
	web2.want(200, "cart", "GET", "afterwards", "")
}

// While the CA is replaced, a node is off, the operator goes away, and the issuer is killed.
func TestTheCAIsReplacedWhateverHappensMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	issuer, web1, web2 := f.joined()
	web1.want(200, "", "PUT", "visitor", "cart")
	old := issuer.certificates().Certificate.IssuerKey
	web2.kill()

	rotate := issuer.commandFor("cert", "rotate-ca")
	said := &output{}
	rotate.Stdout, rotate.Stderr = said, said
	if err := rotate.Start(); err != nil {
		t.Fatal(err)
	}
	f.until("waiting for web2", func() bool {
		text := said.String()
		return strings.Contains(text, "step 1 of 3") && strings.Contains(text, "waiting for web2 (")
	})
	table := issuer.does("cert", "status")
	for _, row := range []string{`issuer +this node +\w+ +\w{8} .* done\n`, `web1 +up .* done\n`, `web2 +\w+ .* behind\n`} {
		if !regexp.MustCompile(row).MatchString(table) {
			t.Errorf("no row %q in\n%s", row, table)
		}
	}
	asked := interruptCommand(t, rotate)
	if err := rotate.Wait(); err == nil || asked && !strings.Contains(said.String(), "goes on in the sidecar") {
		t.Errorf("after Ctrl-C: %v\n%s", err, said)
	}
	status := func() string { return issuer.does("cert", "rotate-ca", "--status") }
	if text := status(); !strings.Contains(text, "step 1 of 3") || !strings.Contains(text, "waiting for web2") {
		t.Errorf("the status is\n%s", text)
	}
	issuer.kill()
	issuer.start()
	f.linked(issuer, web1)
	if text := status(); !strings.Contains(text, "of 3") {
		t.Errorf("after kill -9 the status is\n%s", text)
	}
	web2.start()
	if text := issuer.does("cert", "rotate-ca"); !strings.Contains(text, "Done: all nodes have certificates of the new CA") {
		t.Errorf("it says\n%s", text)
	}
	all := []*node{issuer, web1, web2}
	f.linked(all...)
	for _, n := range all {
		if c := n.certificates().Certificate; c.IssuerKey == old || c.Rotation != "" {
			t.Errorf("%s has a certificate of %s (it was %s); stage %q", n.name, c.IssuerKey, old, c.Rotation)
		}
		out := f.command("cert", "status", "--dir", filepath.Join(f.dir, n.name))
		if strings.Contains(out, old) || strings.Count(out, "A CA that is trusted") != 1 {
			t.Errorf("%s trusts\n%s", n.name, out)
		}
	}
	web2.want(200, "cart", "GET", "visitor", "")

	// A node that is not waited for has to join anew.
	old = issuer.certificates().Certificate.IssuerKey
	web2.kill()
	if text := issuer.does("cert", "rotate-ca", "--without", "web2"); !strings.Contains(text, "Not waited for: web2") {
		t.Errorf("it says\n%s", text)
	}
	web2.start()
	f.until("refused", func() bool { return web2.state("web1") == "refused" || web2.state("issuer") == "refused" })
	web2.kill()
	if err := os.Rename(filepath.Join(f.dir, "web2"), filepath.Join(f.dir, "old")); err != nil {
		t.Fatal(err)
	}
	web2 = f.invited(issuer, "web2")
	web2.start()
	f.linked(issuer, web1, web2)
	if now := web2.certificates().Certificate.IssuerKey; now == old || now != issuer.certificates().Certificate.IssuerKey {
		t.Errorf("web2 has a certificate of %s; the old CA was %s", now, old)
	}
}

func TestTheReplacementOfTheCACanBeAbandoned(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	issuer, web1, web2 := f.joined()
	old := issuer.certificates().Certificate.IssuerKey
	web2.kill()
	rotate := issuer.commandFor("cert", "rotate-ca")
	if err := rotate.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rotate.Wait(); err != nil {
			t.Errorf("the command that began it: %v", err)
		}
	}()
	f.until("begun", func() bool { return web1.certificates().Certificate.Rotation == "trust" })
	abandon := make(chan string, 1)
	go func() {
		out, err := issuer.command("", "cert", "rotate-ca", "--abandon")
		if err != nil {
			out += err.Error()
		}
		abandon <- out
	}()
	f.until("given up", func() bool { return web1.certificates().Certificate.Rotation == "drop" })
	web2.start()
	if out := <-abandon; !strings.Contains(out, "the new CA was given up") {
		t.Errorf("it says\n%s", out)
	}
	f.linked(issuer, web1, web2)
	for _, n := range []*node{issuer, web1, web2} {
		if c := n.certificates().Certificate; c.IssuerKey != old || c.Rotation != "" {
			t.Errorf("%s has a certificate of %s, want %s; stage %q", n.name, c.IssuerKey, old, c.Rotation)
		}
	}
}
