package journal

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// format is the version of files and records. A directory with a higher one is refused, and left as it is.
const format = 1

// identityFile names what the directory is; each file of records says it again, in its first record.
const identityFile = "journal"

type identity struct {
	Format int    `json:"format"`
	Farm   string `json:"farm"`
	Node   string `json:"node"`
	Salt   uint64 `json:"salt,string"`
}

func newIdentity(farm, node string) identity {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return identity{Format: format, Farm: farm, Node: node, Salt: binary.LittleEndian.Uint64(b[:])}
}

// salt is what the checksums of a file of records begin with.
func (id *identity) salt(file uint64) uint32 {
	b := binary.LittleEndian.AppendUint64(nil, id.Salt)
	return crc32.Checksum(binary.LittleEndian.AppendUint64(b, file), castagnoli)
}

func (id *identity) json() []byte {
	b, err := json.Marshal(id)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// encode gives the contents of the identity file: a line of JSON, and its checksum.
func (id *identity) encode() []byte { return sealed(id.json()) }

// decodeIdentity reads the identity file; false: it is damaged.
func decodeIdentity(data []byte) (id identity, ok bool) {
	line, ok := unsealed(data)
	return id, ok && json.Unmarshal([]byte(line), &id) == nil
}

// decodeHead reads the first record of a file of records; size is where the next begins.
func decodeHead(data []byte) (id identity, size int64, ok bool) {
	h, ok := parseHeader(data, 0)
	if !ok || h.kind != headKind || h.size() > int64(len(data)) {
		return id, 0, false
	}
	r := reader{data: data[:h.size()]}
	_, _, value, ok := r.next()
	return id, h.size(), ok && json.Unmarshal(value, &id) == nil
}

// check refuses the journal of somebody else.
func (id *identity) check(farm, node string) error {
	switch {
	case id.Format > format:
		return fmt.Errorf("%w (format %d, this one knows up to %d); use that version, or another directory", ErrNewer, id.Format, format)
	case id.Farm != farm || id.Node != node:
		return fmt.Errorf("%w: of node %q in farm %q, and this is node %q in farm %q; each node needs a directory of its own",
			ErrForeign, id.Node, id.Farm, node, farm)
	}
	return nil
}
