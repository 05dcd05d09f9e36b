package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// few is a disk with a small journal in one file of records, whose name is given.
func few(t *testing.T) (*memory, string, map[string]string) {
	t.Helper()
	d := newMemory()
	j, _ := start(t, d, options())
	for i := range 5 {
		j.Set(fmt.Sprint("key", i), []byte("head"), bytes.Repeat([]byte{byte(i)}, 20*i))
		mustWait(t, j, j.Set("gone", nil, []byte("x")))
	}
	mustWait(t, j, j.Delete("gone"))
	d = d.kill()
	stop(t, j)
	for name := range d.files {
		if _, ok := segmentID(name); ok {
			return d, name, load(t, d.kill())
		}
	}
	t.Fatal("no file of records")
	return nil, "", nil
}

func TestAFileCutAnywhereGivesWhatIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, name, want := few(t)
		whole := d.files[name].data
		o := options()
		o.Log = new(spoken).log()
		last := -1
		for n := range len(whole) + 1 {
			cut := d.kill()
			cut.files[name].data = whole[:n:n]
			j, all := start(t, cut, o)
			for key, value := range all {
				if key != "gone" && value != want[key] {
					t.Fatalf("cut at %d: %q is not what was written", n, key)
				}
			}
			delete(all, "gone")
			if len(all) < last {
				t.Fatalf("cut at %d: %d keys, but %d with a byte less", n, len(all), last)
			}
			last = len(all)
			if j.Stats().Loaded.Damaged > 0 {
				t.Fatalf("cut at %d: called damage", n)
			}
			mustWait(t, j, j.Set("new", nil, nil))
			stop(t, j)
			audit(t, j, cut)
			j, again := start(t, cut, o)
			stop(t, j)
			if len(again) < len(all)+1 || j.Stats().Loaded.Damaged > 0 {
				t.Fatalf("cut at %d: %d of %d keys the second time, %+v", n, len(again), len(all)+1, j.Stats().Loaded)
			}
		}
		if last != len(want) {
			t.Errorf("%d of %d keys in the whole file", last, len(want))
		}
	})
}

// The run after the crash may end before it has written anything, as when its port is in use.
func TestWhatACrashHasTornIsNoDamageAfterARunThatEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, name, _ := few(t)
		for n := 1; n < len(d.files[name].data); n++ {
			cut := d.kill()
			cut.files[name].data = cut.files[name].data[:n]
			j, _ := start(t, cut, options())
			stop(t, j)
			audit(t, j, cut)
			j, _ = start(t, cut, options())
			stop(t, j)
			if l := j.Stats().Loaded; l.Damaged > 0 || l.Places > 0 {
				t.Errorf("cut at %d: %+v", n, l)
			}
		}
	})
}

func TestAFlippedBitCostsAtMostTheRecordItIsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, records, want := few(t)
		o := options()
		for _, name := range []string{records, identityFile} {
			for bit := range 8 * len(d.files[name].data) {
				said := &spoken{}
				o.Log = said.log()
				flipped := d.kill()
				flipped.files[name].data[bit/8] ^= 1 << (bit % 8)
				j, all := start(t, flipped, o)
				l := j.Stats().Loaded
				delete(all, "gone") // an older value, if the newest is hit
				lost := len(want) - len(all)
				if lost > 1 || lost == 1 && name == identityFile {
					t.Fatalf("%s, bit %d: %d keys are lost", name, bit, lost)
				}
				for key, value := range all {
					if value != want[key] {
						t.Fatalf("%s, bit %d: %q is not what was written", name, bit, key)
					}
				}
				if l.Damaged+l.Torn == 0 && name == records || !said.has("ERROR") && l.Torn == 0 {
					t.Fatalf("%s, bit %d: nobody has noticed: %+v", name, bit, l)
				}
				if l.Damaged == 0 {
					stop(t, j)
					continue
				}
				time.Sleep(time.Second) // in which the file is set aside
				stop(t, j)
				if flipped.files[name] != nil || !said.has("set aside") {
					t.Fatalf("%s, bit %d: it is not set aside", name, bit)
				}
				j, again := start(t, flipped, o)
				stop(t, j)
				if delete(again, "gone"); !maps.Equal(again, all) || j.Stats().Loaded.Damaged > 0 {
					t.Fatalf("%s, bit %d: %d keys after it was saved, %d before", name, bit, len(again), len(all))
				}
			}
		}
	})
}

