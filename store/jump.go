package store

// Whoever becomes the holder of a session from a copy (a backup, the journal, one that was on its way) does not know of the
// locks that the last holder has given since that copy was made. So it raises the cookie counter, far enough that it gives none of
// their cookies again, and takes nothing any more that comes with one of them, once somebody has been there (session.stale).
//
// It may end as well before another copy has heard of that, and then the next one begins with the very same record: these two
// must not raise it alike. A run with a journal has a number, one more than the last run's, which is on disk before
// anything is served (journal.Options.Run). Of 256 runs in a row each raises cookies into a range of its own, of 131,072, and
// begins in the first half of it: so none gives a cookie that another one gave, unless one gives a session 65,536 locks of
// which none gets to disk. By the 257th run the first one's pages have ended. Nothing is written when a session is promoted.
//
// Runs without a journal have such a number by chance, and so have those of two nodes: where both begin with one
// record, two of their locks are alike once in 16 million times.
//
// The counter is a positive int32. Raised by 16 million on average, it starts again at the bottom after a hundred and more
// promotions of one session. What was given before is above it then, and so it is stale as well.

// jump is how far the cookie counter is raised.
func (st *Store) jump(key string, now instant) int32 {
	return 1<<16 + int32(st.run)<<17 + int32(st.draw(key, now)>>48)
}

// setRun gives this run the number of its journal.
func (st *Store) setRun(n uint64) { st.run = uint8(n) }
