package proxy

import (
	"bytes"
	"math"

	"peerstate/store"
)

// request is what a head says. It holds nothing of the reader's buffer.
type request struct {
	store.Request
	key      []byte // the memory behind Key, used again by the next request
	target   []byte // that key was decoded from; empty: it was not
	aliases  *Aliases
	client   uint16 // the connection's port at the other end
	length   int64  // of the body; -1: not said
	expect   bool   // the client waits for "100 Continue"
	last     bool   // the client wants the connection closed afterwards
	foreign  bool   // a method that is none of ours
	badTime  bool   // Timeout cannot be parsed or is out of range
	badFlags bool   // ExtraFlags cannot be parsed
}

// reset makes r ready for the next head.
func (r *request) reset() {
	r.Request = store.Request{Cookie: store.NoCookie, Timeout: store.DefaultTimeout, Client: r.client}
	r.length, r.expect, r.last = -1, false, false
	r.foreign, r.badTime, r.badFlags = false, false, false
}

// readHead reads a head from in, which has its first bytes. A refusal means that the bytes are not
// a request, or not one whose end could be found; an error, that they ceased to come. What is
// wrong with a request that is sound as such is said by fault.
func (r *request) readHead(in *reader, maxBody int64) (refusal, error) {
	r.reset()
	line, why, err := in.line()
	if err == nil && why == sound && len(line) == 0 {
		line, why, err = in.line() // RFC 9112, 2.2: one empty line is skipped
	}
	if err != nil {
		return sound, err
	}
	if why != sound {
		return stranger(in.buf[in.r:in.w], why), nil
	}
	if why := r.requestLine(line); why != sound {
		return stranger(line, why), nil
	}
	for range maxHeaders + 1 {
		line, why, err := in.line()
		if why != sound || err != nil {
			return why, err
		}
		if len(line) == 0 {
			return r.check(maxBody), nil
		}
		if why := r.header(line); why != sound {
			return why, nil
		}
	}
	return manyHeaders, nil
}

// requestLine takes apart "GET target HTTP/1.1".
func (r *request) requestLine(line []byte) refusal {
	i, j := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if i <= 0 || j == i {
		return noRequest
	}
	method, target, version := line[:i], line[i+1:j], line[j+1:]
	if string(version) != "HTTP/1.1" || bytes.IndexByte(target, ' ') >= 0 {
		return noRequest
	}
	switch string(method) {
	case "GET":
		r.Op = store.Get
	case "PUT":
		r.Op = store.Put
	case "DELETE":
		r.Op = store.Delete
	case "HEAD":
		r.Op = store.Head
	default:
		r.foreign = true
	}
	return r.decode(target)
}

// decode sets the key. The PUT that ends a page mostly comes on the connection that the page's
// acquire came on, with the same target.
func (r *request) decode(target []byte) refusal {
	if len(target) == 0 || !bytes.Equal(target, r.target) {
		var why refusal
		r.key, why = decodeKey(r.key, target)
		if why != sound {
			r.target = r.target[:0]
			return why
		}
		r.key = r.aliases.Apply(r.key)
		r.target = append(r.target[:0], target...)
	}
	r.Key = r.key
	return sound
}

// header takes one header line in. Those it does not know are passed over, as are those that mean
// nothing with this method.
func (r *request) header(line []byte) refusal {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return badHeader
	}
	name, value := line[:i], trim(line[i+1:])
	switch nameOf(name) {
	case nameTimeout:
		if r.Op == store.Put {
			r.timeout(value)
		}
	case nameExtraFlags:
		if r.Op == store.Put {
			r.extraFlags(value)
		}
	case nameExclusive:
		r.exclusive(value)
	case nameLockCookie:
		r.lockCookie(value)
	case nameContentLength:
		return r.contentLength(value)
	case nameTransferEncoding:
		return transferEncoding
	case nameExpect:
		r.expect = is(value, "100-continue")
	case nameConnection:
		r.last = is(value, "close")
	case nameUserAgent:
		if bytes.HasPrefix(value, []byte("Mozilla/")) {
			return browser
		}
	case nameSecFetch:
		return browser
	case nameMalformed:
		return badHeader
	}
	return sound
}

func (r *request) timeout(value []byte) {
	n, ok := parseInt32(value)
	r.Timeout, r.badTime = n, !ok || n < 0 || n > store.MaxTimeout
}

func (r *request) extraFlags(value []byte) {
	n, ok := parseInt32(value)
	r.Flags, r.badFlags = n, !ok
}

// lockCookie: whether a bad one matters only the store can say, which knows the session.
func (r *request) lockCookie(value []byte) {
	n, ok := parseInt32(value)
	if !ok || n < 0 {
		n = store.BadCookie
	}
	r.Cookie = n
}

func (r *request) exclusive(value []byte) {
	if r.Op != store.Get && r.Op != store.Acquire && r.Op != store.Release {
		return
	}
	switch {
	case is(value, "acquire"):
		r.Op = store.Acquire
	case is(value, "release"):
		r.Op = store.Release
	default:
		r.Op = store.Get
	}
}

func (r *request) contentLength(value []byte) refusal {
	if r.length >= 0 || len(value) == 0 || len(value) > 18 { // 18 digits always fit
		return badLength
	}
	n := int64(0)
	for _, c := range value {
		if c < '0' || c > '9' {
			return badLength
		}
		n = 10*n + int64(c-'0')
	}
	r.length = n
	return sound
}

// check looks at a complete head.
func (r *request) check(maxBody int64) refusal {
	switch {
	case r.length > maxBody || r.length > math.MaxInt:
		return largeBody
	case r.length < 0 && r.Op == store.Put:
		return noLength
	}
	return sound
}

// fault says why a sound request is answered 400 without asking the store.
func (r *request) fault() refusal {
	switch {
	case r.foreign:
		return otherMethod
	case r.badTime:
		return badTimeout
	case r.badFlags:
		return badFlags
	}
	return sound
}

// parseInt32 reads a decimal number with an optional sign, as .NET's Int32.Parse does.
func parseInt32(b []byte) (int32, bool) {
	negative := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		negative = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = 10*n + int64(c-'0'); n > -math.MinInt32 {
			return 0, false
		}
	}
	if negative {
		n = -n
	}
	return int32(n), n <= math.MaxInt32
}

// trim removes spaces and tabs around a header's value.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
