package journal

import (
	"fmt"
	"strconv"
	"strings"
)

// segment is one file of records. Only the newest is written to, and only by the process that made it.
type segment struct {
	id      uint64 // also its name
	salt    uint32
	file    file  // nil: it is not written to any more
	size    int64 // forced to disk
	written int64 // given to the disk; what stands behind size is not counted
	live    int64 // bytes of records that the index points to
	values  []ref // whose values are in it, in force or not, once for each; also what a failed write may have left behind size
	damaged bool  // when the journal was opened
	tidied  bool  // what is in force is being moved elsewhere, and then the file is removed
}

const suffix = ".records"

// sizes bound what is on disk, in bytes; tests have smaller ones.
type sizes struct {
	least, most int64 // a segment is full at a sixteenth of the live bytes, but between these
	slack       int64 // garbage that is left alone however little is live
}

var usual = sizes{least: 4 << 20, most: 16 << 20, slack: 8 << 20}

func (s *segment) name() string { return fmt.Sprintf("%016x%s", s.id, suffix) }

// segmentID is name's reverse; false: the file is something else.
func segmentID(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 16, 64)
	return id, err == nil && id != 0 && id < maxSeq
}

// entry is what the index knows of a key.
type entry struct {
	key     string
	seq     uint64
	in      uint32 // number of the segment that has it; 0: none
	size    uint32 // of the record
	stale   uint32 // other values of the key that are on disk, older ones and copies
	ref     ref
	deleted bool // it is a deletion, which stays while stale is not 0
	doubted bool // a failed write may have left a value that is newer
}

// ref is the number of an entry; 0: none. A segment has many, and the collector need not look at numbers.
type ref uint32

// together is how many entries are allocated at a time.
const together = 1 << 8

// index says where the newest record of each key is.
type index struct {
	entries  map[string]*entry
	blocks   []*[together]entry // where the entries are
	free     []ref              // of those that are not in use
	segments map[uint32]*segment
	number   uint32 // of the newest segment
	total    int64  // bytes of all segments
	live     int64  // of the newest values
	keys     int    // that have one
	seq      uint64 // the highest there is
}

func newIndex() index {
	return index{entries: map[string]*entry{}, segments: map[uint32]*segment{}}
}

func (x *index) add(s *segment) uint32 {
	x.number++
	x.segments[x.number] = s
	x.total += s.size
	return x.number
}

// entry gives the key's, or an empty one, which has to be given to settle.
func (x *index) entry(key string) *entry {
	e := x.entries[key]
	if e == nil {
		e = x.unused()
		e.key, e.deleted = key, true
		x.entries[key] = e
	}
	return e
}

func (x *index) unused() *entry {
	if len(x.free) == 0 {
		x.blocks = append(x.blocks, new([together]entry))
		for i := range ref(together) {
			x.free = append(x.free, ref(len(x.blocks)*together)-i)
		}
	}
	r := x.free[len(x.free)-1]
	x.free = x.free[:len(x.free)-1]
	e := x.by(r)
	e.ref = r
	return e
}

func (x *index) by(r ref) *entry { return &x.blocks[(r-1)/together][(r-1)%together] }

// find gives the entry of a key, which was the one of the number when somebody looked; nil: there is none.
func (x *index) find(key string, r ref) *entry {
	if r != 0 && int(r) <= len(x.blocks)*together && key != "" { // those that are not in use have no key
		if e := x.by(r); e.key == key {
			return e
		}
	}
	return x.entries[key]
}

// record takes up a record that is on disk.
func (x *index) record(e *entry, k kind, seq uint64, in uint32, size int64) {
	if k == valueKind {
		x.stands(e, in)
	}
	if seq <= e.seq { // an older one, or a copy
		if k == valueKind {
			e.stale++
		}
		return
	}
	x.leave(e)
	e.seq, e.in, e.size, e.deleted, e.doubted = seq, in, uint32(size), k == deletionKind, false
	x.segments[in].live += size
	if !e.deleted {
		x.live += size
		x.keys++
	}
}

// move: a copy of the entry's record is on disk, in another segment.
func (x *index) move(e *entry, in uint32) {
	size := int64(e.size)
	x.segments[e.in].live -= size
	x.segments[in].live += size
	if e.in = in; !e.deleted {
		e.stale++
		x.stands(e, in)
	}
}

// stands notes that a value of the entry is in a segment.
func (x *index) stands(e *entry, in uint32) {
	s := x.segments[in]
	s.values = append(s.values, e.ref)
}

// leave: the entry's record is not the newest any more.
func (x *index) leave(e *entry) {
	if e.in == 0 {
		return
	}
	x.segments[e.in].live -= int64(e.size)
	if !e.deleted {
		e.stale++
		x.live -= int64(e.size)
		x.keys--
	}
	e.in, e.deleted = 0, true
}

// unstale: of the key's values on disk there is one less, and it was not the newest.
func (x *index) unstale(e *entry) {
	if e.stale > 0 {
		e.stale--
	}
	x.settle(e)
}

// settle drops what the index need not know.
func (x *index) settle(e *entry) {
	if e.deleted && e.stale == 0 {
		x.leave(e)
		delete(x.entries, e.key)
		r := e.ref
		*e = entry{}
		x.free = append(x.free, r)
	}
}
