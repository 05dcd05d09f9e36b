package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store/journal"
)

// Whatever is written, locked, moved, deleted, kept and expires on several nodes: what stands in each journal is what
// the node knows.
func TestTheJournalHasWhatTheStoreHas(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			inKeeping(t, 1, []string{"a", "b", "c"}, func(t *testing.T, k *keeping) {
				draw := rand.New(rand.NewPCG(seed, 0))
				for _, n := range k.nodes {
					n.lockWait = 0
					if err := n.OpenJournal(JournalOptions{Dir: dir + "/" + n.name, Farm: "farm", Node: n.name, Every: often}); err != nil {
						t.Fatal(err)
					}
				}
				locks := map[string]int32{}
				for range 80 {
					n, key := k.nodes[draw.IntN(3)], fmt.Sprint("k", draw.IntN(6))
					switch draw.IntN(12) {
					case 0, 1:
						n.write(key, fmt.Sprint(time.Now().UnixNano()))
					case 2:
						n.get(key)
					case 3:
						if a := n.acquire(key); a.Status == OK {
							locks[key] = a.Cookie
						}
					case 4:
						n.put(key, "with the lock", locks[key])
					case 5:
						n.release(key, locks[key])
					case 6:
						n.delete(key, locks[key])
					case 7:
						n.insert(key, "")
					case 8:
						time.Sleep(time.Duration(draw.IntN(15)) * time.Minute)
					case 9:
						if b, ok := n.BackupOf(key); ok {
							n.PromoteBackup(b)
						}
					case 10:
						n.settle(key)
					case 11:
						k.deliver(func(*Parcel) KeepKind {
							return [...]KeepKind{KeepDone, KeepDone, KeepBusy, KeepRefused}[draw.IntN(4)]
						})
					}
					synctest.Wait()
				}
				k.wg.Wait()
				time.Sleep(sweepRound + sweepEvery) // what was only read is written down by the sweeper
				for _, n := range k.nodes {
					n.mustBeWritten(t, dir+"/"+n.name)
				}
			})
		})
	}
}

// mustBeWritten closes the journal and compares it with what is in memory.
func (n *node) mustBeWritten(t *testing.T, dir string) {
	t.Helper()
	if err := n.CloseJournal(); err != nil {
		t.Fatal(err)
	}
	found := map[string]saved{}
	j, err := journal.Open(dir, journal.Options{Farm: "farm", Node: n.name, Every: often}, func(name string, value []byte) error {
		v, err := readSaved(value)
		found[name] = v
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := j.Stats().Loaded; got.Rejected != 0 || got.Damaged != 0 {
		t.Errorf("%+v", got)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	now := n.clock.now()
	same := func(name string, s *session, kinds ...savedKind) {
		v, ok := found[name]
		delete(found, name)
		switch {
		case !ok || !slices.Contains(kinds, v.kind):
			t.Errorf("%s: %v is written as %+v (%v)", n.name, s, v, ok)
		case v.stamp != s.stamp || v.kind != savedDeleted && (v.epoch != s.epoch || v.deleted != s.deleted || v.flags != s.flags):
			t.Errorf("%s: %v, deleted %d, flags %d is written as %+v", n.name, s, s.deleted, s.flags, v)
		case v.kind == savedHeld || v.kind == savedBackup:
			if v.lock != s.lock || v.cookie != s.cookie || v.floor != s.floor || v.touched != s.touched || string(v.body) != string(s.body) || v.timeout != s.timeout {
				t.Errorf("%s: %+v is written as %+v", n.name, s, v)
			}
			if late := wallOf(s.expires, now) - v.expires; late < 0 || late > deadline(0, s.timeout)/10 {
				t.Errorf("%s: %v expires %v later than is written", n.name, s, time.Duration(late))
			}
		}
	}
	for i := range n.shards {
		n.shards[i].mu.Lock()
		defer n.shards[i].mu.Unlock()
		for _, s := range n.shards[i].sessions {
			switch s.state {
			case held, frozen:
				same(savedSession(s.key), s, savedHeld)
			case moved:
				same(savedSession(s.key), s, savedMoved)
			case deleted:
				same(savedSession(s.key), s, savedDeleted)
			}
		}
		for _, b := range n.shards[i].backups {
			same(savedBackupOf(b.key), &b.session, savedBackup)
		}
	}
	for name, v := range found {
		t.Errorf("%s: %q stands in the journal and is not known: %+v", n.name, name, v)
	}
}

func TestAWriteThatIsToWaitIsOnDiskWhenItIsAnswered(t *testing.T) {
	dir, copies := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := journalled(t, dir, "", 1, 0)
		for i := range 20 {
			key := fmt.Sprint("k", i%3)
			mustBe(t, "put", req(st, Put, key, NoCookie, fmt.Sprint("cart ", i)), OK, "")
			// What is on disk at this moment is what a kill would leave.
			at := fmt.Sprint(copies, "/", i)
			if err := os.CopyFS(at, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			left := journalled(t, at, "", 2, often)
			mustBe(t, "get after a kill", req(left, Get, key, NoCookie, ""), OK, fmt.Sprint("cart ", i))
			shut(t, left)
		}
		for range 200 { // a lock that was released must not come back: nobody is there to release it again
			lock := req(st, Acquire, "k1", NoCookie, "")
			st.size(t) // the lock is on disk
			mustBe(t, "release", req(st, Release, "k1", lock.Cookie, ""), OK, "")
			if j, _ := st.Journal(); j.Unsynced != 0 {
				t.Fatal("a release is answered before it is on disk")
			}
		}
		mustBe(t, "delete", req(st, Delete, "k0", NoCookie, ""), OK, "")
		if err := os.CopyFS(copies+"/deleted", os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		left := journalled(t, copies+"/deleted", "", 2, often)
		mustBe(t, "get after a kill", req(left, Get, "k0", NoCookie, ""), NotFound, "")
		shut(t, left)
		if n := st.Stats().Unforced; n != 0 {
			t.Errorf("%d writes were not forced", n)
		}
		shut(t, st)
	})
}

func TestWhatTheDiskHasLostIsWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := journalled(t, dir, "f", 1, often)
		st.Join(nobody{})
		req(st, Put, "mine", NoCookie, "mine")
		st.Keep(Peer{"b", 2}, ParcelCopy, Record{Key: "kept", Stamp: 5, Timeout: 20, Left: time.Minute, Cookie: 1})
		for _, name := range []string{savedSession("mine"), savedBackupOf("kept")} {
			st.journal.Delete(name)
			st.rewrite(name)
		}
		st.rewrite("nothing")
		shut(t, st)
		st = journalled(t, dir, "f", 2, often)
		if got := st.Stats(); got.Backups != 2 || got.Recalled != 1 {
			t.Errorf("%+v", got)
		}
		shut(t, st)
	})
}

