package store

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func (v *saved) head() []byte { return v.appendHead(nil) }

func drawSaved(t *rapid.T) saved {
	peers := rapid.Custom(func(t *rapid.T) Peer {
		return Peer{rapid.StringMatching(`[a-z][a-z0-9.-]{0,62}`).Draw(t, "node"), rapid.Uint64().Draw(t, "run")}
	})
	stamp := rapid.Uint64Range(2, uint64(maxStamp))
	times := rapid.Int64Range(1, most63)
	v := saved{kind: savedKind(rapid.IntRange(1, 4).Draw(t, "kind")), stamp: Stamp(stamp.Draw(t, "stamp")),
		expires: times.Draw(t, "expires")}
	switch v.kind {
	case savedDeleted:
		v.timeout = rapid.Int32Range(0, MaxTimeout).Draw(t, "timeout")
		return v
	case savedMoved:
		v.who = peers.Draw(t, "to")
		v.deleted, v.epoch, v.flags = Stamp(stamp.Draw(t, "deleted")), rapid.Uint64Range(0, 1<<62).Draw(t, "epoch"), rapid.Int32().Draw(t, "flags")
		return v
	}
	v.deleted = Stamp(rapid.Uint64Range(0, uint64(v.stamp)-1).Draw(t, "deleted"))
	v.epoch, v.flags = rapid.Uint64Range(0, 1<<62).Draw(t, "epoch"), rapid.Int32().Draw(t, "flags")
	if v.timeout = rapid.Int32Range(0, MaxTimeout).Draw(t, "timeout"); v.timeout == 0 {
		v.expires = 0
	}
	v.cookie = rapid.Int32Range(1, most31).Draw(t, "cookie")
	v.floor, v.touched = rapid.Int32Range(0, v.cookie).Draw(t, "floor"), rapid.Bool().Draw(t, "touched")
	if v.lock = rapid.Int32Range(0, v.cookie).Draw(t, "lock"); v.lock != 0 {
		v.lockedAt = times.Draw(t, "locked at")
	}
	v.who = peers.Draw(t, "who")
	v.places = rapid.SliceOfN(peers, 0, mostPlaces).Draw(t, "places")
	v.body = rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body")
	return v
}

func TestWhatIsReadFromTheJournalIsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawSaved(t)
		head := v.head()
		got, err := readSaved(append(head, v.body...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v, got, cmp.AllowUnexported(saved{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		// A part of it is never taken for all of it: only the body has no end of its own.
		if n := rapid.IntRange(0, len(head)-1).Draw(t, "cut"); n < len(head) {
			if cut, err := readSaved(head[:n:n]); err == nil {
				t.Fatalf("%d of %d bytes were read as %+v", n, len(head), cut)
			}
		}
	})
}

func TestANameInTheJournalIsOfOneKeyOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 2, 'a', 'b'}), 1, 5, -1).Draw(t, "key")
		for _, backup := range []bool{false, true} {
			name := savedSession(key)
			if backup {
				name = savedBackupOf(key)
			}
			if k, b, ok := keyOfSaved(name); k != key || b != backup || !ok {
				t.Fatalf("%q (backup: %v) is written as %q and read as %q, %v, %v", key, backup, name, k, b, ok)
			}
		}
	})
	for _, name := range []string{"", "\x00", "\x01", "\x01a"} {
		if key, _, ok := keyOfSaved(name); ok {
			t.Errorf("%q is the name of %q", name, key)
		}
	}
}

func TestARecordOfANewerVersionIsNotUnderstood(t *testing.T) {
	v := saved{kind: savedDeleted, stamp: 1, timeout: 20, expires: 1}
	data := v.head()
	data[0]++
	if _, err := readSaved(data); !errors.Is(err, errSavedVersion) {
		t.Errorf("it was read, with error %v", err)
	}
}

func FuzzARecordOfTheJournal(f *testing.F) {
	for _, v := range []saved{
		{kind: savedDeleted, stamp: 7, timeout: 20, expires: 9},
		{kind: savedMoved, stamp: 7, epoch: 2, expires: 9, who: Peer{"b", 3}},
		{kind: savedHeld, stamp: 7, timeout: 20, expires: 9, cookie: 5, lock: 4, lockedAt: 8, who: Peer{"a", 1}, places: []Peer{{"b", 2}}, body: []byte("cart")},
		{kind: savedBackup, stamp: 7, cookie: 1, who: Peer{"a", 1}, body: []byte("cart")},
	} {
		f.Add(append(v.head(), v.body...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := readSaved(data)
		if err != nil {
			return
		}
		again, err := readSaved(append(v.head(), v.body...))
		if err != nil {
			t.Fatalf("%+v was read, and is not understood when it is written again: %v", v, err)
		}
		if !bytes.Equal(again.head(), v.head()) || !bytes.Equal(again.body, v.body) {
			t.Fatalf("%+v becomes %+v", v, again)
		}
	})
}