func TestABodyIsNeverTakenForARecord(t *testing.T) {
	// What a page stores may be a copy of a file of records, and the record around it may be damaged.
	synctest.Test(t, func(t *testing.T) {
		d, name, _ := few(t)
		stolen := d.files[name].data
		d = newMemory()
		j, _ := start(t, d, options())
		mustWait(t, j, j.Set("page", nil, stolen))
		stop(t, j)
		hit := 0
		for name, c := range d.files {
			if at := bytes.Index(c.data, stolen); at >= 0 && name != identityFile {
				c.data[at-len("page")-headerSize+5] ^= 1
				hit++
			}
		}
		if all := load(t, d); len(all) != 0 || hit != 1 {
			t.Errorf("%d records out of a body", len(all))
		}
	})
}

func TestAJournalThatDoesNotSayWhoseItIsIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, name, _ := few(t)
		delete(d.files, identityFile)
		d.files[name].data[40] ^= 1 // in the head
		j, all := start(t, d, options())
		if l := j.Stats().Loaded; len(all) != 0 || len(l.SetAside) != 1 || d.files[l.SetAside[0]+"/"+name] == nil {
			t.Errorf("loaded %d, %+v", len(all), l)
		}
		mustWait(t, j, j.Set("new", nil, nil))
		stop(t, j)
		if all := load(t, d); len(all) != 1 {
			t.Errorf("loaded %q", all)
		}
	})
}

func TestTheJournalOfAnotherNodeOrANewerVersionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, name, _ := few(t)
		refused := func(d *memory, o Options, want error, says string) {
			t.Helper()
			before := d.kill()
			_, err := open(d, withLog(t, o), func(string, []byte) error { return nil })
			if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
				t.Errorf("error %v, want %v with %q", err, want, says)
			}
			if !maps.EqualFunc(before.files, d.files, func(a, b *content) bool { return bytes.Equal(a.data, b.data) }) {
				t.Error("something was changed")
			}
		}
		o := options()
		o.Node = "web2"
		refused(d, o, ErrForeign, `of node "web1" in farm "farm", and this is node "web2"`)
		o = options()
		o.Farm = "other"
		refused(d, o, ErrForeign, `in farm "other"`)
		// A file that was copied here.
		other := newMemory()
		j, _ := start(t, other, o)
		stop(t, j)
		mixed := d.kill()
		mixed.files[identityFile] = &content{data: j.w.identity.encode()}
		refused(mixed, o, ErrForeign, name)
		// Without the identity file the files of records say it.
		bare := d.kill()
		delete(bare.files, identityFile)
		refused(bare, o, ErrForeign, "another node")
		newer := d.kill()
		id, ok := decodeIdentity(newer.files[identityFile].data)
		if !ok {
			t.Fatal("no identity")
		}
		id.Format++
		newer.files[identityFile].data = id.encode()
		refused(newer, options(), ErrNewer, "format 2, this one knows up to 1")
	})
}

func TestADiskThatIsFullComesBackByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		said := &spoken{}
		o := options()
		o.Log = said.log()
		j, _ := start(t, d, o)
		for i := range 20 {
			mustWait(t, j, j.Set(fmt.Sprint("key", i), nil, bytes.Repeat([]byte("o"), 100)))
		}
		used, _, _ := d.figures()
		d.set(func() { d.limit = used + 150 })
		begin := time.Now()
		for i := range 20 {
			j.Set(fmt.Sprint("key", i), nil, bytes.Repeat([]byte("n"), 100))
		}
		err := j.Wait(t.Context(), j.Set("last", nil, nil))
		if !errors.Is(err, errFull) || time.Since(begin) > 0 {
			t.Errorf("error %v after %v, want at once that the disk is full", err, time.Since(begin))
		}
		time.Sleep(time.Minute)
		if err := j.Wait(t.Context(), j.Delete("key0")); !errors.Is(err, errFull) || time.Since(begin) > time.Minute {
			t.Errorf("error %v, %v later than at once", err, time.Since(begin)-time.Minute)
		}
		s := j.Stats()
		if !s.FailedSince.Equal(begin) || !errors.Is(s.Failure, errFull) || s.Unsynced < 20*100 || !said.has("do not get to disk") {
			t.Errorf("stats %+v", s)
		}
		if used, _, _ := d.figures(); used > d.limit {
			t.Errorf("%d bytes on a disk of %d", used, d.limit)
		}
		if all := load(t, d.kill()); len(all) < 20 {
			t.Errorf("while the disk is full %d of 20 keys are there", len(all))
		}
		d.set(func() { d.limit = 0 })
		time.Sleep(longPause)
		synctest.Wait()
		s = j.Stats()
		if s.Failure != nil || s.Unsynced != 0 || !said.has("get to disk again") {
			t.Errorf("stats %+v", s)
		}
		all := load(t, d.kill())
		stop(t, j)
		audit(t, j, d)
		for i := range 20 {
			if key := fmt.Sprint("key", i); i > 0 && all[key] != strings.Repeat("n", 100) {
				t.Errorf("%s is %q", key, all[key])
			}
		}
		if _, ok := all["key0"]; ok || len(all) != 20 {
			t.Errorf("%d keys", len(all))
		}
	})
}

