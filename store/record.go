package store

import (
	"fmt"
	"time"
)

// Record is a session as it travels from node to node: unlocked, unless its node is leaving. Times are
// durations, because monotonic clocks differ.
type Record struct {
	Key     string
	Stamp   Stamp
	Epoch   uint64
	Deleted Stamp         // the key's last deletion; 0: none
	Left    time.Duration // until it expires; without meaning when Timeout is 0
	Timeout int32         // minutes
	Flags   int32         // ExtraFlags, of which FlagUninitialized means something
	Cookie  int32         // the counter of lock cookies: the last that was given
	Floor   int32         // what it was raised to when a lock may have died with a holder; 0: never
	Touched bool          // somebody has locked or written it since then
	Lock    int32         // cookie of the lock that is held; 0: unlocked
	LockAge time.Duration // how long it has been
	// Keepers have a backup of it, the giver among them if it keeps its copy. In a backup: who else has one.
	Keepers []Peer
	Body    []byte
	Counted int64 // bytes of Body that Store.Reserve counts until GiveBack; never sent
}

// maxKeepers bounds the list of those who have a copy: those that are wanted, and some that have not
// been told to forget it yet.
const maxKeepers = 32

// maxStamp keeps a hostile stamp from wrapping round when one is added.
const maxStamp = Stamp(1) << 62

// Check says what is wrong with a record that came from outside.
func (r *Record) Check() error {
	switch {
	case r.Key == "":
		return fmt.Errorf("record without a key")
	case r.Stamp == 0 || r.Stamp > maxStamp || r.Deleted > maxStamp:
		return fmt.Errorf("record with stamp %d, deleted %d", r.Stamp, r.Deleted)
	case r.Epoch > 1<<62:
		return fmt.Errorf("record with epoch %d", r.Epoch)
	case r.Timeout < 0 || r.Timeout > MaxTimeout:
		return fmt.Errorf("record with a timeout of %d minutes", r.Timeout)
	case r.Left < 0 || r.Left > time.Duration(r.Timeout)*time.Minute:
		return fmt.Errorf("record with %v left of %d minutes", r.Left, r.Timeout)
	case r.Lock < 0 || r.Lock > r.Cookie || r.LockAge < 0:
		return fmt.Errorf("record with lock %d of %d, held for %v", r.Lock, r.Cookie, r.LockAge)
	case len(r.Keepers) > maxKeepers:
		return fmt.Errorf("record with %d backups", len(r.Keepers))
	case r.Cookie < 1 || r.Floor < 0:
		return fmt.Errorf("record with cookie %d, floor %d", r.Cookie, r.Floor)
	}
	return nil
}

// Version is the record's place in the order of the key's records.
func (r *Record) Version() Version {
	return Version{Stamp: r.Stamp, Epoch: r.Epoch, Deleted: r.Deleted,
		Uninitialized: r.Flags&FlagUninitialized != 0}
}

func (s *session) record(now int64) Record {
	r := Record{Key: s.key, Stamp: s.stamp, Epoch: s.epoch, Deleted: s.deleted, Timeout: s.timeout,
		Flags: s.flags, Cookie: s.cookie, Floor: s.floor, Touched: s.touched, Lock: s.lock, LockAge: s.lockAge(now), Body: s.body}
	if s.expires != 0 {
		// It may have been renewed a moment after now was read.
		r.Left = min(time.Duration(max(s.expires-now, 0)), time.Duration(s.timeout)*time.Minute)
	}
	return r
}

// take puts a record's contents into a session that holds none.
func (s *session) take(r *Record, now int64) {
	s.body, s.timeout, s.flags = r.Body, r.Timeout, r.Flags
	s.stamp, s.deleted = r.Stamp, max(s.deleted, r.Deleted)
	s.epoch = max(s.epoch, r.Epoch) + 1
	s.cookie = max(s.cookie, r.Cookie)
	if r.Floor > s.floor {
		s.floor, s.touched = r.Floor, r.Touched // touched since cookies were raised the last time
	} else {
		s.touched = s.touched || r.Touched
	}
	s.lock, s.lockedAt, s.expires = r.Lock, now-int64(r.LockAge), 0
	if r.Timeout != 0 {
		s.expires = now + int64(r.Left)
	}
}

// CheckNote is Check for what only names a record: a burial, or what is to be forgotten.
func (r *Record) CheckNote() error {
	switch {
	case r.Key == "":
		return fmt.Errorf("note without a key")
	case r.Stamp == 0 || r.Stamp > maxStamp || r.Epoch > 1<<62:
		return fmt.Errorf("note of stamp %d, epoch %d", r.Stamp, r.Epoch)
	case r.Timeout < 0 || r.Timeout > MaxTimeout:
		return fmt.Errorf("note with a timeout of %d minutes", r.Timeout)
	}
	return nil
}
