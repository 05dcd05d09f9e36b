package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func load(t testing.TB, dir string) *Snapshot {
	t.Helper()
	s, err := Load(dir, noon)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func accept(t testing.TB, dir string, s *Snapshot, d *Document) *Snapshot {
	t.Helper()
	next, err := Accept(dir, s, d.Bytes(), noon)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// bundleOf is what ca.crt holds when all of the CAs are trusted.
func bundleOf(t testing.TB, cas ...*CA) *bundle {
	t.Helper()
	var data []byte
	for _, ca := range cas {
		data = append(data, ca.trust.pem()...)
	}
	b, err := parseBundle(CACert, data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signed makes a document that says which CAs are trusted.
func signed(t testing.TB, number uint64, trusted []*CA, signers ...*CA) *Document {
	t.Helper()
	var keys []*ecdsa.PrivateKey
	for _, ca := range signers {
		keys = append(keys, ca.key)
	}
	b := bundleOf(t, trusted...)
	d, err := signDocument(Document{Farm: b.farm, Number: number}, b, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func names(authorities []Authority) (ids []string) {
	for _, a := range authorities {
		ids = append(ids, a.KeyID)
	}
	return ids
}

func TestAnAcceptedDocumentIsInForceAtOnceAndAfterARestart(t *testing.T) {
	ca, next := newCA(t, "farm", noon), newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	web2 := newNode(t, ca, "web2", noon)
	s := load(t, dir)
	if s.Document() != nil || s.DocumentNumber() != 0 {
		t.Errorf("before the first, there is document %d", s.DocumentNumber())
	}
	both := bundleOf(t, ca, next)
	d, err := signDocument(Document{Farm: "farm", Number: 7, Revoked: []Revocation{{Node: "web2", Before: noon}}}, both, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	now := accept(t, dir, s, d)
	restarted := load(t, dir)
	for what, s := range map[string]*Snapshot{"at once": now, "after a restart": restarted} {
		if s.DocumentNumber() != 7 || !s.Document().Equal(d) || !s.trust.sameCAs(both) {
			t.Errorf("%s: document %d, CAs %v", what, s.DocumentNumber(), names(s.Authorities()))
		}
		if _, err := s.trust.verify([]*x509.Certificate{web2.cert.Leaf}, noon, x509.ExtKeyUsageClientAuth); err == nil {
			t.Errorf("%s: whoever is revoked is let in", what)
		}
	}
	if !now.Same(restarted) || now.Same(s) || s.Same(nil) {
		t.Error("snapshots are taken for the same that are not, or the reverse")
	}
	if path := filepath.Join(dir, StateDir, DocumentFile); !exists(t, path) || exists(t, path+unplaced) {
		t.Error("the document is not in its file, and only there")
	}
	if who, err := Exposure(documentPath(dir)); err != nil || who != "" {
		t.Errorf("the file: %q, %v", who, err)
	}
}

func exists(t testing.TB, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestOnlyAHigherNumberIsAccepted(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	first := load(t, dir)
	s := accept(t, dir, first, newDocument(t, ca, 7))
	for _, number := range []uint64{1, 6, 7} {
		// To the snapshot of before, it is the file that says so.
		for _, s := range []*Snapshot{first, s} {
			if next, err := Accept(dir, s, newDocument(t, ca, number, Revocation{Node: "web2"}).Bytes(), noon); !errors.Is(err, ErrOldDocument) || next != nil {
				t.Errorf("document %d after %d: %v, %v", number, s.DocumentNumber(), next, err)
			}
		}
	}
	if s = accept(t, dir, s, newDocument(t, ca, 8)); s.DocumentNumber() != 8 {
		t.Errorf("document %d is in force", s.DocumentNumber())
	}
}

func TestADocumentThatMustNotBeBelievedChangesNothing(t *testing.T) {
	ca, other := newCA(t, "farm", noon), newCA(t, "farm", noon)
	elsewhere := newCA(t, "elsewhere", noon)
	// Signed by our CA for another farm: only by mistake, and no use.
	mixed := elsewhere.trust.under(nil)
	foreign, err := signDocument(Document{Farm: "elsewhere", Number: 7}, mixed, ca.key, elsewhere.key)
	if err != nil {
		t.Fatal(err)
	}
	own := Revocation{Node: "web1", Before: noon}
	for name, c := range map[string]struct {
		data   []byte
		says   string
		reason Reason // why our own certificate would be refused; 0: it would not
	}{
		"junk":               {[]byte("junk"), "not a farm's document", 0},
		"nothing":            {nil, "not a farm's document", 0},
		"another farm":       {foreign.Bytes(), `of the farm "elsewhere"`, 0},
		"another CA":         {signed(t, 7, []*CA{ca, other}, other).Bytes(), "none of the CAs that are trusted here", 0},
		"no CA of its own":   {signed(t, 7, []*CA{other}, ca).Bytes(), "none of the CAs that it says", 0},
		"without our CA":     {signed(t, 7, []*CA{other}, ca, other).Bytes(), "own certificate would be refused", AnotherCA},
		"we are revoked":     {newDocument(t, ca, 7, own).Bytes(), "own certificate would be refused", Revoked},
		"far too large":      {make([]byte, MaxDocument+1), "at most", 0},
		"another number now": {bytes.Replace(newDocument(t, ca, 7).Bytes(), []byte("\x02\x07\x03"), []byte("\x02\x08\x03"), 1), "trusted here", 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := issue(t, ca, "web1", noon)
			s := load(t, dir)
			next, err := Accept(dir, s, c.data, noon)
			if err == nil || next != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v; want an error with %q", next, err, c.says)
			}
			r, ok := RefusalOf(err)
			if ok != (c.reason != 0) || ok && r.Reason != c.reason {
				t.Errorf("the error %v has the refusal %v, want %v", err, r, c.reason)
			}
			if !load(t, dir).Same(s) || exists(t, filepath.Join(dir, StateDir)) {
				t.Error("something was written")
			}
		})
	}
}

func TestASignatureOfAnUnknownKeyBesideAKnownOneDoesNoHarm(t *testing.T) {
	ca, other := newCA(t, "farm", noon), newCA(t, "farm", noon)
	for _, signers := range [][]*CA{{ca, other}, {other, ca}} {
		dir := issue(t, ca, "web1", noon)
		accept(t, dir, load(t, dir), signed(t, 7, []*CA{ca}, signers...))
	}
}

func TestADocumentOfTheFutureIsTakenByItsNumber(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	d, err := signDocument(Document{Farm: "farm", Number: 7, Made: noon.Add(50 * year)}, ca.trust, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, dir, load(t, dir), d)
}

// A crash leaves the files as they are between two steps. In each such state the node comes back, with the
// old document or the new one, and can take the new one in.
func TestACrashWhileADocumentIsWrittenLosesNothing(t *testing.T) {
	older, newer := newCA(t, "farm", noon), newCA(t, "farm", noon)
	for name, c := range map[string]struct {
		trusted []*CA // by hand, before
		issuer  *CA   // of the node's certificate
		first   *Document
		second  *Document
		holds   int // from which step on the second is in force
	}{
		"the first one": {[]*CA{older}, older, nil, signed(t, 7, []*CA{older}, older), 2},
		"the CAs stay":  {[]*CA{older}, older, signed(t, 6, []*CA{older}, older), signed(t, 7, []*CA{older}, older), 2},
		"a new CA comes in": {[]*CA{older}, older,
			signed(t, 6, []*CA{older}, older), signed(t, 7, []*CA{older, newer}, older, newer), 3},
		"the old CA goes": {[]*CA{older, newer}, newer,
			signed(t, 6, []*CA{older, newer}, older, newer), signed(t, 7, []*CA{newer}, older, newer), 3},
		"the old CA goes that alone has signed the old document": {[]*CA{older, newer}, newer,
			signed(t, 6, []*CA{older, newer}, older), signed(t, 7, []*CA{newer}, newer), 3},
	} {
		t.Run(name, func(t *testing.T) {
			for step := range 5 {
				dir := issue(t, c.issuer, "web1", noon)
				put(t, dir, CACert, bundleOf(t, c.trusted...).pem())
				before := load(t, dir)
				if c.first != nil {
					if err := os.Mkdir(filepath.Join(dir, StateDir), 0o700); err != nil {
						t.Fatal(err)
					}
					before = accept(t, dir, before, c.first)
				}
				for i, do := range []func(){
					func() {
						if err := MakeDir(filepath.Join(dir, StateDir)); err != nil {
							t.Fatal(err)
						}
						put(t, dir, filepath.Join(StateDir, "."+DocumentFile+unplaced+".XYZ"), c.second.Bytes()[:100])
					},
					func() { put(t, dir, filepath.Join(StateDir, DocumentFile+unplaced), c.second.Bytes()) },
					func() { put(t, dir, CACert, c.second.trust.pem()) },
					func() { rename(t, documentPath(dir)+unplaced, documentPath(dir)) },
				} {
					if i < step {
						do()
					}
				}
				s := load(t, dir)
				if step >= c.holds {
					if !s.Document().Equal(c.second) || !s.trust.sameCAs(c.second.trust) {
						t.Errorf("after step %d: document %d, CAs %v", step, s.DocumentNumber(), names(s.Authorities()))
					}
					if exists(t, documentPath(dir)+unplaced) {
						t.Errorf("after step %d: what was interrupted was not completed", step)
					}
					continue
				}
				if !s.Same(before) {
					t.Errorf("after step %d: document %d, CAs %v", step, s.DocumentNumber(), names(s.Authorities()))
				}
				if s = accept(t, dir, s, c.second); !s.Same(load(t, dir)) || exists(t, documentPath(dir)+unplaced) {
					t.Errorf("after step %d, and once more: document %d", step, s.DocumentNumber())
				}
			}
		})
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// A directory in the place of a file cannot be replaced by a file, also by root, whom modes do not stop.
func block(t testing.TB, path string) (mend func()) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADocumentThatCannotBeWrittenIsInForceUntilARestart(t *testing.T) {
	ca, next := newCA(t, "farm", noon), newCA(t, "farm", noon)
	for name, where := range map[string]string{
		"the waiting document": filepath.Join(StateDir, DocumentFile+unplaced),
		"its directory":        StateDir,
	} {
		t.Run(name, func(t *testing.T) {
			dir := issue(t, ca, "web1", noon)
			first := load(t, dir)
			mend := func() { remove(t, dir, StateDir) }
			if where == StateDir {
				put(t, dir, StateDir, nil)
			} else {
				mend = block(t, filepath.Join(dir, where))
			}
			d := signed(t, 7, []*CA{ca, next}, ca)
			s, err := Accept(dir, first, d.Bytes(), noon)
			if _, ok := errors.AsType[*FileError](err); !ok || s == nil || !s.Document().Equal(d) {
				t.Fatalf("%v, %v; want it, and a FileError", s, err)
			}
			if data, err := s.Confirm(nonce); err == nil || data != nil {
				t.Error("it is confirmed")
			}
			mend()
			if !load(t, dir).Same(first) {
				t.Error("after a restart it is there")
			}
			again, err := Reload(dir, s, noon)
			if err != nil || !again.Document().Equal(d) || again.Same(s) || !again.Same(load(t, dir)) {
				t.Errorf("when it can be written: %v, %v", again, err)
			}
		})
	}
}

func TestADirectoryFromAnOldCopyBringsNobodyBack(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	old := accept(t, dir, load(t, dir), newDocument(t, ca, 6))
	copied := get(t, dir, filepath.Join(StateDir, DocumentFile))
	s := accept(t, dir, old, newDocument(t, ca, 7, Revocation{Node: "web2", Before: noon}))
	put(t, dir, filepath.Join(StateDir, DocumentFile), copied)
	got, err := Reload(dir, s, noon)
	if err != nil || !got.Same(s) || !load(t, dir).Same(s) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Reload(dir, old, noon); err != nil || !got.Same(s) {
		t.Errorf("one that runs with an older one: %v, %v", got, err)
	}
	// Whoever goes to another CA by hand leaves the document behind.
	other := newCA(t, "farm", noon)
	remove(t, dir, filepath.Join(StateDir, DocumentFile))
	moved := issue(t, other, "web1", noon)
	for _, name := range []string{CACert, NodeCert, NodeKey} {
		put(t, dir, name, get(t, moved, name))
	}
	if got, err := Reload(dir, s, noon); err != nil || got.Document() != nil {
		t.Errorf("after a change by hand: %v, %v", got, err)
	}
}

func TestABrokenCAFileLeavesTheOldSnapshotAndTheNextDocumentMendsIt(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	s := accept(t, dir, load(t, dir), newDocument(t, ca, 6))
	put(t, dir, CACert, []byte("junk"))
	if got, err := Reload(dir, s, noon); err == nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	request := newRequest(t, s, noon)
	answer := as(t, ca, "web1", request.key, noon)
	if got, err := request.Install(dir, answer.Raw, noon); err == nil || got != nil {
		t.Errorf("a new certificate is taken in: %v", got)
	}
	if s = accept(t, dir, s, newDocument(t, ca, 7)); !s.Same(load(t, dir)) {
		t.Error("it is not mended")
	}
}

func TestADocumentFileThatCannotBeBelievedIsNoSnapshot(t *testing.T) {
	ca, other := newCA(t, "farm", noon), newCA(t, "farm", noon)
	elsewhere := newCA(t, "elsewhere", noon)
	for name, c := range map[string]struct {
		data []byte
		says []string
	}{
		"junk":              {[]byte("junk"), []string{"not a farm's document", "remove it"}},
		"empty":             {nil, []string{"not a farm's document"}},
		"cut off":           {newDocument(t, ca, 7).Bytes()[:200], []string{"not a farm's document"}},
		"another CA":        {signed(t, 7, []*CA{ca, other}, other).Bytes(), []string{"signed by none of the CAs in ca.crt", "remove this file"}},
		"another farm":      {newDocument(t, elsewhere, 7).Bytes(), []string{`of the farm "elsewhere"`, "remove it"}},
		"far too large":     {make([]byte, MaxDocument+1), []string{"larger than"}},
		"it revokes us":     {newDocument(t, ca, 7, Revocation{Node: "web1", Before: noon}).Bytes(), []string{NodeCert, "revoked", "unrevoke"}},
		"it has our CA not": {signed(t, 7, []*CA{other}, ca).Bytes(), nil}, // ca.crt decides who is trusted
	} {
		t.Run(name, func(t *testing.T) {
			dir := issue(t, ca, "web1", noon)
			if err := MakeDir(filepath.Join(dir, StateDir)); err != nil {
				t.Fatal(err)
			}
			put(t, dir, filepath.Join(StateDir, DocumentFile), c.data)
			s, err := Load(dir, noon)
			if c.says == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if _, ok := errors.AsType[*FileError](err); !ok || s != nil {
				t.Fatalf("%v, %v; want a FileError", s, err)
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q is not in the error %v", text, err)
				}
			}
		})
	}
}

func TestACAThatHasEndedSaysNothingNewButWhatItSaidHolds(t *testing.T) {
	older, newer := newCA(t, "farm", noon.Add(-DefaultCALife)), newCA(t, "farm", noon)
	dir := issue(t, newer, "web1", noon)
	put(t, dir, CACert, bundleOf(t, older, newer).pem())
	first, second := signed(t, 6, []*CA{older, newer}, older), signed(t, 7, []*CA{older, newer}, older)
	s := accept(t, dir, load(t, dir), first)
	later := noon.Add(time.Hour)
	if next, err := Accept(dir, s, second.Bytes(), later); err == nil || next != nil || !strings.Contains(err.Error(), "valid now") {
		t.Errorf("%v, %v", next, err)
	}
	if s, err := Load(dir, later); err != nil || !s.Document().Equal(first) {
		t.Errorf("%v, %v", s, err)
	}
}

func TestWhatCannotBeCompletedIsSaidSo(t *testing.T) {
	ca := newCA(t, "farm", noon)
	dir := issue(t, ca, "web1", noon)
	rename(t, filepath.Join(dir, NodeKey), filepath.Join(dir, NodeKey+unplaced))
	mend := block(t, filepath.Join(dir, NodeKey))
	_, err := Load(dir, noon)
	if fault, ok := errors.AsType[*FileError](err); !ok || fault.Path != filepath.Join(dir, NodeKey) || !strings.Contains(err.Error(), "cannot be renamed") {
		t.Errorf("error %v, want a FileError about node.key", err)
	}
	mend()
	load(t, dir)
}
