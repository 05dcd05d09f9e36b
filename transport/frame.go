package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// A frame is a kind (1 byte), the length of its header (3 bytes, big-endian), the header in CBOR
// (RFC 8949, a map with small integers as keys), and a body of as many raw bytes as the header
// says. Keys that a reader does not know are skipped, so that a later version may add some; what else one
// may add, and how, stands in versions.go. The headers stand with the code that sends and reads them; those that begin and keep a
// link are below, and what several have in common is in record.go.
//
// A stream begins with the frame of whoever opened it, and that says what the stream is for:
//
//	hello     the control stream, the first that the dialler opens: welcome or refuse comes back (before it
//	          document, or want, upon which document goes forth, if one of the two has an older one),
//	          then pings and pongs in both directions for as long as the link lives, and at times
//	          nodes (whom the sender knows), leave (it hands its sessions over), bye (it stops and
//	          holds nothing), forget (a node will not come back), renew (the dialler is to make a new
//	          link: this one knows the sender by an old certificate) and done (another link is used
//	          instead, and the sender opens no more streams on this one)
//	ping      in place of a hello: pong comes back, and no link
//	want      in place of a hello: documents are exchanged as after one, and done comes back, and no link
//	question  reply comes back; to one that found the session, receipt goes forth, and the end of
//	          the stream says that the giver has read it
//	forward   answer comes back
//	give      receipt comes back, and any number of both may follow
//	doubt     fate comes back
//	settle    settlement comes back
//	keep      and more of them for as long as the link lives: backups; kept comes back now and then
//	links     whom a node is linked with; any number of them may follow, and nothing comes back
//	document  what the farm's issuer says to all (document.go); nothing comes back
//	want      document comes back
//	certify   a request for a new certificate, to the issuer: certified comes back
//	confirm   which document and certificate are in force there: confirmed comes back
//	explain   what is known of a session: any number of traces come back, and then explained
//	use       which application ids the web server there uses: used comes back
//	via       the stream is for a node further on (via.go); what that one is to serve follows
type kind uint8

const (
	kindHello kind = iota + 1
	kindWelcome
	kindRefuse
	kindPing
	kindPong
	kindQuestion
	kindReply
	kindReceipt
	kindForward
	kindAnswer
	kindDoubt
	kindFate
	kindSettle
	kindSettlement
	kindGive
	kindBye
	kindForget
	kindNodes
	kindKeep
	kindKept
	kindLeave
	kindLinks
	kindVia
	kindRenew
	kindDone
	kindDocument
	kindWant
	kindCertify
	kindCertified
	kindConfirm
	kindConfirmed
	kindExplain
	kindTrace
	kindExplained
	kindUse
	kindUsed
	kindEnd // no kind: new ones come before it, with a line in since (versions.go)
)

const (
	// maxHeader bounds a frame's header. A key, its longest part, is at most 8 KiB.
	maxHeader = 32 << 10
	maxKey    = 8 << 10
)

// hello introduces the dialler. Who it is stands in its certificate.
type hello struct {
	Min      int    `cbor:"1,keyasint"` // versions of the protocol
	Max      int    `cbor:"2,keyasint"`
	Instance uint64 `cbor:"3,keyasint"`
	Site     string `cbor:"4,keyasint,omitempty"`
	Clock    int64  `cbor:"5,keyasint"` // ns since 1970
	Program  string `cbor:"6,keyasint,omitempty"`
	Holds    bool   `cbor:"7,keyasint,omitempty"` // the sender holds sessions
	// Generation is 0, or one more than that of the link which this one is to replace (renew.go).
	Generation uint64 `cbor:"8,keyasint,omitempty"`
	Number     uint64 `cbor:"9,keyasint,omitempty"`  // of the farm's document that is in force there; 0: none
	Issuer     bool   `cbor:"10,keyasint,omitempty"` // the sender is the farm's issuer, and wants to hear an older document, too
	Aliases    string `cbor:"11,keyasint,omitempty"` // digest of its aliases of application ids; "": it has none
}

// welcome accepts a hello.
type welcome struct {
	Version  int    `cbor:"1,keyasint"`
	Instance uint64 `cbor:"3,keyasint"`
	Site     string `cbor:"4,keyasint,omitempty"`
	Clock    int64  `cbor:"5,keyasint"`
	Program  string `cbor:"6,keyasint,omitempty"`
	Holds    bool   `cbor:"7,keyasint,omitempty"` // the sender holds sessions
	Number   uint64 `cbor:"8,keyasint,omitempty"` // of the farm's document that is in force there; 0: none
	Aliases  string `cbor:"9,keyasint,omitempty"` // digest of its aliases of application ids; "": it has none
}

// refuse turns a hello down. The certificate was good; the reason is another.
type refuse struct {
	Code     refusalCode `cbor:"1,keyasint"`
	Text     string      `cbor:"2,keyasint,omitempty"`
	Instance uint64      `cbor:"3,keyasint"`
}

type refusalCode uint8

