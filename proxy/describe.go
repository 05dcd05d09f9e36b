package proxy

import (
	"bytes"
	"sync/atomic"

	"peerstate/store"
)

// Described is what the head of a request says, as this package reads it.
type Described struct {
	store.Request // without a body; Key is empty if the target has none
	// Refused says why the listener would answer 400 to it; "" if it would not.
	Refused string
}

// Describe reads the head of a request as the listener would do it. What it returns holds nothing of head.
func Describe(head []byte) Described {
	var r request
	if !bytes.HasSuffix(head, []byte("\n\r\n")) && !bytes.HasSuffix(head, []byte("\n\n")) {
		return Described{Refused: texts[noRequest].what} // without its end the reader would wait for more
	}
	in := reader{draining: new(atomic.Bool), buf: head, w: len(head)}
	why, err := r.readHead(&in, DefaultMaxBody)
	switch {
	case err != nil || in.r < in.w && why == sound:
		why = noRequest // the head is not one head
	case why == sound:
		why = r.fault()
	}
	return Described{Request: r.Request, Refused: texts[why].what}
}

// KeyOf gives the session's key that the target of a request names; nil if it names none.
func KeyOf(target []byte) []byte {
	key, why := decodeKey(nil, target)
	if why != sound {
		return nil
	}
	return key
}