func TestWhatIsNotUnderstoodIsDropped(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{Node: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := saved{kind: savedHeld, stamp: 1, cookie: 1, who: Peer{"a", 1}}
	j.Set("good", good.head(), []byte("cart"))
	j.Set("damaged", good.head()[:5], nil)
	j.Set("\x01wrong", good.head(), nil)
	j.Set("\x00good", good.head(), nil) // a session under the name of a backup
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	st := journalled(t, dir, "", 2, often)
	if got, _ := st.Journal(); got.Loaded.Rejected != 3 || st.Stats().Active != 1 {
		t.Errorf("%+v", got)
	}
	shut(t, st)
}

// cutAnywhere opens the journal as it would be after a crash at any moment of its writing, beginning with what was there
// before, and fails if one of the keys is not in it, neither as a session nor as a backup.
func cutAnywhere(t *testing.T, before, dir string, from int64, keys []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.records"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	last := files[len(files)-1]
	whole, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	for cut := from; cut <= int64(len(whole)); cut += 37 {
		crashed := t.TempDir()
		if err := os.CopyFS(crashed, os.DirFS(before)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(crashed, filepath.Base(last)), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		st := journalled(t, crashed, "f", 9, often)
		for _, key := range keys {
			if _, ok := st.BackupOf(key); !ok {
				t.Fatalf("after %d of %d bytes %s is lost", cut, len(whole), key)
			}
		}
		shut(t, st)
	}
}

// When a node is lost there are very many at once, and their bodies are on disk already.
func TestASessionThatIsPromotedIsNotWrittenAgainAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := Peer{"b", 5}
		st := journalled(t, dir, "f", 1, often)
		keys := []string{"idle", "written", "deleted", "locked", "given", "ended"}
		for _, key := range keys {
			timeout, left := int32(20), 10*time.Minute
			if key == "ended" {
				timeout, left = 1, time.Minute
			}
			st.Keep(b, ParcelCopy, Record{Key: key, Stamp: 5, Timeout: timeout, Left: left, Cookie: 7, Body: make([]byte, 2048)})
		}
		time.Sleep(2 * often)
		before, _ := st.Journal()
		for _, key := range keys {
			backup, _ := st.BackupOf(key)
			if !st.PromoteBackup(backup) {
				t.Fatal("not promoted")
			}
		}
		if j, _ := st.Journal(); j.Unsynced != 0 {
			t.Errorf("%d bytes are to be written", j.Unsynced)
		}
		req(st, Put, "written", NoCookie, "fuller")
		req(st, Delete, "deleted", NoCookie, "")
		lock := req(st, Acquire, "locked", NoCookie, "")
		st.Asked(t.Context(), b, Question{Key: "given", Want: Move}).Handover.Received()
		time.Sleep(3 * often)
		if j, _ := st.Journal(); j.Live > before.Live {
			t.Errorf("%d bytes live, were %d: something stands there twice", j.Live, before.Live)
		}
		crashed := t.TempDir()
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(sweepRound + time.Second + 3*often)
		for _, key := range []string{"idle", "written", "locked"} {
			if s, ok := st.entry(key); !ok || s.saved <= 0 {
				t.Errorf("%s: %+v is not written as a session", key, s)
			}
		}
		time.Sleep(3 * time.Minute)
		if _, ok := st.entry("ended"); ok {
			t.Error("a session has not ended")
		}
		shut(t, st)

		st = journalled(t, crashed, "f", 2, often)
		for key, holder := range map[string]string{"idle": "b", "written": "a", "locked": "a", "given": "b"} {
			if got, ok := st.BackupOf(key); !ok || got.Holder.Node != holder {
				t.Errorf("after a crash %s is of %+v, %v", key, got.Holder, ok)
			}
		}
		if got, ok := st.BackupOf("deleted"); ok {
			t.Errorf("after a crash what was deleted is %+v", got)
		}
		locked, _ := st.BackupOf("locked")
		st.PromoteBackup(locked)
		if got := req(st, Get, "locked", NoCookie, ""); got.Status != Locked || got.Cookie != lock.Cookie {
			t.Errorf("the lock of cookie %d is %+v", lock.Cookie, got)
		}
		shut(t, st)
		st = journalled(t, dir, "f", 3, often)
		if j, _ := st.Journal(); j.Keys != 5 || st.Stats().Recalled != 3 || st.Stats().Backups != 4 {
			t.Errorf("%+v, %+v", j, st.Stats())
		}
		shut(t, st)
	})
}

