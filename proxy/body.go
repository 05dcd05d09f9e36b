package proxy

import "errors"

// eagerBody is up to which length a body's memory is allocated when its head has come. A larger
// one grows as its bytes arrive: a client that declares much and sends little gets no memory.
const eagerBody = 64 << 10

// errNoRoom says that there is no memory for a body (PEERSTATE_MAX_MEMORY).
var errNoRoom = errors.New("no memory for a session that is being received")

// body reads a body of n bytes, n being at most MaxBody. The slice is new and of exactly that
// length and capacity, since the store keeps it as it is. Bytes behind the body stay unread. What is
// in memory of a body that has yet to come is counted: many large ones at a time must not take more than
// there is.
func (in *reader) body(n int) ([]byte, error) {
	if there := in.buf[in.r:in.w]; len(there) >= n {
		there = there[:n]
		in.r += n
		b := make([]byte, len(there)) // in this form the compiler knows that it need not be cleared
		copy(b, there)
		return b, nil
	}
	if !in.count(min(n, eagerBody)) {
		return nil, errNoRoom
	}
	b := make([]byte, min(n, eagerBody))
	have := copy(b, in.buf[in.r:in.w])
	in.r += have
	for have < n {
		if have == len(b) {
			if !in.count(min(len(b), n-len(b))) {
				return nil, errNoRoom
			}
			larger := make([]byte, min(2*len(b), n))
			copy(larger, b)
			b = larger
		}
		m, err := in.read(b[have:])
		if err != nil {
			return nil, err
		}
		have += m
	}
	return b, nil
}

// count has so many bytes counted, in the store and in counted.
func (in *reader) count(n int) bool {
	if in.reserve != nil && !in.reserve(int64(n)) {
		return false
	}
	in.counted += int64(n)
	return true
}

// discard reads n bytes of a body that nobody wants.
func (in *reader) discard(n int64) error {
	for {
		m := min(n, int64(in.w-in.r))
		in.r += int(m)
		if n -= m; n == 0 {
			return nil
		}
		in.r, in.w = 0, 0
		if err := in.more(); err != nil {
			return err
		}
	}
}
