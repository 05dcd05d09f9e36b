package store

import "time"

// What a store and its transport draw by chance depends on the number of the run, what it is for, and the moment,
// and on nothing else. The number is random, and so is all of it; but a test that gives a run its number sees
// the same again, in whatever order goroutines come to draw.

// draw gives a number by chance for something that is named.
func (st *Store) draw(what string, now instant) uint64 {
	z := uint64(14695981039346656037) // FNV-1a
	for i := range len(what) {
		z = (z ^ uint64(what[i])) * 1099511628211
	}
	z += st.instance + uint64(now.mono)*0x9e3779b97f4a7c15 // SplitMix64
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Jitter gives a time from half of d to one and a half, by chance, so that two who wait for each other part. what
// names what it is for: a key, an address.
func (st *Store) Jitter(what string, d time.Duration) time.Duration {
	return d/2 + time.Duration(st.draw(what, st.clock.now())%uint64(d))
}
