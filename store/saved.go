package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"peerstate/store/journal"
)

// What the journal has of a key is a head and, of a session, its body behind it:
//
//	version (1), kind
//	held, backup: stamp, last deletion, epoch, timeout, flags, cookie counter, floor, touched, lock, locked at,
//	              expires, holder, number of places, places; then the body
//	moved:        stamp, last deletion, epoch, flags, expires, to whom
//	deleted:      stamp, timeout, expires
//
// Numbers are varints (encoding/binary), times nanoseconds since 1970, since the monotonic clock ends with the process.
// A node is the length of its name, the name, and its run.

// savedVersion is the version of what is written. A journal with a higher one is refused, so after a change of it a farm
// cannot be taken back to the release before with its journals: change it only if there is no other way.
const savedVersion = 1

type savedKind byte

const (
	savedHeld savedKind = 1 + iota
	savedMoved
	savedDeleted
	savedBackup
)

// saved is one record of the journal.
type saved struct {
	kind              savedKind
	stamp, deleted    Stamp
	epoch             uint64
	timeout, flags    int32
	cookie, floor     int32
	touched           bool
	lock              int32
	lockedAt, expires int64 // ns since 1970; 0: not locked, never
	// who is the run of this node that held it, or whose backup it is, or to whom it was given.
	who    Peer
	places []Peer // who else has a copy, or may have the session
	body   []byte
}

var (
	errSaved        = errors.New("a record of the journal that this version has not written")
	errSavedVersion = fmt.Errorf("a record of the journal: %w", journal.ErrNewer)
)

// appendHead encodes all but the body.
func (v *saved) appendHead(b []byte) []byte {
	b = append(b, savedVersion, byte(v.kind))
	num := func(n uint64) { b = binary.AppendUvarint(b, n) }
	peer := func(p Peer) {
		num(uint64(len(p.Node)))
		b = append(b, p.Node...)
		num(p.Instance)
	}
	num(uint64(v.stamp))
	switch v.kind {
	case savedDeleted:
		num(uint64(v.timeout))
		num(uint64(v.expires))
	case savedMoved:
		num(uint64(v.deleted))
		num(v.epoch)
		num(uint64(uint32(v.flags)))
		num(uint64(v.expires))
		peer(v.who)
	default:
		num(uint64(v.deleted))
		num(v.epoch)
		num(uint64(v.timeout))
		num(uint64(uint32(v.flags)))
		num(uint64(v.cookie))
		num(uint64(v.floor))
		touched := byte(0)
		if v.touched {
			touched = 1
		}
		b = append(b, touched)
		num(uint64(v.lock))
		num(uint64(v.lockedAt))
		num(uint64(v.expires))
		peer(v.who)
		num(uint64(len(v.places)))
		for _, p := range v.places {
			peer(p)
		}
	}
	return b
}

// reading takes a record apart. After something that does not fit, all that follows is zero.
type reading struct {
	rest []byte
	bad  bool
}

func (r *reading) num(most uint64) uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > most {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

const (
	most31 = 1<<31 - 1
	most63 = 1<<63 - 1
	// mostName bounds the name of a node (those of certificates are shorter), and mostPlaces how many a record names.
	mostName   = 255
	mostPlaces = maxKeepers + 1
)

func (r *reading) int32() int32 { return int32(r.num(most31)) }
func (r *reading) stamp() Stamp { return Stamp(r.num(uint64(maxStamp))) }
func (r *reading) time() int64  { return int64(r.num(most63)) }
func (r *reading) flags() int32 { return int32(uint32(r.num(1<<32 - 1))) }

func (r *reading) byte() byte {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	c := r.rest[0]
	r.rest = r.rest[1:]
	return c
}

func (r *reading) peer() (p Peer) {
	n := r.num(mostName)
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return p
	}
	p.Node, r.rest = string(r.rest[:n]), r.rest[n:]
	p.Instance = r.num(1<<64 - 1)
	return p
}

// readSaved decodes what the journal has of a key; the body is a part of data.
func readSaved(data []byte) (v saved, err error) {
	if len(data) < 2 {
		return v, errSaved
	}
	if data[0] > savedVersion {
		return v, errSavedVersion
	}
	r := reading{rest: data[2:], bad: data[0] != savedVersion}
	v.kind, v.stamp = savedKind(data[1]), r.stamp()
	switch v.kind {
	case savedDeleted:
		v.timeout, v.expires = r.int32(), r.time()
	case savedMoved:
		v.deleted, v.epoch, v.flags, v.expires, v.who = r.stamp(), r.num(most63), r.flags(), r.time(), r.peer()
	case savedHeld, savedBackup:
		v.deleted, v.epoch = r.stamp(), r.num(most63)
		v.timeout, v.flags, v.cookie, v.floor = r.int32(), r.flags(), r.int32(), r.int32()
		touched := r.byte()
		v.touched = touched == 1
		r.bad = r.bad || touched > 1
		v.lock, v.lockedAt, v.expires, v.who = r.int32(), r.time(), r.time(), r.peer()
		for range r.num(mostPlaces) {
			v.places = append(v.places, r.peer())
		}
		v.body, r.rest = r.rest, nil
	default:
		r.bad = true
	}
	if r.bad || len(r.rest) > 0 {
		return saved{}, errSaved
	}
	return v, v.check()
}

// check finds what no store has.
func (v *saved) check() error {
	rec := v.record("-", instant{})
	err := rec.CheckNote()
	switch v.kind {
	case savedHeld, savedBackup:
		err = rec.Check()
		if err == nil && (v.who.Node == "" || (v.expires == 0) != (v.timeout == 0) || rec.Stamp <= rec.Deleted) {
			err = errSaved
		}
	case savedMoved:
		if err == nil && v.who.Node == "" {
			err = errSaved
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errSaved, err)
	}
	return nil
}

// record gives the session as it would travel from another node. Of what time is left by the wall clock it never has
// more than the session's own timeout, whatever became of that clock meanwhile.
func (v *saved) record(key string, now instant) Record {
	r := Record{Key: key, Stamp: v.stamp, Epoch: v.epoch, Deleted: v.deleted, Timeout: v.timeout, Flags: v.flags, Cookie: v.cookie,
		Floor: v.floor, Touched: v.touched, Lock: v.lock, Body: v.body}
	if len(v.places) <= maxKeepers {
		r.Keepers = v.places
	} else {
		r.Keepers = v.places[:maxKeepers]
	}
	if v.lock != 0 {
		r.LockAge = time.Duration(max(now.wall-v.lockedAt, 0))
	}
	if v.timeout != 0 {
		r.Left = v.left(now, time.Duration(v.timeout)*time.Minute)
	}
	return r
}

// left is how long a record lives yet, at most so long; 0: its time is over.
func (v *saved) left(now instant, most time.Duration) time.Duration {
	return min(time.Duration(max(v.expires-now.wall, 0)), most)
}

// A session and a backup of one key are two records. The name of a backup begins with 0; that of a session is its
// key, and a key that could be taken for something else has a 1 before it.

func savedSession(key string) string {
	if key[0] <= 1 {
		return "\x01" + key
	}
	return key
}

func savedBackupOf(key string) string { return "\x00" + key }

// keyOfSaved gives the key of a record, and whether it is a backup's; not ok: it is no record's name.
func keyOfSaved(name string) (key string, backup, ok bool) {
	switch {
	case name == "":
	case name[0] == 0:
		return name[1:], true, len(name) > 1
	case name[0] == 1:
		return name[1:], false, len(name) > 1 && name[1] <= 1
	default:
		return name, false, true
	}
	return "", false, false
}
