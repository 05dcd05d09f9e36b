package store

import (
	"cmp"
	"slices"
)

// Large is a session of which an operator may want to know.
type Large struct {
	Hash  string // KeyHash of its key
	Bytes int64  // of its key and its contents
}

// Largest gives the n largest sessions that this node holds, n being at least 1, the largest first. It looks at those shards only that can
// have one of them: some n of them, each for a fraction of a millisecond with a million sessions.
func (st *Store) Largest(n int) []Large {
	order := make([]int, len(st.shards))
	bounds := make([]int64, len(st.shards))
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		order[i], bounds[i] = i, sh.largest
		sh.mu.Unlock()
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(bounds[b], bounds[a]) })
	type found struct {
		key   string
		bytes int64
	}
	var most []found // at most n, the largest first
	for _, i := range order {
		if len(most) == n && bounds[i] <= most[n-1].bytes {
			break
		}
		sh := &st.shards[i]
		sh.mu.Lock()
		for _, s := range sh.sessions {
			size := s.size()
			if s.state != held && s.state != frozen || len(most) == n && size <= most[n-1].bytes {
				continue
			}
			at, _ := slices.BinarySearchFunc(most, size, func(f found, size int64) int { return cmp.Compare(size, f.bytes) })
			most = slices.Insert(most, at, found{s.key, size})
			most = most[:min(len(most), n)]
		}
		sh.mu.Unlock()
	}
	out := make([]Large, len(most))
	for i, f := range most {
		out[i] = Large{KeyHash(f.key), f.bytes}
	}
	return out
}

// size is what counts as a session's bytes.
func (s *session) size() int64 { return int64(len(s.key) + len(s.body)) }
