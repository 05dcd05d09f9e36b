package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"peerstate/certs"
)

// issuing is a sidecar in this process that is its farm's issuer, and the commands that go to it.
type issuing struct {
	running
	t   *testing.T
	dir string
}

func startIssuer(t *testing.T, environ ...string) issuing {
	t.Helper()
	dir := t.TempDir()
	at := time.Now()
	ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "shop", certs.DefaultCALife, at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(dir, "web1"), "web1", certs.DefaultNodeLife, at); err != nil {
		t.Fatal(err)
	}
	return startIn(t, dir, append([]string{"PEERSTATE_CA_DIR=" + filepath.Join(dir, "ca")}, environ...)...)
}

// controlIn gives a control socket for a test's directory.
func controlIn(dir string) string {
	if runtime.GOOS == "windows" {
		return `\\.\pipe\peerstate-test-` + filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)
	}
	return filepath.Join(dir, "socket")
}

// startIn starts web1 with the certificates in dir.
func startIn(t *testing.T, dir string, environ ...string) issuing {
	t.Helper()
	socket := controlIn(dir)
	t.Setenv("PEERSTATE_CONTROL", socket)
	r := startSidecar(t, append([]string{"PEERSTATE_CERT_DIR=" + filepath.Join(dir, "web1"), "PEERSTATE_PEER_LISTEN=127.0.0.1:0",
		"PEERSTATE_CONTROL=" + socket, "PEERSTATE_BACKUPS=0"}, environ...)...)
	return issuing{r, t, dir}
}

// command runs one as an operator does, and gives what it prints.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// does wants a command to succeed.
func (i issuing) does(args ...string) (stdout, stderr string) {
	i.t.Helper()
	code, stdout, stderr := command(i.t, args...)
	if code != exitDone {
		i.t.Fatalf("peerstate %s: exit code %d\n%s%s\nlog:\n%s", strings.Join(args, " "), code, stdout, stderr, i.log)
	}
	return stdout, stderr
}

// refuses wants it to fail, saying why in one line.
func (i issuing) refuses(says string, args ...string) {
	i.t.Helper()
	code, stdout, stderr := command(i.t, args...)
	if code != exitFailed || !strings.Contains(stderr, says) || strings.Count(stderr, "\n") != 1 {
		i.t.Errorf("peerstate %s: exit code %d, %s%s; want %d and %q", strings.Join(args, " "), code, stdout, stderr, exitFailed, says)
	}
}

// until waits for something that has to happen soon.
func (i issuing) until(what string, ok func() bool) {
	i.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			i.t.Fatalf("not %s after 20 s; the log says\n%s", what, i.log)
		}
	}
}