const (
	refusedDuplicate refusalCode = iota + 1 // the two are linked already
	refusedTwin                             // another live node has this name
	refusedVersion                          // no version in common
	refusedSelf                             // the node has dialled itself
)

// ping asks for a pong with the same number.
type ping struct {
	N        uint64 `cbor:"1,keyasint"`
	Clock    int64  `cbor:"2,keyasint"`
	Sessions int64  `cbor:"3,keyasint,omitempty"` // that the sender holds
	Number   uint64 `cbor:"4,keyasint,omitempty"` // of the farm's document that is in force there; 0: none
	// In a pong: how many questions of which other nodes the sender has lately answered with something that it knows (alarm.go).
	Answered []answeredTo `cbor:"9,keyasint,omitempty"`
	// In the pong to one who only looks (probe.go):
	Program string `cbor:"5,keyasint,omitempty"` // version of the program
	Reach   int    `cbor:"6,keyasint,omitempty"` // links to the farthest node that is up
	Hops    int    `cbor:"7,keyasint,omitempty"` // over how many links its questions go
	Aliases string `cbor:"8,keyasint,omitempty"` // digest of its aliases of application ids; Hops says whether it tells them
}

// answeredTo is how many questions of a node were answered.
type answeredTo struct {
	Node string `cbor:"1,keyasint"`
	N    int64  `cbor:"2,keyasint"`
}

// errFrame is what a peer gets closed for: bytes that no node sends.
var errFrame = errors.New("malformed frame")

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4, MaxArrayElements: 1024, MaxMapPairs: 64,
		UTF8: cbor.UTF8DecodeInvalid, // keys are bytes
	}.DecMode())
)

// must is for options that are constants: an error is a mistake in this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// appendFrame puts a frame's kind, length and header behind b.
func appendFrame(b []byte, k kind, header any) ([]byte, error) {
	data, err := encoding.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("encoding a frame of kind %d: %w", k, err)
	}
	if len(data) > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes in a frame of kind %d, %d are allowed", len(data), k, maxHeader)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(k)<<24|uint32(len(data)))
	return append(b, data...), nil
}

// writeFrame writes a frame without a body, in one call.
func writeFrame(w io.Writer, k kind, header any) error {
	b, err := appendFrame(make([]byte, 0, 256), k, header)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readFrame reads a frame up to its body. An error that is errFrame says that the peer misbehaves; any
// other comes from r.
func readFrame(r io.Reader) (kind, []byte, error) {
	var head [4]byte
	switch _, err := io.ReadFull(r, head[:]); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nil, fmt.Errorf("%w: it ends in its length", errFrame)
	case err != nil:
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	k := kind(n >> 24)
	n &= 1<<24 - 1
	if n > maxHeader {
		return 0, nil, fmt.Errorf("%w: a header of %d bytes", errFrame, n)
	}
	header, err := readBytes(r, int64(n), nil)
	if errors.Is(err, io.EOF) {
		return 0, nil, fmt.Errorf("%w: it ends in its header", errFrame)
	}
	return k, header, err
}

// expect reads a frame of the given kind into header.
func expect(r io.Reader, want kind, header any) error {
	k, data, err := readFrame(r)
	if err != nil {
		return err
	}
	if k != want {
		return fmt.Errorf("%w: kind %d instead of %d", errFrame, k, want)
	}
	return decode(data, header)
}

func decode(data []byte, header any) error {
	if err := decoding.Unmarshal(data, header); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

// readStep is how much memory is taken at first for bytes that a peer has announced, and doubled when
// they come: a peer that declares much and sends little costs little.
const readStep = 4 << 10

// readBytes reads size bytes. arrived, which may be nil, is called whenever some came. io.EOF says that
// there were fewer.
func readBytes(r io.Reader, size int64, arrived func()) ([]byte, error) {
	return readGrowing(r, size, arrived, func(int64) error { return nil })
}

// readGrowing is readBytes, and asks more before it takes so much more memory. An error of it ends the reading; b is
// what has come until then.
func readGrowing(r io.Reader, size int64, arrived func(), more func(n int64) error) (b []byte, err error) {
	if err := more(min(size, readStep)); err != nil {
		return nil, err
	}
	b = make([]byte, 0, min(size, readStep))
	for int64(len(b)) < size {
		if len(b) == cap(b) {
			if err := more(min(size-int64(cap(b)), int64(cap(b)))); err != nil {
				return b, err
			}
			grown := make([]byte, len(b), min(size, int64(cap(b))*2))
			copy(grown, b)
			b = grown
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if n > 0 && arrived != nil {
			arrived()
		}
		if err != nil && int64(len(b)) < size {
			return nil, err
		}
	}
	return b, nil
}

// readBody reads a body of size bytes. arrived is called whenever some came.
func readBody(r io.Reader, size int64, arrived func()) ([]byte, error) {
	b, err := readBytes(r, size, arrived)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends in its body", errFrame)
	}
	return b, err
}
