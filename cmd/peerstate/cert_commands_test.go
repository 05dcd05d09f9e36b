package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peerstate/certs"
	"peerstate/cmd/peerstate/admin"
)

var certNoon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// certRun executes "peerstate cert ARGS" at a given time, in the current directory.
func certRun(at time.Time, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := certCommandAt(func() time.Time { return at })
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.Execute()
	return certHex.ReplaceAllString(out.String(), "HEX"), err
}

var certHex = regexp.MustCompile(`\b[0-9a-f]{32,40}\b`)

func certMust(t *testing.T, args ...string) string {
	t.Helper()
	out, err := certRun(certNoon, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func certSame(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), filepath.ToSlash(got)); diff != "" {
		t.Error(diff)
	}
}

func TestCertInitSaysWhatWasMadeAndWhatToDoNext(t *testing.T) {
	t.Chdir(t.TempDir())
	certSame(t, certMust(t, "init", "--ca", "farm-ca"), `
Created the certificate authority (CA) of the farm "farm".

  certificate  farm-ca/ca.crt
  private key  farm-ca/ca.key
  ends         2036-11-17 12:00 UTC (in 3650 days)

Keep the private key to yourself: whoever has it can add nodes to the farm. And keep a
copy of the directory in a safe place: without it, no node can be added or get a new
certificate.

Next, issue a certificate for the first node; if it shall be called web1:
  peerstate cert issue web1 --ca farm-ca --out web1

If that node runs with PEERSTATE_CA_DIR=farm-ca, it is the farm's issuer: other nodes
join with the line that "peerstate cert token" prints there, and all certificates renew
themselves. Otherwise issue a certificate for each node like this, and renew it by hand.
`)
}

func TestCertIssueSaysWhatWasMadeAndWhoRenewsIt(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "farm-ca", "--farm", "shop")
	certSame(t, certMust(t, "issue", "web1", "--ca", "farm-ca", "--out", "web1"), `
Issued a certificate for the node "web1" of the farm "shop".

  whom to trust  web1/ca.crt
  certificate    web1/node.crt
  private key    web1/node.key
  serial         HEX
  ends           2028-11-19 12:00 UTC (in 730 days)

If the farm has an issuer (a node that runs with PEERSTATE_CA_DIR), the node renews it by
itself, with a third of its life left. Otherwise nobody does: before that day, issue another
one into a new directory, and copy its files over the old ones on the node, which takes
them in while it runs.

Next, on the machine of web1, set
  PEERSTATE_CERT_DIR=<the directory>
and let "peerstate check" say whether all is well. If that is another machine, take the
directory there first (it contains the key: not by mail), and delete it here.
`)
	s, err := certs.Load("web1", certNoon)
	if err != nil {
		t.Fatal(err)
	}
	if id := s.Self().Identity; id != (certs.Identity{Farm: "shop", Node: "web1"}) {
		t.Errorf("the files are those of %v", id)
	}
}

func TestCertIssueSaysSoWhenTheCAEndsFirst(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "ca", "--days", "100")
	out := certMust(t, "issue", "web1", "--ca", "ca", "--out", "web1", "--days", "101")
	for _, text := range []string{"2027-02-28 12:00 UTC (in 100 days)", "That is earlier than the 101 days asked for: the farm's CA itself ends then."} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is not in the output:\n%s", text, out)
		}
	}
	if out := certMust(t, "issue", "web2", "--ca", "ca", "--out", "web2", "--days", "100"); strings.Contains(out, "earlier") {
		t.Errorf("as long as the CA, and still called shorter:\n%s", out)
	}
}

func TestPathsCanBePastedIntoTheNextCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	out := certMust(t, "init", "--ca", "my farm")
	if !strings.Contains(out, `--ca "my farm" --out web1`) {
		t.Errorf("the path is not quoted:\n%s", out)
	}
}

func TestCertStatusShowsANodesDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "ca", "--farm", "shop")
	certMust(t, "issue", "web1", "--ca", "ca", "--out", "web1")
	const want = `
A node's certificate, in web1

  node    web1
  farm    shop
  issuer  peerstate CA shop
  serial  HEX
  begins  2026-11-19 12:00 UTC (1 day ago)
  ends    2028-11-19 12:00 UTC (in 730 days)

A CA that is trusted, in web1

  name    peerstate CA shop
  farm    shop
  serial  HEX
  key     HEX
  begins  2026-11-19 12:00 UTC (1 day ago)
  ends    2036-11-17 12:00 UTC (in 3650 days)

All of it fits together and is valid now.
`
	certSame(t, certMust(t, "status", "--dir", "web1"), want)
	t.Setenv("PEERSTATE_CERT_DIR", "web1")
	t.Setenv("PEERSTATE_CONTROL", controlIn(t.TempDir())) // where nobody runs
	certSame(t, certMust(t, "status"), want)
}

func TestCertStatusShowsACAsDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "ca")
	certSame(t, certMust(t, "status", "--dir", "ca"), `
A CA that issues certificates, in ca

  name    peerstate CA farm
  farm    farm
  serial  HEX
  key     HEX
  begins  2026-11-19 12:00 UTC (1 day ago)
  ends    2036-11-17 12:00 UTC (in 3650 days)

All of it fits together and is valid now.
`)
}

