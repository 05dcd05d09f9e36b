package journal

import (
	"bytes"
	"testing"
)

// FuzzRecords reads anything as a file of records: what is found must be what was written that way, and every byte
// is either part of it or counted as lost.
func FuzzRecords(f *testing.F) {
	const salt = 7
	record := func(k kind, seq uint64, key, value string) []byte {
		return append(appendRecord(nil, salt, k, seq, key, nil, []byte(value)), value...)
	}
	a, b := record(valueKind, 1, "key", "value"), record(deletionKind, 2, "key", "")
	f.Add([]byte(nil))
	f.Add(a)
	f.Add(append(bytes.Clone(a), b...))
	f.Add(append(bytes.Clone(a[:len(a)-1]), b...))
	f.Add(append(append(bytes.Clone(a), magic...), record(markKind, 3, "", "")...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := reader{data: data, salt: salt}
		var whole int64
		for {
			h, key, value, ok := r.next()
			if !ok {
				break
			}
			again := append(appendRecord(nil, salt, h.kind, h.seq, string(key), nil, value), value...)
			if !bytes.Equal(again, data[r.at-h.size():r.at]) {
				t.Fatalf("a record that nobody wrote: %+v", h)
			}
			whole += h.size()
		}
		if whole+r.bad != int64(len(data)) || r.tail > r.bad || (r.bad == 0) != (r.places == 0) {
			t.Fatalf("%d bytes: %d in records, %d lost in %d places, %d of them at the end", len(data), whole, r.bad, r.places, r.tail)
		}
		decodeHead(data)
		decodeIdentity(data)
	})
}
