package check

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"peerstate/certs"
	"peerstate/cmd/peerstate/settings"
	"peerstate/store/journal"
)

func TestMain(m *testing.M) {
	// On Windows go-winio has a goroutine for the whole life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/Microsoft/go-winio.ioCompletionProcessor"))
}

// want looks for one finding of that grade with both texts.
func want(t *testing.T, findings []Finding, g Grade, what, mend string) {
	t.Helper()
	for _, f := range findings {
		if f.Grade == g && strings.Contains(f.What, what) && strings.Contains(f.Mend, mend) {
			return
		}
	}
	t.Errorf("no %s with %q and %q in %+v", gradeNames[g], what, mend, findings)
}

// mustSettings reads settings from an environment alone.
func mustSettings(t *testing.T, environ ...string) *settings.Settings {
	t.Helper()
	s, err := settings.Read("", "", environ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answering listens, and says the same to everybody who says something.
func answering(t *testing.T, text string) settings.ListenAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := nc.Read(make([]byte, 1000)); err == nil {
				_, _ = io.WriteString(nc, text) // who asked may have gone
			}
			_ = nc.Close()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return settings.ListenAddr(l.Addr().String())
}

func TestCheckSaysWhoHasThePort(t *testing.T) {
	for text, who := range map[string]string{
		"HTTP/1.1 404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n": `a state server (X-AspNet-Version "4.0.30319"`,
		"HTTP/1.1 400 Bad Request\r\nServer: Microsoft-HTTPAPI/2.0\r\n\r\n":                  `a web server ("Microsoft-HTTPAPI/2.0")`,
		"HTTP/1.1 400 Bad Request\r\n\r\n":                                                   "a web server answers",
		"SSH-2.0-OpenSSH_9.2\r\n":                                                            "another program has the port",
		"":                                                                                   "another program has the port",
	} {
		s := mustSettings(t, "PEERSTATE_LISTEN="+string(answering(t, text)), "PEERSTATE_ADMIN_LISTEN=")
		want(t, All(t.Context(), s, "1.0"), Problem, who, "set PEERSTATE_LISTEN to another port")
	}
}

func TestCheckFindsAnAddressThatIsNotThisMachines(t *testing.T) {
	// 192.0.2.0/24 is for documentation (RFC 5737).
	s := mustSettings(t, "PEERSTATE_LISTEN=192.0.2.1:42424", "PEERSTATE_ALLOW_REMOTE=true", "PEERSTATE_ADMIN_LISTEN=")
	findings := All(t.Context(), s, "1.0")
	want(t, findings, Problem, "this machine does not have that address", "an address of this machine")
	want(t, findings, Doubtful, "whoever reaches this port", "")
}

// nodeDir makes a node's certificate as it was issued at a time, and gives its directory.
func nodeDir(t *testing.T, at time.Time, life time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "shop", 10*life, at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(filepath.Join(dir, "web1"), "web1", life, at); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "web1")
}

func TestCheckLooksAtTheCertificates(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	for name, c := range map[string]struct {
		dir        string
		grade      Grade
		what, mend string
	}{
		"good":          {nodeDir(t, now, 365*day), Fine, "the certificate of node web1 (farm shop) is valid until", ""},
		"expired":       {nodeDir(t, now.Add(-100*day), 99*day), Problem, "ended on", "issue"},
		"not yet valid": {nodeDir(t, now.Add(10*day), 99*day), Problem, "begins on", ""},
		"ends soon":     {nodeDir(t, now.Add(-98*day), 99*day), Doubtful, "ends soon", ""},
		"no directory":  {filepath.Join(t.TempDir(), "absent"), Problem, "PEERSTATE_CERT_DIR", "peerstate cert issue"},
		"a CA's":        {filepath.Join(filepath.Dir(nodeDir(t, now, 365*day)), "ca"), Problem, "no certificate of a node", "peerstate cert issue"},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, checkCertificates(&settings.Settings{CertDir: c.dir}), c.grade, c.what, c.mend)
		})
	}
}

func TestCheckSaysThatTheCAEndsSoon(t *testing.T) {
	const day = 24 * time.Hour
	begun := time.Now()
	ca, err := certs.CreateCA(filepath.Join(t.TempDir(), "ca"), "shop", 100*day, begun)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "web1")
	if _, err := ca.Issue(dir, "web1", 99*day, begun); err != nil {
		t.Fatal(err)
	}
	none(t, checkCAEnd(dir, begun.Add(70*day)))
	want(t, checkCAEnd(dir, begun.Add(80*day)), Doubtful, "the farm's CA ends soon, on "+begun.Add(100*day).Format(time.DateOnly), "peerstate cert rotate-ca")
}

