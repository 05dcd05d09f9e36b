package journal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A record is
//
//	offset 0   0x9d 'J', the record's version (1), its kind
//	       4   sequence number: nanoseconds since 1970 when it was written, or the last one plus one
//	      12   length of the key
//	      16   length of the value
//	      20   CRC-32C of the above
//	      24   CRC-32C of key and value, going on from the one above
//	      28   key, value
//
// with little-endian numbers. The checksums begin with the salt of the file, so that neither what a page stored in a
// session nor a block of a deleted file can be taken for a record when a damaged file is searched for the next one.

type kind byte

const (
	headKind     kind = 1 + iota // the first of a file; the value is an identity, the salt is 0
	valueKind                    // the newest of its key, if none has a higher number
	deletionKind                 // nothing is known of the key
	markKind                     // the journal was in use at this time; no key
)

const (
	recordVersion = 1
	headerSize    = 28
	maxKey        = 1 << 16
	maxValue      = 1<<31 - 1 - maxKey - headerSize
)

var magic = []byte{0x9d, 'J', recordVersion}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	kind   kind
	seq    uint64
	key    int
	value  int
	header uint32 // checksums
	body   uint32
}

func (h *header) size() int64 { return headerSize + int64(h.key) + int64(h.value) }

// appendRecord appends a record up to where the value's body begins, which follows.
func appendRecord(dst []byte, salt uint32, k kind, seq uint64, key string, head, body []byte) []byte {
	begin := len(dst)
	dst = append(append(dst, magic...), byte(k))
	dst = binary.LittleEndian.AppendUint64(dst, seq)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(key)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(head)+len(body)))
	sum := crc32.Update(salt, castagnoli, dst[begin:])
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(append(dst, key...), head...)
	sum = crc32.Update(sum, castagnoli, dst[begin+headerSize:])
	sum = crc32.Update(sum, castagnoli, body)
	binary.LittleEndian.PutUint32(dst[begin+24:], sum)
	return dst
}

// parseHeader reads a header; false: there is none. A true one says where the next record begins, even if the body
// is damaged.
func parseHeader(data []byte, salt uint32) (h header, ok bool) {
	if len(data) < headerSize || !bytes.Equal(data[:len(magic)], magic) {
		return h, false
	}
	key, value := binary.LittleEndian.Uint32(data[12:]), binary.LittleEndian.Uint32(data[16:])
	if key > maxKey || value > maxValue {
		return h, false
	}
	h = header{kind: kind(data[3]), seq: binary.LittleEndian.Uint64(data[4:]), key: int(key), value: int(value),
		header: binary.LittleEndian.Uint32(data[20:]), body: binary.LittleEndian.Uint32(data[24:])}
	if h.kind < headKind || h.kind > markKind || h.seq > maxSeq {
		return h, false
	}
	return h, crc32.Update(salt, castagnoli, data[:20]) == h.header
}

// maxSeq keeps a number from wrapping round when one is added.
const maxSeq = 1 << 63

// reader goes through the records of a file, whatever is in it.
type reader struct {
	data []byte
	salt uint32
	at   int64 // of the next record
	// Bytes that are no record, in how many places, and how many of them stand behind the last whole record.
	bad    int64
	places int
	tail   int64
}

// next gives the next whole record; key and value are parts of the file's data. false: there is none.
func (r *reader) next() (h header, key, value []byte, ok bool) {
	whole := true
	for r.at < int64(len(r.data)) {
		rest := r.data[r.at:]
		h, ok := parseHeader(rest, r.salt)
		if ok && h.size() <= int64(len(rest)) {
			body := rest[headerSize:h.size()]
			if crc32.Update(h.header, castagnoli, body) == h.body {
				r.at += h.size()
				r.tail = 0
				return h, body[:h.key:h.key], body[h.key:], true
			}
		}
		if whole {
			whole = false
			r.places++
		}
		r.skip(r.past(rest, h, ok))
	}
	return header{}, nil, nil, false
}

// past says how far to go on from a place with no whole record.
func (r *reader) past(rest []byte, h header, ok bool) int64 {
	if ok && h.size() <= int64(len(rest)) {
		return h.size() // the header is good, so the next record stands behind this one
	}
	if next := bytes.Index(rest[1:], magic); next >= 0 {
		return int64(next) + 1
	}
	return int64(len(rest))
}

func (r *reader) skip(n int64) {
	r.at += n
	r.bad += n
	r.tail += n
}