func TestAnInvitationIsOneLineToPasteAndTheRestIsSaidBesideIt(t *testing.T) {
	i := startIssuer(t)
	line, rest := i.does("cert", "token", "web2", "--ttl", "30m")
	fields := strings.Fields(line)
	if len(fields) != 5 || strings.Count(line, "\n") != 1 || fields[0] != "peerstate" || fields[1] != "join" || fields[3] != "--out" || fields[4] != "web2" {
		t.Fatalf("the line is %q", line)
	}
	token, err := certs.ParseToken(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(token.Expires); token.Node != "web2" || token.Issuer != "web1" || token.Farm != "shop" || left > 30*time.Minute || left < 29*time.Minute {
		t.Errorf("it is %v", token)
	}
	if len(token.Addrs) != 1 || !strings.HasPrefix(token.Addrs[0], "127.0.0.1:") || strings.HasSuffix(token.Addrs[0], ":0") {
		t.Errorf("it names %q, and PEERSTATE_PEER_LISTEN names 127.0.0.1", token.Addrs)
	}
	for _, want := range []string{`node "web2" into the farm "shop", good once, until `, "(30 minutes)", token.Addrs[0], "peerstate cert token web2 --addr HOST:PORT", "do not leave it lying about"} {
		if !strings.Contains(rest, want) {
			t.Errorf("no %q beside it:\n%s", want, rest)
		}
	}
	if strings.Contains(i.log.String(), fields[2][:40]) || strings.Contains(rest, tokenStart) {
		t.Errorf("the invitation itself was logged, or stands in the text:\n%s\n%s", rest, i.log)
	}

	line, rest = i.does("cert", "token", "web3", "--addr", "web1.example.com:7000,[2001:db8::7]:7000")
	if token, err = certs.ParseToken(strings.Fields(line)[2]); err != nil || !slices.Equal(token.Addrs, []string{"web1.example.com:7000", "[2001:db8::7]:7000"}) {
		t.Errorf("it is %v, %v", token, err)
	}
	if strings.Contains(rest, "--addr HOST") {
		t.Errorf("the addresses are the operator's, and it is said how to name others:\n%s", rest)
	}
	i.refuses("web1", "cert", "token", "web1") // the issuer itself
}

func TestAnInvitationUnderAKnownNameSaysWhatThatMeans(t *testing.T) {
	i := startIssuer(t)
	ca, err := certs.LoadCA(filepath.Join(i.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(i.dir, "web2"), "web2", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, rest := i.does("cert", "token", "web2"); !strings.Contains(rest, "There is a node web2 already") {
		t.Errorf("it says\n%s", rest)
	}
	i.does("cert", "revoke", "web2")
	if _, rest := i.does("cert", "token", "web2"); !strings.Contains(rest, "web2 was revoked. With this it comes in again with a new key") {
		t.Errorf("it says\n%s", rest)
	}
}

func TestRevokeSaysWhatItMeansAndRefusesSlips(t *testing.T) {
	i := startIssuer(t)
	ca, err := certs.LoadCA(filepath.Join(i.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(i.dir, "tokyo"), "tokyo", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	i.refuses("cannot cut itself off", "cert", "revoke", "web1")
	i.refuses("cannot cut itself off", "cert", "revoke", "web1", "--force")
	i.refuses("did you mean tokyo? (--force", "cert", "revoke", "tokio")
	i.refuses("there are tokyo, web1 (--force", "cert", "revoke", "completely-different")
	i.refuses("this node itself; to hand its sessions over and stop it: peerstate drain", "forget", "web1")
	i.refuses(`"tokyo" is not revoked`, "cert", "unrevoke", "tokyo")
	out, _ := i.does("cert", "revoke", "tokyo")
	for _, want := range []string{"tokyo is revoked", "There are no other nodes to be told", "served from their backups", "peerstate cert token tokyo", "peerstate cert unrevoke tokyo"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	i.does("cert", "revoke", "completely-different", "--force")
	s, err := certs.Load(filepath.Join(i.dir, "web1"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Load(filepath.Join(i.dir, "tokyo"), time.Now()); err != nil {
		t.Error("tokyo's own files know nothing of it:", err)
	}
	if d := s.Document(); d == nil || len(d.Revoked) != 2 {
		t.Fatalf("the node has the document %+v", d)
	}
	_, body := i.get(t, "/metrics")
	if want := fmt.Sprintf("peerstate_document_number %g\n", float64(s.DocumentNumber())); !strings.Contains(body, want) {
		t.Errorf("no %q in the metrics", want)
	}
	if out, _ := i.does("cert", "unrevoke", "tokyo"); !strings.Contains(out, "good again, also any copy of them") {
		t.Errorf("it says\n%s", out)
	}
}

func TestRenewPutsANewCertificateInForce(t *testing.T) {
	i := startIssuer(t, "PEERSTATE_CERT_LIFE=30d")
	before, err := certs.Load(filepath.Join(i.dir, "web1"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	out, _ := i.does("cert", "renew")
	after, err := certs.Load(filepath.Join(i.dir, "web1"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if serial := after.Self().Serial; serial == before.Self().Serial || !strings.Contains(out, serial) || !strings.Contains(out, "(in 30 days)") {
		t.Errorf("the serial was %s and is %s; it says\n%s", before.Self().Serial, serial, out)
	}
	if _, body := i.get(t, "/api/status"); !strings.Contains(body, after.Self().Serial) {
		t.Errorf("the status has not the new serial %s:\n%s", after.Self().Serial, body)
	}
}

func TestRotateCAShowsItsProgressUntilTheEnd(t *testing.T) {
	i := startIssuer(t)
	out, _ := i.does("cert", "rotate-ca", "--status")
	before, _, _ := strings.Cut(strings.TrimPrefix(out, "The CA is not being replaced. The farm's CA has the key "), ",")
	if len(before) < 32 || strings.Contains(before, " ") {
		t.Fatalf("the status is %q", out)
	}
	i.refuses("not being replaced", "cert", "rotate-ca", "--abandon")
	i.refuses("did you mean web1?", "cert", "rotate-ca", "--without", "web2")
	i.refuses("the farm's issuer itself", "cert", "rotate-ca", "--without", "web1")
	out, _ = i.does("cert", "rotate-ca", "--days", "100")
	for _, want := range []string{" of 3, all nodes ", "Done: all nodes have certificates of the new CA", "(in 100 days)", "Make a new copy of the CA directory now"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, _ = i.does("cert", "rotate-ca", "--status"); strings.Contains(out, before) || !strings.Contains(out, "not being replaced") {
		t.Errorf("the CA was %s; now it says\n%s", before, out)
	}
	if _, body := i.get(t, "/api/status"); strings.Contains(body, before) || !strings.Contains(body, `"rotation": ""`) {
		t.Errorf("the status is\n%s", body)
	}
}

func TestANodeThatIsNotTheIssuerSaysSo(t *testing.T) {
	dir := t.TempDir()
	ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "shop", certs.DefaultCALife, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(dir, "web1"), "web1", certs.DefaultNodeLife, time.Now()); err != nil {
		t.Fatal(err)
	}
	i := startIn(t, dir)
	for _, args := range []string{"token web2", "revoke web2", "unrevoke web2", "rotate-ca", "rotate-ca --status"} {
		i.refuses("this node is not the farm's issuer, and none is up that is", append([]string{"cert"}, strings.Fields(args)...)...)
	}
}

func TestANodeThatRunsStandAloneHasNoCertificatesToCommand(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	if runtime.GOOS == "windows" {
		socket = `\\.\pipe\peerstate-test-alone`
	}
	t.Setenv("PEERSTATE_CONTROL", socket)
	i := issuing{startSidecar(t, "PEERSTATE_CONTROL="+socket), t, dir}
	for _, args := range []string{"token web2", "revoke web2", "renew", "rotate-ca"} {
		i.refuses("stand-alone", append([]string{"cert"}, strings.Fields(args)...)...)
	}
}

func TestCommandsWithoutASidecarSaySo(t *testing.T) {
	t.Setenv("PEERSTATE_CONTROL", filepath.Join(t.TempDir(), "nobody"))
	if runtime.GOOS == "windows" {
		t.Setenv("PEERSTATE_CONTROL", `\\.\pipe\peerstate-test-nobody`)
	}
	for _, args := range []string{"token web2", "revoke web2", "unrevoke web2", "renew", "rotate-ca"} {
		code, _, stderr := command(t, append([]string{"cert"}, strings.Fields(args)...)...)
		if code != exitFailed || !strings.Contains(stderr, "no sidecar is running with these settings") || strings.Contains(stderr, "goes on") {
			t.Errorf("%s: exit code %d, %s", args, code, stderr)
		}
	}
}

func TestOneCADirectoryHasOneSidecar(t *testing.T) {
	i := startIssuer(t)
	s := mustSettings(t, "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=", "PEERSTATE_PEER_LISTEN=127.0.0.1:0",
		"PEERSTATE_CERT_DIR="+filepath.Join(i.dir, "web1"), "PEERSTATE_CA_DIR="+filepath.Join(i.dir, "ca"))
	err := serve(t.Context(), s, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "PEERSTATE_CA_DIR") || !strings.Contains(err.Error(), "a farm has one issuer") {
		t.Errorf("a second one: %v", err)
	}
}

func TestTheCAOfAnotherFarmStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	for _, farm := range []string{"shop", "blog"} {
		ca, err := certs.CreateCA(filepath.Join(dir, farm), farm, certs.DefaultCALife, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Issue(filepath.Join(dir, farm+"1"), farm+"1", certs.DefaultNodeLife, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	s := mustSettings(t, "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=", "PEERSTATE_PEER_LISTEN=127.0.0.1:0",
		"PEERSTATE_CERT_DIR="+filepath.Join(dir, "shop1"), "PEERSTATE_CA_DIR="+filepath.Join(dir, "blog"))
	err := serve(t.Context(), s, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), `"blog"`) || !strings.Contains(err.Error(), `"shop"`) {
		t.Errorf("it starts, or says %v", err)
	}
}

// Broken files leave in force what was read before, and are said until they are mended.
func TestBrokenCertificateFilesAreSaidUntilTheyAreMended(t *testing.T) {
	i := startIssuer(t)
	node := filepath.Join(i.dir, "web1")
	warned := func() string {
		code, body := i.get(t, "/readyz")
		if code != 200 {
			t.Fatalf("/readyz is %d: %s", code, body)
		}
		return body
	}
	serial := func() string {
		var s struct{ Certificate struct{ Serial string } }
		if _, body := i.get(t, "/api/status"); json.Unmarshal([]byte(body), &s) != nil || s.Certificate.Serial == "" {
			t.Fatalf("the status is %s", body)
		}
		return s.Certificate.Serial
	}
	before := serial()
	path := filepath.Join(node, certs.NodeCert)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	i.until("warned of", func() bool { return strings.Contains(warned(), "what was read before stays in force: "+path) })
	if !strings.Contains(i.log.String(), "level=ERROR msg=\"the certificate files have changed and cannot be used") {
		t.Errorf("the log says\n%s", i.log)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	i.until("mended", func() bool { return warned() == "ready\n" })
	if after := serial(); after != before {
		t.Errorf("the serial was %s, and is %s", before, after)
	}

	// And others that are whole are taken in.
	ca, err := certs.LoadCA(filepath.Join(i.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(i.dir, "fresh")
	peer, err := ca.Issue(fresh, "web1", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	copyFiles(t, fresh, node, certs.NodeKey, certs.NodeCert)
	i.until("taken in", func() bool { return serial() == peer.Serial })

	// Those of another node are not.
	other := filepath.Join(i.dir, "other")
	if _, err := ca.Issue(other, "web2", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, other, node, certs.NodeKey, certs.NodeCert)
	i.until("refused", func() bool { return strings.Contains(warned(), `is for the node "web2"`) })
	if after := serial(); after != peer.Serial {
		t.Errorf("the serial was %s, and is %s", peer.Serial, after)
	}
}

func copyFiles(t *testing.T, from, to string, names ...string) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnInvitationNamesAddressesThatOthersCanReach(t *testing.T) {
	net4 := func(s string) net.Addr {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	lo := []net.Addr{net4("127.0.0.1/8"), net4("::1/128")}
	many := slices.Clone(lo)
	for i := range 20 {
		many = append(many, net4(fmt.Sprintf("10.0.0.%d/8", i+1)))
	}
	for name, c := range map[string]struct {
		found []net.Addr
		host  string
		want  string
	}{
		"addresses and name": {append(slices.Clone(lo), net4("10.0.0.7/8"), net4("fe80::1/64"), net4("2001:db8::7/64"), net4("169.254.1.1/16")), "web1",
			"10.0.0.7:1 [2001:db8::7]:1 web1:1"},
		"no name":              {[]net.Addr{net4("10.0.0.7/8")}, "localhost", "10.0.0.7:1"},
		"nothing but loopback": {lo, "web1", "127.0.0.1:1 [::1]:1"},
	} {
		if got := strings.Join(hostAddrs(c.found, c.host, "1"), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := hostAddrs(many, "web1", "1"); len(got) != mostInvited || got[mostInvited-1] != "web1:1" {
		t.Errorf("of many: %q", got)
	}
}

func TestAnInvitationIsReadFromWhateverIsPasted(t *testing.T) {
	for _, text := range []string{"peerstate1-abc", "  peerstate1-abc\r\n", "peerstate join peerstate1-abc --out web2\n", "\ufeffpeerstate join peerstate1-abc --out web2 && true"} {
		if got, err := readInvitation(strings.NewReader(text)); err != nil || strings.TrimSpace(got) != "peerstate1-abc" {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	}
}

func TestJoinSaysWhatIsWrongWithAnInvitation(t *testing.T) {
	i := startIssuer(t)
	line, _ := i.does("cert", "token", "web2")
	token := strings.Fields(line)[2]
	forged := []byte(token)
	forged[len(forged)/2] ^= 1
	for name, c := range map[string]struct{ text, says string }{
		"cut":         {token[:len(token)-20], "cut off"},
		"changed":     {string(forged), "copy it again"},
		"other":       {"web2", "this is no invitation"},
		"without out": {token, "such as --out web2"},
	} {
		args := []string{"join", c.text, "--out", filepath.Join(i.dir, "web2")}
		if name == "without out" {
			args = args[:2]
		}
		code, stdout, stderr := command(t, args...)
		if code != exitUsage || !strings.Contains(stderr, c.says) || strings.Contains(stderr, token[20:40]) {
			t.Errorf("%s: exit code %d, %s%s; want %q", name, code, stdout, stderr, c.says)
		}
	}
	if _, err := os.Stat(filepath.Join(i.dir, "web2")); err == nil {
		t.Error("a directory was made all the same")
	}
}
