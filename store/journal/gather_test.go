package journal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Many change their keys at the same moment, values move from one key to another, and the disk fails every now and then. At
// no time is less promised than is on disk, and at the end all is there as it was changed last.
func TestNothingIsMixedUpWhereManyChangeAndTheDiskFailsNowAndThen(t *testing.T) {
	for _, every := range []time.Duration{0, 10 * time.Millisecond} {
		for seed := range uint64(10) {
			t.Run(fmt.Sprint(every, "/", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { changeAtOnce(t, every, seed) })
			})
		}
	}
}

func changeAtOnce(t *testing.T, every time.Duration, seed uint64) {
	d := newMemory()
	o := options()
	o.Every, o.Log = every, new(spoken).log()
	j, _ := start(t, d, o)
	failures := rand.New(rand.NewPCG(seed, 1))
	d.set(func() {
		d.hang = time.Millisecond
		d.fail = func(op, _ string) error { // one at a time: the disk is locked
			if op == "sync" && failures.IntN(10) == 0 || failures.IntN(200) == 0 {
				return errors.New("failed")
			}
			return nil
		}
	})
	var mu sync.Mutex
	want := map[string]string{}
	var all sync.WaitGroup
	for visitor := range 16 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(visitor)))
			own, places := map[string]string{}, map[string]*Place{}
			for n := range 400 {
				key := fmt.Sprint(visitor, "-", r.IntN(12))
				other := "other" + key
				value := fmt.Sprint("value ", n)
				switch r.IntN(8) {
				case 0:
					j.Delete(key)
					delete(own, key)
				case 1: // it moves
					m := j.Set(other, nil, []byte(value))
					j.DeleteAfter(m, key)
					delete(own, key)
					own[other] = value
				case 2:
					m := j.Set(key, []byte(value), nil)
					j.SetAfter(m, other, nil, []byte("was "+value))
					own[key], own[other] = value, "was "+value
				case 3:
					m := j.Set(key, nil, []byte(value))
					own[key] = value
					if j.Wait(t.Context(), m) == nil && r.IntN(50) == 0 {
						if got := load(t, d.powerCut(r)); got[key] != value {
							t.Errorf("%q is on disk by its word, and %q after a power cut", value, got[key])
						}
					}
				default:
					if places[key] == nil {
						places[key] = new(Place)
					}
					j.SetAt(places[key], key, nil, []byte(value))
					own[key] = value
				}
				if r.IntN(10) == 0 {
					time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(want, own)
		})
	}
	all.Wait()
	d.set(func() { d.fail = nil })
	time.Sleep(2 * longPause)
	if s := j.Stats(); s.Unsynced != 0 || s.Failure != nil || s.Keys != len(want) || j.laters.Load() != 0 {
		t.Errorf("%+v; want %d keys; %d changes wait for others", s, len(want), j.laters.Load())
	}
	stop(t, j)
	got := load(t, d)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s: %q, want %q", key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
}
