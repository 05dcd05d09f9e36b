package transport

import (
	"time"

	"peerstate/store"
)

// What several frames say of a session and of nodes.

// recordHead is a session without its key, which was asked for, and its body, which follows.
type recordHead struct {
	Stamp   store.Stamp   `cbor:"1,keyasint"`
	Epoch   uint64        `cbor:"2,keyasint"`
	Deleted store.Stamp   `cbor:"3,keyasint,omitempty"`
	Left    time.Duration `cbor:"4,keyasint,omitempty"`
	Timeout int32         `cbor:"5,keyasint"`
	Flags   int32         `cbor:"6,keyasint,omitempty"`
	Cookie  int32         `cbor:"7,keyasint"`
	Floor   int32         `cbor:"8,keyasint,omitempty"`
	Touched bool          `cbor:"9,keyasint,omitempty"`
	Lock    int32         `cbor:"11,keyasint,omitempty"`
	LockAge time.Duration `cbor:"12,keyasint,omitempty"`
	Size    int64         `cbor:"10,keyasint"` // of the body
	Keepers []peerRef     `cbor:"13,keyasint,omitempty"`
}

// peerRef is a node in one of its runs.
type peerRef struct {
	Node     string `cbor:"1,keyasint"`
	Instance uint64 `cbor:"2,keyasint"`
}

// creatorRef is a store.Creator.
type creatorRef struct {
	Node     string `cbor:"1,keyasint"`
	Instance uint64 `cbor:"2,keyasint"`
	Inquiry  uint64 `cbor:"3,keyasint"`
}

func (c creatorRef) of() store.Creator {
	return store.Creator{Peer: store.Peer{Node: c.Node, Instance: c.Instance}, Inquiry: c.Inquiry}
}

func headOf(r *store.Record) *recordHead {
	h := &recordHead{Stamp: r.Stamp, Epoch: r.Epoch, Deleted: r.Deleted, Left: r.Left, Timeout: r.Timeout,
		Flags: r.Flags, Cookie: r.Cookie, Floor: r.Floor, Touched: r.Touched, Lock: r.Lock, LockAge: r.LockAge, Size: int64(len(r.Body))}
	for _, p := range r.Keepers {
		h.Keepers = append(h.Keepers, peerRef(p))
	}
	return h
}

// record gives the session that the head announces, without its body, and not yet checked.
func (h *recordHead) record(key string) store.Record {
	r := store.Record{Key: key, Stamp: h.Stamp, Epoch: h.Epoch, Deleted: h.Deleted, Left: h.Left, Timeout: h.Timeout,
		Flags: h.Flags, Cookie: h.Cookie, Floor: h.Floor, Touched: h.Touched, Lock: h.Lock, LockAge: h.LockAge}
	for _, p := range h.Keepers {
		r.Keepers = append(r.Keepers, store.Peer(p))
	}
	return r
}

// receipt answers a session that has come: it was taken in, or why not.
type receipt struct {
	Accepted bool     `cbor:"1,keyasint,omitempty"`
	Version  *version `cbor:"2,keyasint,omitempty"` // the record that the receiver keeps instead
	Full     bool     `cbor:"3,keyasint,omitempty"` // not accepted: there is no memory for it
}

// version is a store.Version.
type version struct {
	Stamp         store.Stamp `cbor:"1,keyasint"`
	Epoch         uint64      `cbor:"2,keyasint"`
	Deleted       store.Stamp `cbor:"3,keyasint,omitempty"`
	Tombstone     bool        `cbor:"4,keyasint,omitempty"`
	Uninitialized bool        `cbor:"5,keyasint,omitempty"`
}

func toVersion(v store.Version) *version {
	return &version{Stamp: v.Stamp, Epoch: v.Epoch, Deleted: v.Deleted, Tombstone: v.Tombstone, Uninitialized: v.Uninitialized}
}

// of gives the version, zero for none. Stamps beyond any clock are cut.
func (v *version) of() store.Version {
	if v == nil {
		return store.Version{}
	}
	return store.Version{Stamp: min(v.Stamp, 1<<62), Epoch: min(v.Epoch, 1<<62), Deleted: min(v.Deleted, 1<<62),
		Tombstone: v.Tombstone, Uninitialized: v.Uninitialized}
}
