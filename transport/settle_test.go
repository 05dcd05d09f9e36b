package transport

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// given gives keys some at a time, and tells whether all were taken.
func given(keys []string, some int, all *bool) func(func([]string) bool) {
	return func(f func([]string) bool) {
		for part := range slices.Chunk(keys, some) {
			if !f(part) {
				return
			}
		}
		*all = true
	}
}

func asItIs(key string) string { return key }

func TestManyKeysGoIntoFewFramesSomeAtATime(t *testing.T) {
	var keys []string
	for i := range 5000 {
		keys = append(keys, fmt.Sprintf("%04d%s", i, strings.Repeat("k", i%300)))
	}
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("%04d%s", 5000+i, strings.Repeat("k", maxKey-4)))
	}
	for _, some := range []int{1, 7, 128, 1000, len(keys)} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			now, most, pieces, whole := 0, 0, 0, false
			err := inFrames(given(keys, some, &whole), asItIs, func(piece []string) error {
				mu.Lock()
				got = append(got, piece...)
				pieces++
				now++
				most = max(most, now)
				size := 0
				for _, k := range piece {
					size += len(k)
				}
				if len(piece) == 0 || len(piece) > settleMost || size > settleBytes && len(piece) > 1 {
					t.Errorf("%d keys of %d bytes", len(piece), size)
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			})
			slices.Sort(got)
			if err != nil || !whole || !slices.Equal(got, keys) {
				t.Errorf("%d of %d keys, all taken: %v, %v", len(got), len(keys), whole, err)
			}
			if most != meetAtOnce || pieces > 90 {
				t.Errorf("%d pieces, %d at a time", pieces, most)
			}
		})
	}
}

func TestAfterAnErrorNoMoreFramesAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, whole, pieces := errors.New("the link is cut"), false, 0
		var mu sync.Mutex
		err := inFrames(given(make([]string, 100*settleMost), 50, &whole), asItIs, func([]string) error {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			pieces++
			return bad
		})
		if !errors.Is(err, bad) || whole || pieces > 2*meetAtOnce {
			t.Errorf("%v after %d pieces, all taken: %v", err, pieces, whole)
		}
	})
}
