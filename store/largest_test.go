package store

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTheLargestSessionsAreFound while sessions come, grow, shrink and go, and the sweeper passes by or does not.
func TestTheLargestSessionsAreFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := New(Options{Node: "a", Instance: 1})
		st.Close() // this test sweeps
		const n = 10
		sizes := map[string]int64{}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				key := fmt.Sprintf("session %02d", rapid.IntRange(0, 30).Draw(rt, "key"))
				body := make([]byte, rapid.IntRange(0, 40).Draw(rt, "size"))
				st.Try(&Request{Op: Put, Key: []byte(key), Cookie: NoCookie, Timeout: 20, Body: body})
				sizes[key] = int64(len(key) + len(body))
			},
			"delete": func(rt *rapid.T) {
				key := fmt.Sprintf("session %02d", rapid.IntRange(0, 30).Draw(rt, "key"))
				st.Try(&Request{Op: Delete, Key: []byte(key), Cookie: NoCookie})
				delete(sizes, key)
			},
			"sweep": func(*rapid.T) {
				for i := range st.shards {
					st.sweepShard(&st.shards[i])
				}
			},
			"": func(rt *rapid.T) {
				if err := checkIdle(st); err != nil {
					rt.Fatal(err)
				}
				var want []Large
				for key, size := range sizes {
					want = append(want, Large{KeyHash(key), size})
				}
				got := st.Largest(n)
				slices.SortFunc(want, func(a, b Large) int { return cmp.Compare(b.Bytes, a.Bytes) })
				if len(got) != min(n, len(want)) {
					rt.Fatalf("%d sessions given of %d", len(got), len(want))
				}
				for i, l := range got {
					if l.Bytes != want[i].Bytes || !slices.Contains(want, l) {
						rt.Fatalf("number %d is %+v, want one of %d bytes", i, l, want[i].Bytes)
					}
				}
			},
		})
	})
}

// BenchmarkTheLargestOfAMillion says how long a look at the largest sessions takes, of a million of all sizes up to 1 KB.
func BenchmarkTheLargestOfAMillion(b *testing.B) {
	st := New(Options{Node: "a"})
	defer st.Close()
	var key []byte
	all := body()
	for i := range 1_000_000 {
		key = sessionKey(key, i)
		st.Try(&Request{Op: Put, Key: key, Cookie: NoCookie, Timeout: 20, Body: all[:i%len(all)]})
	}
	for b.Loop() {
		st.Largest(10)
	}
}
