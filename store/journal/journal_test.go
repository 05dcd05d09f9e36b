package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatWasSetIsLoadedAndWhatWasDeletedIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		j, _ := start(t, d, options())
		large := strings.Repeat("large", 1<<18)
		j.Set("a", []byte("head "), []byte("first"))
		mustWait(t, j, j.Set("b", nil, []byte(large)))
		j.Set("a", []byte("head "), []byte("second"))
		j.Set("", nil, nil)
		j.Delete("b")
		j.Set("b", []byte("again"), nil)
		j.Set("c", nil, []byte("gone"))
		mustWait(t, j, j.Set("d", nil, []byte("gone")))
		j.Delete("c")
		j.Delete("d")
		stop(t, j)
		audit(t, j, d)
		j, all := start(t, d, options())
		defer stop(t, j)
		if want := map[string]string{"a": "head second", "b": "again", "": ""}; !maps.Equal(all, want) {
			t.Errorf("loaded %q, want %q", all, want)
		}
	})
}

func TestASessionWrittenTenTimesInAnIntervalIsWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		o := options()
		o.Every = 100 * time.Millisecond
		j, _ := start(t, d, o)
		defer stop(t, j)
		j.Set("first", nil, nil) // and the next batch is an interval later
		synctest.Wait()
		_, before, _ := d.figures()
		body := make([]byte, 1000)
		for range 10 {
			j.Set("key", nil, body)
		}
		record := int64(headerSize + len("key") + len(body))
		if s := j.Stats(); s.Unsynced != record {
			t.Errorf("%d bytes are not synced, want %d", s.Unsynced, record)
		}
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		if _, given, _ := d.figures(); given != before {
			t.Error("it was written before its time")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if _, given, _ := d.figures(); given != before+record {
			t.Errorf("%d bytes were written, want %d", given-before, record)
		}
		if s := j.Stats(); s.Unsynced != 0 || s.Keys != 2 {
			t.Errorf("stats %+v", s)
		}
		if all := load(t, d.powerCut(rand.New(rand.NewPCG(1, 1)))); all["key"] != string(body) {
			t.Error("it does not survive a power cut")
		}
	})
}

// load gives what a journal on the disk has.
func load(t testing.TB, d disk) map[string]string {
	t.Helper()
	j, all := start(t, d, options())
	stop(t, j)
	return all
}

func TestManyWhoWaitShareAFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		d.hang = 10 * time.Millisecond
		o := options()
		o.sizes = usual
		j, _ := start(t, d, o)
		defer stop(t, j)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if err := j.Wait(t.Context(), j.Set(fmt.Sprint(i), nil, []byte("x"))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if _, _, syncs := d.figures(); syncs > 2 {
			t.Errorf("200 at a time took %d forced writes", syncs)
		}
		if got := load(t, d.powerCut(rand.New(rand.NewPCG(1, 1)))); len(got) != 200 {
			t.Errorf("%d of 200 survive a power cut", len(got))
		}
	})
}

func TestNobodyWaitsForADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		d.hang = time.Hour
		j, _ := start(t, d, options())
		begin := time.Now()
		for i := range 10_000 {
			j.Set(fmt.Sprint(i%100), nil, make([]byte, 100))
			j.Delete("x")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := j.Wait(ctx, j.Set("key", nil, nil)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that the time is over", err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("it took %v, want the minute of the one who waited", took)
		}
		// The memory of what waits is bounded by the number of keys, and shown.
		if s := j.Stats(); s.Unsynced > 2*101*200 {
			t.Errorf("%d bytes wait", s.Unsynced)
		}
		d.set(func() { d.hang = 0 })
		stop(t, j)
	})
}

// A round that is under way when the journal is closed, and fails, is not the last one.
func TestCloseWritesWhatWaitsAlthoughARoundFailsJustThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		j, _ := start(t, d, options())
		closed := make(chan error)
		var once sync.Once
		d.set(func() {
			d.fail = func(string, string) (err error) {
				once.Do(func() {
					go func() { closed <- j.Close() }()
					for !j.closing.Load() {
						runtime.Gosched()
					}
					err = errors.New("the disk fails")
				})
				return err
			}
		})
		j.Set("key", nil, []byte("value"))
		if err := <-closed; err != nil {
			t.Error(err)
		}
		d.set(func() { d.fail = nil })
		if got := load(t, d); got["key"] != "value" {
			t.Errorf("on disk: %q", got)
		}
	})
}

