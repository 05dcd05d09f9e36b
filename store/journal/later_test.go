package journal

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// wanderer is a value that moves between two keys, and leaves a note, or nothing.
type wanderer struct {
	keys  [2]string
	at    int // which key it is under
	noted bool
	n     int
}

func (w *wanderer) value() []byte { return fmt.Appendf(nil, "value %d", w.n) }

func (w *wanderer) step(r *rand.Rand, j *Journal) Mark {
	if r.IntN(3) == 0 {
		w.n++
		return j.Set(w.keys[w.at], nil, w.value())
	}
	from := w.keys[w.at]
	w.at = 1 - w.at
	m := j.Set(w.keys[w.at], nil, w.value())
	if w.noted = r.IntN(2) == 0; w.noted {
		j.SetAfter(m, from, []byte("gone"), nil)
	} else {
		j.DeleteAfter(m, from)
	}
	return m
}

// check wants the value under one key at least, and after a stop just as it was.
func (w *wanderer) check(t *testing.T, all map[string]string, stopped bool) {
	t.Helper()
	here, other := all[w.keys[w.at]], all[w.keys[1-w.at]]
	if stopped && (here != string(w.value()) || (other == "gone") != w.noted || strings.HasPrefix(other, "value")) {
		t.Fatalf("after a stop there is %q at %s and %q at the other key, want %q, noted: %v", here, w.keys[w.at], other, w.value(), w.noted)
	}
	value := func(at int) bool { return strings.HasPrefix(all[w.keys[at]], "value") }
	if !value(0) && !value(1) {
		t.Fatalf("it is lost: %q", all)
	}
	// Of two that were found the newer one counts.
	newest := -1
	for at := range w.keys {
		n := 0
		if _, err := fmt.Sscanf(all[w.keys[at]], "value %d", &n); err == nil && n >= newest {
			newest, w.at = n, at
		}
	}
	w.n, w.noted = newest, all[w.keys[1-w.at]] == "gone"
}

func TestAValueThatMovesIsUnderOneOfItsKeysAtAnyTime(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			errs := rand.New(rand.NewPCG(uint64(seed), 2))
			d := newMemory()
			j, _ := start(t, d, options())
			var all []*wanderer
			for i := range 20 {
				w := &wanderer{keys: [2]string{fmt.Sprint("x", i), fmt.Sprint("y", i)}}
				all = append(all, w)
				j.Set(w.keys[0], nil, w.value())
			}
			stop(t, j)
			stopped := true
			o := ordeal{
				found: func(j *Journal, found map[string]string) {
					for _, w := range all {
						w.check(t, found, stopped)
						if other := w.keys[1-w.at]; strings.HasPrefix(found[other], "value") {
							j.Delete(other) // whoever finds both drops the older one
						}
					}
				},
				change: func(j *Journal) Mark { return all[r.IntN(len(all))].step(r, j) },
			}
			for range 8 {
				d, stopped = o.run(t, r, errs, d)
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

// A session that goes to and fro all the time is always waiting for its next copy to be on disk. Nobody has to wait for it.
func TestAChangeThatWaitsDoesNotKeepOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		o := options()
		o.Every = 10 * time.Millisecond
		j, _ := start(t, d, o)
		defer stop(t, j)
		j.Set("old", nil, []byte("cart"))
		mustWait(t, j, j.Set("restless", nil, []byte("cart")))
		d.set(func() { d.hang = 5 * time.Millisecond })
		goes := func() { j.SetAfter(j.Set("restless copy", nil, []byte("cart")), "restless", []byte("gone"), nil) }
		goes()
		j.DeleteAfter(j.Set("new", nil, []byte("cart")), "old")
		for range 20 { // two rounds, and the forcing of a third
			time.Sleep(2 * time.Millisecond)
			goes()
		}
		if all := load(t, d.powerCut(rand.New(rand.NewPCG(1, 1)))); all["old"] != "" || all["new"] != "cart" || all["restless"] != "cart" {
			t.Errorf("after 40 ms there is %q", all)
		}
	})
}