func TestCertStatusShowsWhatTheIssuerHasSaidAndWhoIsInvited(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "ca", "--farm", "shop")
	i, err := certs.OpenIssuer("ca", certs.DefaultRenewedLife, certNoon)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"web3", "web4"} {
		if _, err := i.Revoke(node, nil, certNoon); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.Unrevoke("web4", certNoon); err != nil {
		t.Fatal(err)
	}
	d, err := i.Rotate(certs.DefaultCALife, certNoon)
	if err != nil {
		t.Fatal(err)
	}
	if d, err = i.GoOnWithout("web5", certNoon); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Invite("web2", time.Hour, "web1", []string{"10.0.0.1:42425"}, certNoon); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	certMust(t, "issue", "web1", "--ca", "ca", "--out", "web1")
	said := func(dir string) string {
		return fmt.Sprintf(`What the farm's issuer has said, in %s

  document        %d
  made            2026-11-20 12:00 UTC (in less than a day)
  CA is replaced  stage "trust"; the one with the key HEX remains; not waited for: web5
  revoked         web3, on 2026-11-20 12:00 UTC (in less than a day)

`, dir, d.Number)
	}
	for dir, want := range map[string]string{"ca": said("ca") + "Invited: web2, until 2026-11-20 13:00 UTC (in less than a day)\nAll of it fits", "web1": said("web1") + "All of it fits"} {
		if out := certMust(t, "status", "--dir", dir); !strings.Contains(out, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", dir, out, want)
		}
	}
	var report certStatusReport
	if err := json.Unmarshal([]byte(certMust(t, "status", "--dir", "ca", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	if r := report.Document; r == nil || r.Number != d.Number || r.Rotation != "trust" || len(r.Revoked) != 1 || r.Revoked[0].Node != "web3" ||
		len(report.Invitations) != 1 || report.Invitations[0].Node != "web2" {
		t.Errorf("got %+v, %+v", report.Document, report.Invitations)
	}
}

func TestCertStatusFailsWhenTheCertificatesCannotBeUsed(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "ca")
	certMust(t, "issue", "web1", "--ca", "ca", "--out", "web1")
	for _, c := range []struct {
		at   time.Time
		says string
	}{
		{certNoon.Add(730*certDay + time.Hour), "ends    2028-11-19 12:00 UTC (less than a day ago)"},
		{certNoon.Add(740 * certDay), "Problem: " + filepath.Join("web1", "node.crt") + ": expired: "},
	} {
		out, err := certRun(c.at, "status", "--dir", "web1")
		if _, wrong := errors.AsType[*usageError](err); err == nil || wrong || !strings.Contains(out, c.says) || strings.Contains(out, "fits together") {
			t.Errorf("error %v, output without %q:\n%s", err, c.says, out)
		}
	}
	out, err := certRun(certNoon.Add(720*certDay), "status", "--dir", "web1")
	if err != nil || !strings.Contains(out, "Warning: "+filepath.Join("web1", "node.crt")+": the certificate ends soon, on 2028-11-19 12:00 UTC") {
		t.Errorf("error %v, output without a warning:\n%s", err, out)
	}
	if _, err := certRun(certNoon, "status", "--dir", "none"); err == nil {
		t.Error("a directory that is not there is all right")
	}
}

func TestCertStatusHasAFormForPrograms(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "ca", "--farm", "shop")
	certMust(t, "issue", "web1", "--ca", "ca", "--out", "web1")
	certSame(t, certMust(t, "status", "--dir", "web1", "--json"), `
{
  "dir": "web1",
  "farm": "shop",
  "certificate": {
    "node": "web1",
    "farm": "shop",
    "issuer": "peerstate CA shop",
    "serial": "HEX",
    "from": "2026-11-19T12:00:00Z",
    "expires": "2028-11-19T12:00:00Z",
    "ca_expires": "2036-11-17T12:00:00Z"
  },
  "authorities": [
    {
      "name": "peerstate CA shop",
      "farm": "shop",
      "serial": "HEX",
      "key_id": "HEX",
      "from": "2026-11-19T12:00:00Z",
      "expires": "2036-11-17T12:00:00Z",
      "signing": false
    }
  ],
  "problems": [],
  "warnings": []
}
`)
	if err := os.Remove(filepath.Join("web1", certs.CACert)); err != nil {
		t.Fatal(err)
	}
	out, err := certRun(certNoon, "status", "--dir", "web1", "--json")
	var report certStatusReport
	if jerr := json.Unmarshal([]byte(out), &report); err == nil || jerr != nil {
		t.Fatalf("error %v, JSON %v:\n%s", err, jerr, out)
	}
	if len(report.Problems) != 1 || report.Certificate == nil || report.Certificate.CAExpires != nil {
		t.Errorf("got %+v", report)
	}
}

func TestCertCommandsNeverOverwrite(t *testing.T) {
	t.Chdir(t.TempDir())
	certMust(t, "init", "--ca", "ca")
	certMust(t, "issue", "web1", "--ca", "ca", "--out", "web1")
	for _, args := range [][]string{
		{"init", "--ca", "ca"},
		{"init", "--ca", "web1"},
		{"issue", "web1", "--ca", "ca", "--out", "web1"},
		{"issue", "web1", "--ca", "ca", "--out", "ca"},
	} {
		out, err := certRun(certNoon, args...)
		if err == nil || out != "" || !strings.Contains(err.Error(), "not overwritten; name another directory") {
			t.Errorf("%v: error %v, output %q", args, err, out)
		}
	}
	for _, dir := range []string{"ca", "web1"} {
		if _, err := certRun(certNoon, "status", "--dir", dir); err != nil {
			t.Error(err)
		}
	}
}

func TestCertUsageErrorsSayWhatToWrite(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("PEERSTATE_CERT_DIR", "")
	certMust(t, "init", "--ca", "ca")
	for _, c := range []struct {
		args string
		says string
	}{
		{"init", "--ca farm-ca"},
		{"init --ca x --farm Shop", `name "Shop" has capital letters`},
		{"init --ca x --farm 10.0.0.1", "must not be an IP address"},
		{"init --ca x --days 0", "--days 0: from 1 to 36500"},
		{"init --ca x --days 40000", "from 1 to 36500"},
		{"issue --ca ca --out x", "peerstate cert issue web1"},
		{"issue web1 web2 --ca ca --out x", "name one node"},
		{"issue web1 --out x", "--ca is missing"},
		{"issue web1 --ca ca", "such as --out web1"},
		{"issue web_1 --ca ca --out x", `'_'`},
		{"issue web1 --ca ca --out x --days -1", "--days -1: from 1 to"},
		{"status", "--dir"},
		{"token", "peerstate cert token web2"},
		{"token Web2", "capital letters"},
		{"token web2 --ttl 10s", "--ttl is 10s"},
		{"token web2 --ttl 169h", "1m0s to 168h"},
		{"token web2 --addr web1", "such as london.example.com:42425"},
		{"revoke", "peerstate cert revoke web3"},
		{"revoke web3 web4", "name one node"},
		{"unrevoke web_3", "'_'"},
		{"rotate-ca --days 0", "--days 0"},
		{"rotate-ca --without Web3", "--without"},
	} {
		out, err := certRun(certNoon, strings.Fields(c.args)...)
		if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), c.says) || out != "" {
			t.Errorf("%s: error %v, output %q; want a usage error with %q", c.args, err, out, c.says)
		}
	}
	if _, err := os.Stat("x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written all the same: %v", err)
	}
}

