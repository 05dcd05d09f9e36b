package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// history is what a key may be found to have: the last value that was promised, or any that came later. "": deleted.
type history struct {
	may   []string
	place Place // also of an earlier run
}

// ledger is what those who use the journal know.
type ledger struct {
	keys map[string]*history
	next int
	lost Place // that any key is said to have
}

func (l *ledger) change(r *rand.Rand, j *Journal) (string, Mark) {
	key := fmt.Sprint("key", r.IntN(40))
	h := l.keys[key]
	if h == nil {
		h = &history{may: []string{""}}
		l.keys[key] = h
	}
	if r.IntN(4) == 0 {
		h.may = append(h.may, "")
		return key, j.Delete(key)
	}
	l.next++
	value := fmt.Sprintf("%d:%0*d", l.next, 1+r.IntN(300), 0)
	h.may = append(h.may, value)
	head, body := []byte(value[:1]), []byte(value[1:])
	switch r.IntN(4) {
	case 0:
		return key, j.Set(key, head, body)
	case 1:
		return key, j.SetAt(&l.lost, key, head, body)
	}
	return key, j.SetAt(&h.place, key, head, body)
}

// promised: all that was changed so far is on disk, or would be found now.
func (l *ledger) promised() {
	for _, h := range l.keys {
		h.may = h.may[len(h.may)-1:]
	}
}

func (l *ledger) check(t *testing.T, all map[string]string) {
	t.Helper()
	for key, h := range l.keys {
		if !slices.Contains(h.may, all[key]) {
			t.Fatalf("%q has %.20q, want one of %.20q", key, all[key], h.may)
		}
		h.may = []string{all[key]}
	}
	for key := range all {
		if l.keys[key] == nil {
			t.Fatalf("%q was never set", key)
		}
	}
}

// TestWhatWasPromisedSurvivesPowerCutsKillsAndErrors runs a journal through power cuts, kills, stops and errors of
// the disk, and checks after each start that every key has what was promised or something later.
func TestWhatWasPromisedSurvivesPowerCutsKillsAndErrors(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			errs := rand.New(rand.NewPCG(uint64(seed), 2))
			d := newMemory()
			l := &ledger{keys: map[string]*history{}}
			for range 8 {
				d = live(t, r, errs, d, l)
			}
		})
	}
}

// live is one start, with some work, and one end.
func live(t *testing.T, r, errs *rand.Rand, d *memory, l *ledger) *memory {
	after, stopped := ordeal{
		found: func(_ *Journal, all map[string]string) { l.check(t, all) },
		change: func(j *Journal) Mark {
			_, m := l.change(r, j)
			return m
		},
		promised: l.promised,
	}.run(t, r, errs, d)
	if stopped {
		l.promised()
	}
	return after
}

// ordeal is what is done to a journal between a start and an end, on a disk that fails now and then.
type ordeal struct {
	found    func(j *Journal, all map[string]string)
	change   func(j *Journal) Mark
	promised func() // all changes so far are on disk; nil: nobody needs to know
}

// run gives the disk as it is found after a power cut or a kill; or after a stop.
func (o ordeal) run(t *testing.T, r, errs *rand.Rand, d *memory) (after *memory, stopped bool) {
	options := options()
	options.Log = new(spoken).log()
	if r.IntN(2) == 0 {
		options.Every = 20 * time.Millisecond
	}
	j, all := start(t, d, options)
	o.found(j, all)
	faulty := r.IntN(3) == 0
	if faulty {
		chance := 1 + r.IntN(20)
		d.set(func() {
			d.fail = func(op, name string) error {
				if errs.IntN(chance) == 0 {
					return errors.New(op + " fails")
				}
				return nil
			}
		})
	}
	var last Mark // the highest: of two keys that change one after the other, the first may be written later
	for range r.IntN(60) {
		for range 1 + r.IntN(12) {
			last = max(last, o.change(j))
		}
		switch r.IntN(3) {
		case 0:
			err := j.Wait(t.Context(), last)
			if err != nil && !faulty {
				t.Fatal(err)
			}
			if err == nil && o.promised != nil {
				o.promised()
			}
		case 1:
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
		}
	}
	switch r.IntN(3) {
	case 0:
		after = d.powerCut(r)
	case 1:
		after = d.kill()
	}
	d.set(func() { d.fail = nil })
	stop(t, j)
	if after == nil {
		if !faulty {
			audit(t, j, d)
		}
		after, stopped = d.kill(), true
	}
	if s := j.Stats(); s.Unsynced != 0 || d.opened != 0 || len(j.later) != 0 {
		t.Fatalf("after the stop: %+v, %d files open, %d changes wait for others", s, d.opened, len(j.later))
	}
	return after, stopped
}