// Visitors come and go while the disk is full, for days.
func TestWhatHasComeAndGoneWhileADiskIsFullTakesNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		o := options()
		o.Log = new(spoken).log()
		j, _ := start(t, d, o)
		mustWait(t, j, j.Set("old", nil, []byte("on disk")))
		used, _, _ := d.figures()
		d.set(func() { d.limit = used })
		j.Delete("old")
		for i := range 2000 {
			j.Set(fmt.Sprint("visitor", i), nil, []byte("cart"))
			if i%100 == 0 {
				time.Sleep(longPause)
			}
			j.Delete(fmt.Sprint("visitor", i))
			moved := j.Set("moved", nil, []byte("copy"))
			j.SetAfter(moved, "here", []byte("gone"), nil)
			j.DeleteAfter(moved, fmt.Sprint("copy", i%10))
			j.Delete("moved")
		}
		if n := len(j.later); n != 11 {
			t.Errorf("%d changes wait for others, want those of the 11 keys", n)
		}
		j.Set("here", nil, []byte("cart"))
		time.Sleep(2 * longPause)
		synctest.Wait()
		n := 0
		for i := range j.stripes {
			n += len(j.stripes[i].changes)
		}
		if n != 2 {
			t.Errorf("%d changes wait, want the deletion of what is on disk and the one that is here", n)
		}
		if s := j.Stats(); s.Unsynced != 2*headerSize+int64(len("old")+len("here")+len("cart")) {
			t.Errorf("%+v", s)
		}
		d.set(func() { d.limit = 0 })
		time.Sleep(longPause)
		stop(t, j)
		audit(t, j, d)
		if all := load(t, d); len(all) != 1 || all["here"] != "cart" {
			t.Errorf("loaded %q", all)
		}
	})
}

func TestAFullDiskIsNoReasonNotToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		full := func(op, _ string) error { return errFull }
		d.fail = full
		o := options()
		o.Log = new(spoken).log()
		j, _ := start(t, d, o)
		if err := j.Wait(t.Context(), j.Set("key", nil, nil)); !errors.Is(err, errFull) {
			t.Errorf("error %v", err)
		}
		d.set(func() { d.fail = nil })
		time.Sleep(longPause)
		stop(t, j)
		if all := load(t, d); len(all) != 1 {
			t.Errorf("loaded %q", all)
		}
	})
}

func TestClosingWithAFullDiskSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		o := options()
		o.Log = new(spoken).log()
		o.Every = time.Second
		j, _ := start(t, d, o)
		d.set(func() { d.fail = func(string, string) error { return errFull } })
		j.Set("key", nil, nil)
		if err := j.Close(); !errors.Is(err, errFull) {
			t.Errorf("error %v", err)
		}
	})
}

func TestOnAFullDiskTheJournalsOwnGarbageIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		o := options()
		o.Log = new(spoken).log()
		o.sizes = sizes{least: 1 << 10, most: 1 << 10, slack: 1 << 20}
		j, _ := start(t, d, o)
		mustWait(t, j, j.Set("other", nil, make([]byte, 100)))
		blocked := errors.New("not now")
		d.set(func() {
			d.fail = func(op, _ string) error {
				if op == "remove" { // so that nothing is tidied up before the disk is full
					return blocked
				}
				return nil
			}
		})
		for range 20 {
			mustWait(t, j, j.Set("key", nil, make([]byte, 1000)))
		}
		used, _, _ := d.figures()
		d.set(func() { d.limit, d.fail = used+10, nil })
		time.Sleep(tidyPause)
		if err := j.Wait(t.Context(), j.Set("key", nil, make([]byte, 2000))); err != nil {
			time.Sleep(longPause)
		}
		synctest.Wait()
		if s := j.Stats(); s.Unsynced != 0 || s.Failure != nil {
			t.Errorf("stats %+v", s)
		}
		stop(t, j)
		audit(t, j, d)
	})
}

func TestAFileThatCannotBeReadIsNoReasonNotToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, unreadable := range []string{identityFile, ""} {
			d, name, want := few(t)
			if unreadable == "" {
				unreadable, want = name, nil
			}
			d.fail = func(op, name string) error {
				if op == "read" && name == unreadable {
					return errors.New("input/output error")
				}
				return nil
			}
			said := &spoken{}
			o := options()
			o.Log = said.log()
			j, all := start(t, d, o)
			if !maps.Equal(all, want) || !said.has("cannot be read") {
				t.Errorf("loaded %d keys, want %d", len(all), len(want))
			}
			mustWait(t, j, j.Set("new", nil, nil))
			stop(t, j)
		}
	})
}