func TestCertIssueWithoutACASaysWhereItShouldBe(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := certRun(certNoon, "issue", "web1", "--ca", "none", "--out", "web1")
	if err == nil || !strings.Contains(err.Error(), filepath.Join("none", "ca.crt")+": it is missing") {
		t.Errorf("error %v", err)
	}
}

func TestCertCommandsExitAsDocumented(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		args string
		want int
	}{
		{"cert init --ca ca", exitDone},
		{"cert issue web1 --ca ca --out web1", exitDone},
		{"cert status --dir web1", exitDone},
		{"cert init --ca ca", exitFailed},
		{"cert status --dir none", exitFailed},
		{"cert init", exitUsage},
		{"cert", exitUsage},
		{"cert issue", exitUsage},
		{"cert init --ca x --nonsense", exitUsage},
		{"cert status extra", exitUsage},
	} {
		var stdout, stderr bytes.Buffer
		if got := run(strings.Fields(c.args), &stdout, &stderr); got != c.want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", c.args, got, c.want, &stdout, &stderr)
		}
		if lines := strings.Count(stderr.String(), "\n"); c.want != exitDone && lines != 1 {
			t.Errorf("%s: %d lines of errors, want 1: %s", c.args, lines, &stderr)
		}
	}
}

func TestCertDatesAreSaidInDays(t *testing.T) {
	for _, c := range []struct {
		left time.Duration
		want string
	}{
		{730 * certDay, "in 730 days"}, {certDay, "in 1 day"}, {time.Hour, "in less than a day"},
		{-time.Hour, "less than a day ago"}, {-certDay, "1 day ago"}, {-9 * certDay, "9 days ago"},
	} {
		if got := certDate(certNoon.Add(c.left), certNoon); !strings.HasSuffix(got, "UTC ("+c.want+")") {
			t.Errorf("%v: %q, want %q", c.left, got, c.want)
		}
	}
}

// TestTheStatusSaysTheSameNumberOfDaysAsCertStatus is about a certificate that was made a moment ago.
func TestTheStatusSaysTheSameNumberOfDaysAsCertStatus(t *testing.T) {
	for left, days := range map[time.Duration]string{90*certDay - time.Minute: "90 days", 30*certDay + time.Hour: "30 days"} {
		end := certNoon.Add(left)
		page := admin.Page{Now: certNoon, Status: admin.Status{Farm: "shop", Certificate: &admin.Certificate{Node: "web1", Expires: end, CAExpires: end}}}
		text := page.Text(false, 0)
		if !strings.Contains(text, days+" left") || !strings.Contains(certDate(end, certNoon), days) {
			t.Errorf("%s, and\n%s", certDate(end, certNoon), text)
		}
	}
}
