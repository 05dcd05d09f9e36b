package settings

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"peerstate/store"
)

// settingsFrom reads settings from an environment and the text of a file ("": no file).
func settingsFrom(t *testing.T, file string, environ ...string) (*Settings, error) {
	t.Helper()
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "node.env")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Read(path, "", environ)
}

func mustSettings(t *testing.T, file string, environ ...string) *Settings {
	t.Helper()
	s, err := settingsFrom(t, file, environ...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheDefaultsAreThoseOfTheManual(t *testing.T) {
	want := &Settings{
		Listen: "127.0.0.1:42424", PeerListen: ":42425", AdminListen: "127.0.0.1:42426",
		FetchTimeout: 2500 * time.Millisecond, MissingGrace: 5 * time.Second, LostAfter: time.Minute,
		LockWait: lockWait(400 * time.Millisecond), DrainTimeout: 30 * time.Second, CertLife: certLife(90 * 24 * time.Hour), Backups: 1, BackupSync: store.SyncOff, Placement: "any",
		Mesh: "auto", MaxHops: 16, DataSync: dataSync(100 * time.Millisecond), OnStop: "handover",
		MaxBody: 64 << 20, MaxConns: 10000, StatusLine: "http", LogLevel: logLevel(slog.LevelInfo), LogFormat: "text",
	}
	if diff := cmp.Diff(want, mustSettings(t, ""), cmpopts.IgnoreFields(Settings{}, "InForce", "Warnings")); diff != "" {
		t.Error(diff)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	got := mustSettings(t, `
		# a comment
		PEERSTATE_LISTEN=0.0.0.0:5000
		export PEERSTATE_ALLOW_REMOTE = true
		PEERSTATE_CERT_DIR='C:\new\certs' # of this node
		PEERSTATE_CA_DIR=/farm-ca
		PEERSTATE_CERT_LIFE=30d
		PEERSTATE_PEERS=tokyo:42425, [2001:db8::7]:42425
		PEERSTATE_MESH=Manual
		PEERSTATE_MAX_HOPS=3
		PEERSTATE_SITE="Frankfurt am Main #1"
		PEERSTATE_PEER_LISTEN=[::]:42435
		PEERSTATE_ADMIN_LISTEN=localhost:0
		PEERSTATE_FETCH_TIMEOUT=1s
		PEERSTATE_MISSING_GRACE=2s
		PEERSTATE_LOST_AFTER=3m
		PEERSTATE_LOCK_WAIT=0
		PEERSTATE_BACKUPS=2
		PEERSTATE_BACKUP_SYNC=Strict
		PEERSTATE_BACKUP_PLACEMENT=other-site
		PEERSTATE_DRAIN_TIMEOUT=1m
		PEERSTATE_DATA_DIR=/var/lib/peerstate
		PEERSTATE_DATA_SYNC=Always
		PEERSTATE_ON_STOP=Keep
		PEERSTATE_CONTROL=/tmp/here.sock
		PEERSTATE_APP_ALIASES=/LM/W3SVC/7/ROOT(b=)=/LM/W3SVC/1/ROOT(a=)
		PEERSTATE_MAX_BODY=1 MB
		PEERSTATE_MAX_CONNS=7
		PEERSTATE_STATUS_LINE=bare
		PEERSTATE_LOG_LEVEL=DEBUG
		PEERSTATE_LOG_FORMAT=json
	`)
	want := &Settings{
		Listen: "0.0.0.0:5000", AllowRemote: true, CertDir: `C:\new\certs`, CADir: "/farm-ca", CertLife: certLife(30 * 24 * time.Hour),
		Peers: PeerAddrs{"tokyo:42425", "[2001:db8::7]:42425"}, Site: "Frankfurt am Main #1",
		Backups: 2, BackupSync: store.SyncStrict, Placement: "other-site",
		PeerListen: "[::]:42435", AdminListen: "localhost:0", Mesh: "manual", MaxHops: 3,
		FetchTimeout: time.Second, MissingGrace: 2 * time.Second, LostAfter: 3 * time.Minute,
		DrainTimeout: time.Minute, Control: "/tmp/here.sock", DataDir: "/var/lib/peerstate", OnStop: "keep",
		MaxBody: 1000000, MaxConns: 7, StatusLine: "bare", LogLevel: logLevel(slog.LevelDebug), LogFormat: "json",
	}
	if kept, err := got.AppAliases.Key("/LM/W3SVC/7/ROOT(b=)/id"); err != nil || kept != "LM/W3SVC/1/ROOT(a=)/id" {
		t.Errorf("with the aliases a session is kept under %q (%v)", kept, err)
	}
	got.AppAliases = appAliases{} // cmp cannot look inside
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Settings{}, "InForce", "Warnings")); diff != "" {
		t.Error(diff)
	}
}

func TestTheEnvironmentGoesBeforeTheFile(t *testing.T) {
	s := mustSettings(t, "PEERSTATE_SITE=file\nPEERSTATE_MAX_CONNS=5\n", "PEERSTATE_SITE=environment")
	if s.Site != "environment" || s.MaxConns != 5 {
		t.Errorf("site %q, connections %d; want environment, 5", s.Site, s.MaxConns)
	}
}

func TestAnEmptyValueIsNotTheDefault(t *testing.T) {
	s := mustSettings(t, "PEERSTATE_ADMIN_LISTEN=\n", "PEERSTATE_LISTEN=", "PEERSTATE_CERT_DIR=/certs")
	if s.Listen != "" || s.AdminListen != "" {
		t.Errorf("listen %q, admin %q: both were set to empty", s.Listen, s.AdminListen)
	}
	if s := mustSettings(t, "PEERSTATE_SITE=file", "PEERSTATE_SITE="); s.Site != "" {
		t.Errorf("an empty variable does not hide the file's value: %q", s.Site)
	}
	for _, name := range []string{"FETCH_TIMEOUT", "MAX_BODY", "PEER_LISTEN", "LOG_LEVEL", "ALLOW_REMOTE"} {
		if _, err := settingsFrom(t, "", prefix+name+"="); err == nil || !strings.Contains(err.Error(), prefix+name+" is empty") {
			t.Errorf("%s= gives %v", name, err)
		}
	}
}

func TestAWrongValueIsNamedWithWhatWouldBeRight(t *testing.T) {
	for _, c := range []struct{ name, value, right string }{
		{"LISTEN", "42424", "host:port"},
		{"LISTEN", "127.0.0.1:70000", "host:port"},
		{"LISTEN", "tcp://127.0.0.1:42424", "host:port"},
		{"LISTEN", "0.0.0.0:42424", "loopback"},
		{"LISTEN", ":42424", "loopback"},
		{"ALLOW_REMOTE", "perhaps", `"true" or "false"`},
		{"PEER_LISTEN", "nonsense", "host:port"},
		{"PEERS", "tokyo", "host:port with commas"},
		{"PEERS", "tokyo:42425,:42425", "host:port with commas"},
		{"PEERS", "tokyo:0", "host:port with commas"},
		{"PEERS", "tokyo:42425,", "host:port with commas"},
		{"PEERS", "tokyo:42425", "PEERSTATE_CERT_DIR"},
		{"CA_DIR", "/farm-ca", "PEERSTATE_CERT_DIR"},
		{"CERT_LIFE", "90", "days such as 90d"},
		{"CERT_LIFE", "59s", "at least 1m0s"},
		{"CERT_LIFE", "0d", "days such as 90d"},
		{"CERT_LIFE", "-1d", "days such as 90d"},
		{"CERT_LIFE", "36501d", "at most 36500d"},
		{"SITE", "lon\x07don", "a name"},
		{"SITE", strings.Repeat("x", 65), "at most 64 letters"},
		{"ADMIN_LISTEN", "off", "host:port"},
		{"ADMIN_LISTEN", "127.0.0.1:42424", "another"},
		{"FETCH_TIMEOUT", "2500", "2500ms"},
		{"FETCH_TIMEOUT", "0s", "above 0"},
		{"FETCH_TIMEOUT", "-1s", "above 0"},
		{"FETCH_TIMEOUT", "10s", "below 10s"},
		{"MISSING_GRACE", "soon", "a duration"},
		{"LOST_AFTER", "0", "above 0"},
		{"BACKUPS", "9", "from 0 to 8"},
		{"BACKUPS", "-1", "from 0 to 8"},
		{"BACKUP_SYNC", "yes", "strict"},
		{"BACKUP_PLACEMENT", "here", "other-site"},
		{"LOCK_WAIT", "-1s", "0 for not waiting"},
		{"DRAIN_TIMEOUT", "never", "above 0"},
		{"MAX_MEMORY", "half", "512MiB"},
		{"MAX_MEMORY", "1023KiB", "from 1MiB"},
		{"MAX_MEMORY", "-1", "512MiB"},
		{"MAX_BODY", "64XB", "64MiB"},
		{"MAX_BODY", "-1", "64MiB"},
		{"MAX_BODY", "0", "64MiB"},
		{"MAX_BODY", "2GiB", "under 2GiB"},
		{"MAX_BODY", "NaN", "64MiB"},
		{"MAX_BODY", "99999999999999999999EiB", "64MiB"},
		{"MAX_CONNS", "0", "a whole number"},
		{"MAX_CONNS", "many", "a whole number"},
		{"DATA_SYNC", "0s", `"always", or a duration`},
		{"DATA_SYNC", "2m", "up to 1m"},
		{"DATA_SYNC", "never", "such as 100ms"},
		{"ON_STOP", "leave", `"handover" or "keep"`},
		{"ON_STOP", "keep", "set PEERSTATE_DATA_DIR too"},
		{"MESH", "ring", `"auto" or "manual"`},
		{"MAX_HOPS", "0", "from 1 to 64"},
		{"MAX_HOPS", "65", "from 1 to 64"},
		{"MAX_HOPS", "few", "a whole number"},
		{"STATUS_LINE", "https", `"http" or "bare"`},
		{"LOG_LEVEL", "INFO+4", `"debug", "info"`},
		{"LOG_FORMAT", "xml", `"text" or "json"`},
	} {
		_, err := settingsFrom(t, "", prefix+c.name+"="+c.value)
		if _, ok := errors.AsType[Wrong](err); !ok {
			t.Errorf("%s=%q is not known to be wrong: %v", c.name, c.value, err)
			continue
		}
		line := err.Error()
		if !strings.Contains(line, prefix) || !strings.Contains(line, c.right) || strings.Contains(line, "\n") {
			t.Errorf("%s=%q gives %q, want one line with %q", c.name, c.value, line, c.right)
		}
	}
}

func TestAWrongValueTellsWhereItStands(t *testing.T) {
	_, err := settingsFrom(t, "\n# comment\nPEERSTATE_MAX_CONNS=x\nPEERSTATE_LOG_LEVEL=y\n")
	if err == nil || !strings.Contains(err.Error(), "node.env line 3") || !strings.Contains(err.Error(), "1 more") {
		t.Errorf("got %v, want the line and that there is one more", err)
	}
}

func TestAnUnknownNameIsReportedWithTheNearest(t *testing.T) {
	s := mustSettings(t, "PEERSTAT_SITE=x\nPATH=y\n", "PEERSTATE_LISTN=127.0.0.1:1", "PEERSTATE_ZZZZZZZZ=1", "HOME=/root")
	got := strings.Join(s.Warnings, "\n")
	for _, want := range []string{
		"PEERSTATE_LISTN (environment) is not a setting: did you mean PEERSTATE_LISTEN?",
		"PEERSTATE_ZZZZZZZZ (environment) is not a setting\n",
		"line 1) is not a setting: did you mean PEERSTATE_SITE?",
		"PATH (", // in a file of settings any other name is a slip
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "HOME") {
		t.Errorf("the environment's other names are nobody's business:\n%s", got)
	}
}

func TestStrangeSettingsAreAllowedWithAWarning(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{[]string{"PEERSTATE_LISTEN=:42424", "PEERSTATE_ALLOW_REMOTE=true"}, "firewall"},
		{[]string{"PEERSTATE_ADMIN_LISTEN=:42426"}, "other machines can read"},
		{[]string{"PEERSTATE_LISTEN="}, "neither"},
		{[]string{"PEERSTATE_PEER_LISTEN=:1"}, "no effect"},
		{[]string{"PEERSTATE_MESH=manual"}, "no effect"},
		{[]string{"PEERSTATE_CERT_DIR=/c", "PEERSTATE_CERT_LIFE=30d"}, "PEERSTATE_CERT_LIFE has no effect"},
		{[]string{"PEERSTATE_CERT_DIR=/c", "PEERSTATE_PEERS=a:1,b:2,a:1,a:1"}, "a:1 more than once"},
	} {
		s := mustSettings(t, "", c.environ...)
		if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], c.want) {
			t.Errorf("%q gives %q, want one warning with %q", c.environ, s.Warnings, c.want)
		}
	}
}

func TestABadFileIsRefusedWithItsLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"PEERSTATE_SITE london\n", "line 1: it should be NAME=value"},
		{"\n=x\n", "line 2"},
		{"PEERSTATE_SITE='x\n", "quote"},
		{"PEERSTATE_SITE=\"x\" y\n", "quote"},
		{"PEERSTATE_SITE=a\nPEERSTATE_SITE=b\n", "line 2: PEERSTATE_SITE stands in line 1 already"},
		{"\xff\xfeP\x00E\x00", "UTF-8"},
	} {
		if _, err := settingsFrom(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q gives %v, want %q", c.text, err, c.want)
		}
	}
	if _, err := readSources(filepath.Join(t.TempDir(), "absent.env"), "", nil); err == nil {
		t.Error("a missing --env-file is no error")
	}
}

func TestTheFileBesideTheProgramIsReadWithoutAnEnvFile(t *testing.T) {
	dir := t.TempDir()
	beside, other := filepath.Join(dir, BesideName), filepath.Join(dir, "other.env")
	if _, err := readSources("", beside, nil); err != nil {
		t.Errorf("without such a file: %v", err)
	}
	for path, site := range map[string]string{beside: "beside", other: "other"} {
		// With Notepad's mark and line ends.
		if err := os.WriteFile(path, []byte("\xef\xbb\xbfPEERSTATE_SITE="+site+"\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"": "beside", other: "other"} {
		got, err := readSources(file, beside, nil)
		if err != nil || got.byName["PEERSTATE_SITE"].value != want {
			t.Errorf("--env-file %q: got %v, %v; want %s", file, got.byName, err, want)
		}
	}
}

func TestWhatConfigPrintsIsAnEnvFileOfTheSameSettings(t *testing.T) {
	s := mustSettings(t, "", "PEERSTATE_SITE= 'a #b", "PEERSTATE_LISTEN=", `PEERSTATE_CERT_DIR="C:\x" #y`, "PEERSTATE_MAX_BODY=1.5MiB")
	again := mustSettings(t, s.String())
	if diff := cmp.Diff(s, again, cmpopts.IgnoreFields(Settings{}, "InForce", "Warnings")); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"# from: environment (default: 64MiB)\nPEERSTATE_MAX_BODY=1.5MiB\n", "# from: default\nPEERSTATE_LOST_AFTER=60s\n"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("no %q in\n%s", want, s)
		}
	}
}

func TestAnyValueOfAFileIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.StringMatching(`[ -~]*`).Filter(func(v string) bool {
			return !strings.Contains(v, `"`) || !strings.Contains(v, `'`)
		}).Draw(t, "value")
		lines, err := parseEnvFile("f", []byte("NAME="+Quote(want)+"\n"))
		if err != nil || len(lines) != 1 || lines[0].value != want {
			t.Fatalf("%q was read back as %v, %v", want, lines, err)
		}
	})
}

func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("PEERSTATE_SITE='x' # y\r\nexport A=b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, err := parseEnvFile("f", text)
		if err != nil {
			return
		}
		for _, l := range lines {
			if l.name == "" || strings.ContainsAny(l.name+l.value, "\n\x00") {
				t.Errorf("%q gives %q=%q", text, l.name, l.value)
			}
		}
	})
}

func TestAFileBesideTheProgramThatCannotBeReadIsNotPassedOver(t *testing.T) {
	beside := filepath.Join(t.TempDir(), BesideName)
	if got := usual(beside); got == beside {
		t.Errorf("there is none, and it is %s", got)
	}
	if err := os.Symlink(beside, beside); err != nil { // as unreadable for root as for others
		t.Skipf("this system makes no link to itself: %v", err)
	}
	if _, err := os.Stat(beside); errors.Is(err, fs.ErrNotExist) {
		t.Skip("this system says of a link to itself that nothing is there")
	}
	got := usual(beside)
	if _, err := Read("", got, nil); got != beside || err == nil || !strings.Contains(err.Error(), beside) {
		t.Errorf("it reads %s, and says %v", got, err)
	}
}
