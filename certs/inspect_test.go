package certs

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func inspect(t *testing.T, dir string, now time.Time) *Report {
	t.Helper()
	r, err := Inspect(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAReportShowsWhatADirectoryHolds(t *testing.T) {
	ca := newCA(t, "shop", noon)
	node := issue(t, ca, "web1", noon)
	s, err := Load(node, noon)
	if err != nil {
		t.Fatal(err)
	}
	self := s.Self()
	if diff := cmp.Diff(&Report{Farm: "shop", Node: &self, Authorities: []Authority{ca.Authority()}}, inspect(t, node, noon)); diff != "" {
		t.Errorf("a node's directory: %s", diff)
	}
	want := &Report{Farm: "shop", Authorities: []Authority{ca.Authority()}, Signing: ca.Authority().KeyID}
	if diff := cmp.Diff(want, inspect(t, ca.dir, noon)); diff != "" {
		t.Errorf("a CA's directory: %s", diff)
	}
}

func TestAReportShowsTheFarmsDocument(t *testing.T) {
	ca := newCA(t, "shop", noon)
	d := newDocument(t, ca, 7, Revocation{Node: "web2", Before: noon})
	node := issue(t, ca, "web1", noon)
	accept(t, node, load(t, node), d)
	put(t, ca.dir, DocumentFile, d.Bytes())
	for _, dir := range []string{node, ca.dir} {
		if r := inspect(t, dir, noon); !r.Document.Equal(d) || len(r.Problems)+len(r.Warnings) != 0 {
			t.Errorf("%s: %v, problems %v, warnings %v", dir, r.Document, r.Problems, r.Warnings)
		}
	}
	for name, data := range map[string][]byte{
		"junk":       []byte("junk"),
		"another CA": newDocument(t, newCA(t, "shop", noon), 7).Bytes(),
	} {
		put(t, node, filepath.Join(StateDir, DocumentFile), data)
		if r := inspect(t, node, noon); r.Document != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Error(), DocumentFile) {
			t.Errorf("%s: %v, problems %v", name, r.Document, r.Problems)
		}
	}
}

func TestANodeThatIsRevokedIsAProblem(t *testing.T) {
	ca := newCA(t, "shop", noon)
	dir := issue(t, ca, "web1", noon)
	if err := MakeDir(filepath.Join(dir, StateDir)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, filepath.Join(StateDir, DocumentFile), newDocument(t, ca, 7, Revocation{Node: "web1", Before: noon}).Bytes())
	r := inspect(t, dir, noon)
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Error(), "revoked: ") || r.Node == nil || r.Document == nil {
		t.Errorf("problems %v, node %v", r.Problems, r.Node)
	}
}

func TestAReportTellsOfWhatWasInterruptedAndLeavesItAlone(t *testing.T) {
	ca := newCA(t, "shop", noon)
	dir := issue(t, ca, "web1", noon)
	rename(t, filepath.Join(dir, NodeKey), filepath.Join(dir, NodeKey+unplaced))
	for range 2 {
		r := inspect(t, dir, noon)
		if len(r.Problems) != 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "interrupted") {
			t.Errorf("problems %v, warnings %v", r.Problems, r.Warnings)
		}
	}
	if exists(t, filepath.Join(dir, NodeKey)) {
		t.Error("it was completed")
	}
}

