package store

import (
	"cmp"
	"time"
)

// Stamp orders the writes of one key: nanoseconds since 1970 by the clock of the node that took
// the write, or one more than the key's last stamp where that is larger. It never goes back for
// one key. Storing, deleting and the clearing of a flag raise it; reading and locking do not.
type Stamp uint64

// Version says which of two records of one key is the session.
type Version struct {
	Stamp         Stamp
	Epoch         uint64 // how often the record changed hands: raised by each move and promotion
	Deleted       Stamp  // the key's last deletion that this record knows of, see also [Store.Undo]; 0: none
	Tombstone     bool   // the record is itself a deletion
	Uninitialized bool   // created empty, and no client has initialised it yet
}

// Compare is positive when v is the session and o the stale copy, negative when it is the other
// way round, and 0 when both are the same write after equally many moves. It is one order of all records of a
// key (a total preorder), so whoever meets whom first, the same one stays.
//
// The later stamp wins, which is what the visitor did last or a deletion, and between equal stamps the higher
// epoch. But a record that is still empty stands where the deletion stands that it knows of, just above: it
// wins from that deletion and from what that ended, and loses to everything later, however late it was made
// itself. So it never displaces what a client has put into the session, unless that was deleted before; and one
// that was made on one side of a broken link goes when the other side has deleted the key meanwhile. Nothing is lost
// with it.
func (v Version) Compare(o Version) int {
	return cmp.Or(
		cmp.Compare(v.place(), o.place()),
		cmp.Compare(v.Stamp, o.Stamp), cmp.Compare(v.Epoch, o.Epoch))
}

// place is where a record stands before its own stamp counts: twice a stamp, and one more for just above.
func (v Version) place() Stamp {
	if v.Uninitialized && !v.Tombstone {
		return 2*v.Deleted + 1
	}
	return 2 * v.Stamp
}

// clock gives the two times of the store. Whatever lasts (expiry, the age of a lock) is measured
// on the monotonic clock, so that a jump of the wall clock neither ends a session nor makes it
// immortal; the wall clock only makes stamps.
type clock struct{ base time.Time }

func newClock() clock { return clock{base: time.Now()} }

// instant is one reading of both clocks.
type instant struct {
	mono int64 // ns since the store was made
	wall int64 // ns since 1970
}

func (c clock) now() instant {
	t := time.Now()
	return instant{mono: int64(t.Sub(c.base)), wall: t.UnixNano()}
}

// stamp is the stamp of a write at this moment to a key whose last stamp was last.
func (st *Store) stamp(now instant, last Stamp) Stamp {
	return max(Stamp(max(now.wall+st.clockOffset.Load(), 1)), last+1)
}

// SetClockOffset makes stamps follow the farm's time where this node's clock is wrong: d is added
// to the wall clock for stamps, and for nothing else. Safe for concurrent use.
func (st *Store) SetClockOffset(d time.Duration) { st.clockOffset.Store(int64(d)) }