func TestWhatIsTooLargeIsRefusedAndOldValuesDoNotStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		j, _ := start(t, d, options())
		mustWait(t, j, j.Set("key", nil, []byte("old")))
		long := strings.Repeat("k", maxKey)
		mustWait(t, j, j.Set(long, nil, nil))
		if err := j.Wait(t.Context(), j.Set(long+"k", nil, nil)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("error %v for a long key", err)
		}
		stop(t, j)
		if all := load(t, d); len(all) != 2 {
			t.Errorf("%d keys", len(all))
		}
	})
}

func TestAfterCloseNothingIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		j, _ := start(t, d, options())
		mark := j.Set("a", nil, nil)
		stop(t, j)
		mustWait(t, j, mark)
		if err := j.Wait(t.Context(), j.Set("b", nil, nil)); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
		if all := load(t, d); len(all) != 1 || d.opened != 0 {
			t.Errorf("%d keys, %d files open", len(all), d.opened)
		}
	})
}

func TestTheDiskHoldsAtMostThreeTimesWhatIsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		r := rand.New(rand.NewPCG(1, 2))
		o := options()
		o.Every = 10 * time.Millisecond
		j, _ := start(t, d, o)
		var given int64
		others := int64(len(j.w.identity.encode()) + len(d.files[runsFile].data))
		look := func(what string) {
			t.Helper()
			s := j.Stats()
			if limit := 3*s.Live + 2*small.slack; s.Bytes > limit {
				t.Errorf("%s: %d bytes on disk, %d live", what, s.Bytes, s.Live)
			}
			if used, _, _ := d.figures(); s.Bytes != used-others {
				t.Errorf("%s: stats say %d bytes, there are %d", what, s.Bytes, used)
			}
		}
		for range 2000 {
			for range 50 {
				body := make([]byte, r.IntN(500))
				given += headerSize + 8 + int64(len(body))
				j.Set(fmt.Sprintf("%08d", r.IntN(2000)), nil, body)
			}
			time.Sleep(o.Every)
			synctest.Wait()
			look("rewritten")
		}
		_, written, _ := d.figures()
		t.Logf("write amplification %.2f", float64(written)/float64(given))
		if written > 3*given {
			t.Errorf("%d bytes were written for %d", written, given)
		}
		for i, key := range r.Perm(2000) {
			j.Delete(fmt.Sprintf("%08d", key))
			if i%10 == 0 {
				time.Sleep(o.Every)
				synctest.Wait()
				look("expired")
			}
		}
		stop(t, j)
		audit(t, j, d)
		if s := j.Stats(); s.Live != 0 || s.Keys != 0 {
			t.Errorf("after all are deleted: %+v", s)
		}
	})
}

func TestAnIdleJournalSaysThatItIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		j, _ := start(t, d, options())
		j.Set("key", nil, []byte("kept"))
		time.Sleep(40 * 24 * time.Hour)
		synctest.Wait()
		d = d.kill()
		stop(t, j)
		time.Sleep(29 * 24 * time.Hour)
		j, all := start(t, d, options())
		if all["key"] != "kept" {
			t.Errorf("loaded %q", all)
		}
		time.Sleep(time.Minute) // in which it is noted that somebody has loaded it
		d = d.kill()
		stop(t, j)
		time.Sleep(29 * 24 * time.Hour)
		if all := load(t, d); all["key"] != "kept" {
			t.Errorf("loaded %q the second time", all)
		}
	})
}

func TestAJournalSaysWhenItWasWrittenLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		written := func(want time.Time) *Journal {
			t.Helper()
			j, _ := start(t, d, options())
			if got := j.Stats().Loaded.Written; got.Sub(want).Abs() > time.Microsecond {
				t.Errorf("written at %v, want %v", got, want)
			}
			return j
		}
		j := written(time.Time{})
		mustWait(t, j, j.Set("key", nil, []byte("kept")))
		set := time.Now()
		time.Sleep(10 * time.Minute)
		killed := d.kill()
		stop(t, j)
		stopped := time.Now()
		time.Sleep(10 * time.Minute)
		stop(t, written(stopped))
		d = killed
		j = written(set)
		j.Delete("key")
		stop(t, j)
		stop(t, written(time.Time{})) // there is nothing in it
	})
}

func TestAJournalOlderThanThirtyDaysIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		j, _ := start(t, d, options())
		j.Set("key", nil, []byte("old"))
		stop(t, j)
		time.Sleep(30*24*time.Hour + time.Second)
		said := &spoken{}
		o := options()
		o.Log = said.log()
		j, all := start(t, d, o)
		if len(all) != 0 || len(j.Stats().Loaded.SetAside) != 1 || !said.has("more than 30 days ago") {
			t.Errorf("loaded %q, %+v, said %s", all, j.Stats(), said.text.String())
		}
		j.Set("key", nil, []byte("new"))
		stop(t, j)
		if all := load(t, d); all["key"] != "new" || len(all) != 1 {
			t.Errorf("loaded %q", all)
		}
		for range 5 { // only a few of them are kept
			time.Sleep(31 * 24 * time.Hour)
			j, _ := start(t, d, options())
			j.Set("key", nil, []byte("old"))
			stop(t, j)
		}
		dirs := 0
		for name := range d.files {
			if strings.HasPrefix(name, asideHead) && !strings.Contains(name, "/") {
				dirs++
			}
		}
		if dirs != asides {
			t.Errorf("%d set-aside directories, want %d", dirs, asides)
		}
	})
}

func TestWhatTheCallerDoesNotUnderstandIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		j, _ := start(t, d, options())
		j.Set("good", nil, []byte("good"))
		j.Set("bad", nil, []byte("bad"))
		stop(t, j)
		j, err := open(d, withLog(t, options()), func(key string, value []byte) error {
			if key == "bad" {
				return errors.New("no such record")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if l := j.Stats().Loaded; l.Records != 2 || l.Rejected != 1 {
			t.Errorf("loaded %+v", l)
		}
		stop(t, j)
		if all := load(t, d); len(all) != 1 {
			t.Errorf("loaded %q", all)
		}
	})
}

func withLog(t testing.TB, o Options) Options {
	o.Log = testLog(t, o.Log)
	return o
}

func TestWhatTheDiskLosesWhileWeRunIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		o := options()
		o.sizes.slack = 0
		var j *Journal
		asked := map[string]int{}
		var mu sync.Mutex
		ready := make(chan struct{})
		o.Lost = func(key string) {
			<-ready
			mu.Lock()
			asked[key]++
			mu.Unlock()
			j.Set(key, nil, []byte("from memory "+key))
		}
		j, _ = start(t, d, o)
		close(ready)
		for i := range 20 {
			mustWait(t, j, j.Set(fmt.Sprint("kept", i), nil, make([]byte, 100)))
			mustWait(t, j, j.Set("other", nil, make([]byte, 500)))
		}
		d.set(func() {
			for name, c := range d.files {
				if _, ok := segmentID(name); ok {
					at := bytes.Index(c.data, []byte("kept7"))
					if at >= 0 {
						c.data[at+50] ^= 4
					}
				}
			}
		})
		for i := range 20 { // until the rest of that segment is worth being moved
			if i != 7 {
				mustWait(t, j, j.Delete(fmt.Sprint("kept", i)))
			}
		}
		for range 100 {
			mustWait(t, j, j.Set("other", nil, make([]byte, 500)))
		}
		d = d.kill()
		stop(t, j)
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != 1 || asked["kept7"] != 1 {
			t.Errorf("asked for %v", asked)
		}
		if all := load(t, d); all["kept7"] != "from memory kept7" || len(all) != 2 {
			t.Errorf("loaded %d, %q", len(all), all["kept7"])
		}
	})
}

// A deletion that the disk loses is written again, as long as an older value is on disk: else that would be back after a restart.
func TestADeletionThatTheDiskLosesIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		o := options()
		o.sizes.slack = 0
		j, _ := start(t, d, o)
		mustWait(t, j, j.Set("gone", nil, make([]byte, 100)))
		mustWait(t, j, j.Set("kept", nil, make([]byte, 2<<10))) // fills the first file, which nothing is moved out of
		mustWait(t, j, j.Delete("gone"))
		damaged := 0
		d.set(func() {
			for _, c := range d.files {
				if at := bytes.Index(c.data, appendRecord(nil, 0, deletionKind, 0, "gone", nil, nil)[:4]); at >= 0 {
					c.data[at+headerSize] ^= 4
					damaged++
				}
			}
		})
		if damaged != 1 {
			t.Fatalf("%d deletions found", damaged)
		}
		for range 100 {
			mustWait(t, j, j.Set("other", nil, make([]byte, 500)))
		}
		d = d.kill()
		stop(t, j)
		if all := load(t, d); len(all) != 2 {
			t.Errorf("loaded %d, %v", len(all), slices.Sorted(maps.Keys(all)))
		}
	})
}