func TestAReportShowsWhatCanBeReadOfABrokenDirectory(t *testing.T) {
	ca := newCA(t, "shop", noon)
	for name, c := range map[string]struct {
		breakIt     func(dir string)
		node        bool
		authorities int
		says        string
	}{
		"no CA":          {func(dir string) { remove(t, dir, CACert) }, true, 0, "ca.crt: it is missing"},
		"no certificate": {func(dir string) { remove(t, dir, NodeCert) }, false, 1, "node.crt: it is missing"},
		"no key":         {func(dir string) { remove(t, dir, NodeKey) }, true, 1, "node.key: it is missing"},
		"only a CA": {func(dir string) {
			remove(t, dir, NodeKey)
			remove(t, dir, NodeCert)
		}, false, 1, "node.crt: it is missing"},
		"another CA": {func(dir string) { put(t, dir, CACert, newCA(t, "shop", noon).trust.pem()) }, true, 1, "another CA"},
		"a CA's key that does not fit": {func(dir string) { put(t, dir, CAKey, get(t, dir, NodeKey)) }, true, 1,
			"ca.key: it belongs to no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := issue(t, ca, "web1", noon)
			c.breakIt(dir)
			r := inspect(t, dir, noon)
			if (r.Node != nil) != c.node || len(r.Authorities) != c.authorities {
				t.Errorf("node %v, authorities %v", r.Node, r.Authorities)
			}
			if r.Node != nil && r.Node.Node != "web1" {
				t.Errorf("the node is %v", r.Node)
			}
			if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Error(), c.says) {
				t.Errorf("problems %v, want one with %q", r.Problems, c.says)
			}
		})
	}
}

func TestANodeWithoutANameIsShownAllTheSame(t *testing.T) {
	ca := newCA(t, "shop", noon)
	dir := issue(t, ca, "web1", noon)
	put(t, dir, NodeCert, encodePEM(pemCertificate, forge(t, ca, noon, func(c *x509.Certificate) { c.URIs = nil }).Certificate[0]))
	r := inspect(t, dir, noon)
	if r.Node == nil || r.Node.Serial == "" || r.Node.Node != "" || len(r.Problems) != 1 {
		t.Errorf("node %v, problems %v", r.Node, r.Problems)
	}
}

func TestTheEndIsWarnedOfAndThenAProblem(t *testing.T) {
	ca := newCA(t, "farm", noon)
	node := issue(t, ca, "web1", noon)
	for _, c := range []struct {
		dir, file string
		life      time.Duration
		problem   string
	}{
		{node, NodeCert, DefaultNodeLife, "expired: the certificate of \"web1\" ended"},
		{ca.dir, CACert, DefaultCALife, "expired: the CA ended"},
	} {
		path := filepath.Join(c.dir, c.file)
		if r := inspect(t, c.dir, noon.Add(c.life-30*day)); len(r.Warnings)+len(r.Problems) != 0 {
			t.Errorf("%s, 30 days ahead: %v, %v", path, r.Warnings, r.Problems)
		}
		for _, left := range []time.Duration{30*day - time.Minute, 0} {
			r := inspect(t, c.dir, noon.Add(c.life-left))
			if len(r.Problems) != 0 || len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], path+": ") || !strings.Contains(r.Warnings[0], "ends soon") {
				t.Errorf("%s, %v ahead: %v, %v", path, left, r.Warnings, r.Problems)
			}
		}
		r := inspect(t, c.dir, noon.Add(c.life+time.Second))
		if len(r.Warnings) != 0 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Error(), c.problem) {
			t.Errorf("%s, after the end: %v, %v", path, r.Warnings, r.Problems)
		}
	}
}

func TestAShortCertificateIsNotWarnedOfFromTheFirstDay(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := filepath.Join(t.TempDir(), "web1")
	if _, err := ca.Issue(dir, "web1", 7*day, noon); err != nil {
		t.Fatal(err)
	}
	if r := inspect(t, dir, noon.Add(5*day)); len(r.Warnings) != 0 { // 2 days of 8 left
		t.Errorf("too early: %v", r.Warnings)
	}
	if r := inspect(t, dir, noon.Add(5*day+time.Minute)); len(r.Warnings) != 1 {
		t.Errorf("near the end: %v", r.Warnings)
	}
}

func TestADirectoryWithNothingOfOursIsNotReportedOn(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "readme.txt", nil)
	if r, err := Inspect(dir, noon); err == nil || !strings.Contains(err.Error(), dir+" holds no certificates") {
		t.Errorf("%v, %v", r, err)
	}
	if r, err := Inspect(filepath.Join(dir, "none"), noon); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "; name the directory of a node or of a CA") {
		t.Errorf("%v, %v", r, err)
	}
}
