package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"peerstate/store/journal"
)

// The journals that a release has written are in testdata/journal-N, where N is savedVersion then: "alone" of a node
// without a farm, "farm" of node a in farm shop, both killed while they ran. This version has to read them, and as long
// as it has the same savedVersion, that release has to read what this one writes.

// released copies a journal of a release, so that it can be opened.
func released(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

const releasedKey = "LM/W3SVC/1/ROOT(x)/"

func TestTheJournalOfAReleaseIsServed(t *testing.T) {
	dir := released(t, "journal-1/alone")
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{Node: "stand-alone", Instance: 2, FetchTimeout: fetchTimeout})
		if err := st.OpenJournal(JournalOptions{Dir: dir, Node: "stand-alone", Every: often}); err != nil {
			t.Fatal(err)
		}
		get := func(key string) Answer { return req(st, Get, releasedKey+key, NoCookie, "") }
		mustBe(t, "held", get("held"), OK, "held cart")
		mustBe(t, "written", get("written"), OK, "written again")
		mustBe(t, "deleted", get("deleted"), NotFound, "")
		if got := get("locked"); got.Status != Locked || got.Cookie != 2 {
			t.Errorf("locked: %+v", got)
		}
		if e, ok := st.entry(releasedKey + "deleted"); !ok || e.state != deleted {
			t.Error("the deletion is forgotten")
		}
		shut(t, st)
	})
}

func TestTheJournalOfANodeOfAReleaseIsCompared(t *testing.T) {
	dir := released(t, "journal-1/farm")
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{Node: "a", Instance: 2, FetchTimeout: fetchTimeout, Backups: 1})
		if err := st.OpenJournal(JournalOptions{Dir: dir, Farm: "shop", Node: "a", Every: often}); err != nil {
			t.Fatal(err)
		}
		st.Join(nobody{})
		mine := []string{"held", "written", "locked", "forever", "empty", "empty2"}
		if got := st.Stats(); got.Recalled != len(mine) || got.Backups != len(mine)+6 {
			t.Errorf("%+v", got)
		}
		given, ok := st.BackupOf(releasedKey + "given")
		if !ok || given.Holder.Node != "b" || given.Version.Epoch != 1 {
			t.Errorf("what was given away: %+v, %v", given, ok)
		}
		if got := st.Settle(releasedKey+"given", Version{Stamp: 1}, "c"); got.Kind != SettleMoved || got.Node != "b" {
			t.Errorf("its note: %+v", got)
		}
		if got := st.Settle(releasedKey+"deleted", Version{Stamp: 1}, "b"); got.Kind != SettleMine || !got.Version.Tombstone {
			t.Errorf("the deletion: %+v", got)
		}
		for _, key := range mine {
			b, ok := st.BackupOf(releasedKey + key)
			if !ok || b.Holder.Node != "a" || len(st.PlacesOf(b)) != 1 || !st.PromoteBackup(b) {
				t.Errorf("%s: %+v, %v", key, b, ok)
			}
		}
		mustBe(t, "written", req(st, Get, releasedKey+"written", NoCookie, ""), OK, "written again")
		if got := req(st, Get, releasedKey+"empty", NoCookie, ""); !got.Init {
			t.Errorf("nobody is told to initialise a session that is empty: %+v", got)
		}
		if got := req(st, Acquire, releasedKey+"locked", NoCookie, ""); got.Status != Locked || got.Cookie != 2 {
			t.Errorf("the lock: %+v", got)
		}
		shut(t, st)
	})
}

func TestAJournalWithRecordsOfANewerVersionIsRefusedAndStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	o := journal.Options{Farm: "shop", Node: "a"}
	j, err := journal.Open(dir, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		v := saved{kind: savedDeleted, stamp: 5, timeout: 20, expires: 1 << 62}
		head := v.head()
		if i == 7 {
			head[0]++
		}
		j.Set(savedSession(fmt.Sprint("key", i)), head, nil)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	before := os.DirFS(dir)
	files, err := fs.Glob(before, "*.records")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	was, err := fs.ReadFile(before, files[0])
	if err != nil {
		t.Fatal(err)
	}
	st := New(Options{Node: "a", Instance: 2, FetchTimeout: fetchTimeout, Backups: 1})
	defer st.Close()
	err = st.OpenJournal(JournalOptions{Dir: dir, Farm: "shop", Node: "a", Every: often})
	if !errors.Is(err, journal.ErrNewer) || !strings.Contains(err.Error(), "use that version") {
		t.Errorf("error %v", err)
	}
	now, err := fs.ReadFile(before, files[0])
	if err != nil || !bytes.Equal(now, was) {
		t.Errorf("%d bytes became %d, %v", len(was), len(now), err)
	}
	if j, err = journal.Open(dir, o, nil); err != nil { // it was given free
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// A node is taken back to the release before: its records are written as that release has written them.
func TestRecordsAreWrittenAsTheReleaseHasWrittenThem(t *testing.T) {
	for dir, o := range map[string]journal.Options{"journal-1/alone": {Node: "stand-alone"}, "journal-1/farm": {Farm: "shop", Node: "a"}} {
		dir := released(t, dir)
		synctest.Test(t, func(t *testing.T) {
			kinds := map[savedKind]int{}
			j, err := journal.Open(dir, o, func(name string, value []byte) error {
				v, err := readSaved(value)
				if err != nil {
					t.Errorf("%q: %v", name, err)
				}
				kinds[v.kind]++
				if again := append(v.head(), v.body...); !bytes.Equal(again, value) {
					t.Errorf("%q is written as\n%x, was\n%x", name, again, value)
				}
				key, backup, ok := keyOfSaved(name)
				if !ok || backup != (v.kind == savedBackup) || !strings.HasPrefix(key, releasedKey) ||
					!slices.Contains([]string{savedSession(key), savedBackupOf(key)}, name) {
					t.Errorf("a record under %q", name)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
			if o.Farm != "" && len(kinds) != 4 || kinds[savedHeld] == 0 || kinds[savedDeleted] == 0 {
				t.Errorf("kinds %v", kinds)
			}
		})
	}
}