// size is how many bytes the journal has when all is written.
func (st *Store) size(t *testing.T) int64 {
	t.Helper()
	for range 1000 {
		j, _ := st.Journal()
		if j.Unsynced == 0 {
			return j.Bytes
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it is not written")
	return 0
}

// What is in the journal under one name comes to stand under another: there is no moment at which it is under none. With
// "always" the disk is written while it happens.
func TestNoCrashLosesASessionThatComesOrGoes(t *testing.T) {
	b, c := Peer{"b", 5}, Peer{"c", 6}
	var keys []string
	for i := range 40 {
		keys = append(keys, fmt.Sprint("key", i))
	}
	record := func(key string, epoch uint64) Record {
		return Record{Key: key, Stamp: 5, Epoch: epoch, Timeout: 20, Left: time.Minute, Cookie: 1, Body: []byte("cart")}
	}
	keep := func(st *Store) {
		for _, key := range keys {
			st.Keep(b, ParcelCopy, record(key, 1))
		}
	}
	hold := func(st *Store) {
		for _, key := range keys {
			req(st, Put, key, NoCookie, "cart")
		}
	}
	for what, tt := range map[string]struct {
		before func(st *Store)
		again  bool // the node is started anew between
		do     func(st *Store, key string)
	}{
		"promoted": {before: keep, do: func(st *Store, key string) {
			backup, _ := st.BackupOf(key)
			if !st.PromoteBackup(backup) {
				t.Error("not promoted")
			}
		}},
		"promoted and written": {before: keep, do: func(st *Store, key string) {
			backup, _ := st.BackupOf(key)
			st.PromoteBackup(backup)
			mustBe(t, "put", req(st, Put, key, NoCookie, "fuller cart"), OK, "")
		}},
		"promoted and given away": {before: keep, do: func(st *Store, key string) {
			backup, _ := st.BackupOf(key)
			st.PromoteBackup(backup)
			st.Asked(t.Context(), c, Question{Key: key, Want: Move}).Handover.Received()
		}},
		"promoted after a restart": {before: hold, again: true, do: func(st *Store, key string) {
			backup, _ := st.BackupOf(key)
			if !st.PromoteBackup(backup) {
				t.Error("not promoted")
			}
		}},
		"received": {before: keep, do: func(st *Store, key string) {
			if got := st.Receive(c, HandoverID{6, st.handovers.Add(1)}, record(key, 2)); !got.Accepted {
				t.Errorf("%+v", got)
			}
		}},
		"held by another node since": {before: hold, again: true, do: func(st *Store, key string) {
			was, _ := st.BackupOf(key)
			newer := record(key, 1)
			newer.Stamp = was.Version.Stamp + 1
			if got := st.Keep(b, ParcelCopy, newer); got != KeepDone {
				t.Error(got)
			}
		}},
		"given away": {before: hold, do: func(st *Store, key string) {
			st.Asked(t.Context(), c, Question{Key: key, Want: Move}).Handover.Received()
		}},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			st := journalled(t, dir, "f", 1, 0)
			tt.before(st)
			from, before := st.size(t), t.TempDir()
			if tt.again {
				shut(t, st)
				from = 0 // what follows is in a file of its own
			}
			if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if tt.again {
				st = journalled(t, dir, "f", 2, 0)
			}
			for _, key := range keys {
				tt.do(st, key)
			}
			st.size(t)
			st.Close()
			if err := st.CloseJournal(); err != nil {
				t.Fatal(err)
			}
			cutAnywhere(t, before, dir, from, keys)
		})
	}
}