func TestCheckSaysThatARenewedCertificateCouldNotBeTakenIn(t *testing.T) {
	dir := nodeDir(t, time.Now(), time.Hour)
	none(t, checkReplaceable(dir))
	key := filepath.Join(dir, certs.NodeKey)
	if err := errors.Join(os.Remove(key), os.Mkdir(key, 0o700)); err != nil { // whoever runs this may write to any file
		t.Fatal(err)
	}
	want(t, checkReplaceable(dir), Doubtful, "cannot take a renewed certificate in", "the account that runs peerstate")
}

func TestCheckLooksAtTheIssuersDirectory(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	good, ending := nodeDir(t, now, 365*day), nodeDir(t, now, 365*day)
	ca := func(node string) string { return filepath.Join(filepath.Dir(node), "ca") }
	other := ca(nodeDir(t, now, 365*day))
	if err := os.Remove(filepath.Join(ca(ending), certs.CAKey)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		node, ca   string
		grade      Grade
		what, mend string
	}{
		"good":            {good, ca(good), Fine, "this node is the issuer of the farm shop; its CA is valid until", ""},
		"of another farm": {good, other, Problem, "is not trusted by this node", "restore its newest copy"},
		"without a key":   {ending, ca(ending), Problem, "ca.key", ""},
		"a node's":        {good, good, Problem, "has no key of a CA", "peerstate cert init"},
		"no directory":    {good, filepath.Join(t.TempDir(), "absent"), Problem, "PEERSTATE_CA_DIR", "leave it empty"},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, checkIssuer(&settings.Settings{CertDir: c.node, CADir: c.ca}), c.grade, c.what, c.mend)
		})
	}
	if found := checkIssuer(&settings.Settings{CertDir: good}); found != nil {
		t.Errorf("a node that is not the issuer: %+v", found)
	}
}

func TestCheckSaysThatNobodyIsNamed(t *testing.T) {
	dir := nodeDir(t, time.Now(), time.Hour)
	found, reached := checkPeers(t.Context(), &settings.Settings{CertDir: dir}, nil, "1.0")
	want(t, found, Doubtful, "PEERSTATE_PEERS is empty", "name the other nodes")
	if reached != 0 {
		t.Errorf("it has reached %d", reached)
	}
	found, _ = checkPeers(t.Context(), &settings.Settings{CertDir: dir, CADir: "ca"}, nil, "1.0")
	want(t, found, Fine, "nodes that join by an invitation find this one", "")
}

func TestCheckLooksAtTheDataDirectory(t *testing.T) {
	certs := nodeDir(t, time.Now(), 365*24*time.Hour)
	journalOf := func(farm, node string) (string, *journal.Journal) {
		dir := t.TempDir()
		j, err := journal.Open(dir, journal.Options{Farm: farm, Node: node, Every: time.Second}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Wait(t.Context(), j.Set("k", nil, nil)); err != nil {
			t.Fatal(err)
		}
		return dir, j
	}
	closed := func(dir string, j *journal.Journal) string {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	used, j := journalOf("shop", "web1")
	defer closed(used, j)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir, certs string
		grade      Grade
		what, mend string
	}{
		"new":             {filepath.Join(t.TempDir(), "new"), certs, Doubtful, "does not exist", "the first start"},
		"its own":         {closed(journalOf("shop", "web1")), certs, Fine, "can be used", ""},
		"empty":           {t.TempDir(), certs, Fine, "can be used", ""},
		"alone":           {closed(journalOf("", settings.StandAlone)), "", Fine, "can be used", ""},
		"another node's":  {closed(journalOf("shop", "web2")), certs, Problem, `of node "web2" in farm "shop"`, "of this node's own"},
		"another farm's":  {closed(journalOf("bank", "web1")), certs, Problem, `in farm "bank"`, "of this node's own"},
		"from when alone": {closed(journalOf("", settings.StandAlone)), certs, Problem, "journal of another node", "of this node's own"},
		"in use":          {used, certs, Problem, "another process uses it", "stop that one"},
		"not a directory": {file, certs, Problem, "it is no directory", "of this node's own"},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadDir(c.dir)
			want(t, []Finding{checkDataDir(&settings.Settings{CertDir: c.certs, DataDir: c.dir}, false)}, c.grade, c.what, c.mend)
			if after, _ := os.ReadDir(c.dir); len(after) != len(before) {
				t.Errorf("it left %v", after)
			}
		})
	}
	want(t, []Finding{checkDataDir(&settings.Settings{CertDir: certs, DataDir: used}, true)}, Fine, "that runs here", "")
}
