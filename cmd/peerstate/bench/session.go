package bench

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// MinSize is the smallest size of a session's body: that of its counter.
const MinSize = counterDigits

const counterDigits = 16

// session is one visitor: what his web server sends for him, and what it must get back.
type session struct {
	acquire []byte // the whole request
	target  string
	put     []byte // the request line and headers of a PUT but for LockCookie and the blank line
	body    []byte // the counter in hexadecimal, the id, and filling
	visits  int    // tells which server is next

	stored uint64 // the counter that was last seen, or whose PUT was answered
	tried  uint64 // the counter of the last PUT; stored may be that without our knowing if unsure
	unsure bool   // the answer of the last PUT was lost
	locked bool   // a lock of ours may be left behind, as an answer was lost
}

// newSession makes up a session. Target and headers are those of the real client: the path is
// percent-encoded as a whole, so that the target begins without a slash.
func newSession(size int, host string) *session {
	const app = "/LM/W3SVC/1/ROOT/peerstate-bench"
	hash := sha256.Sum256([]byte(app))
	id := newID()
	path := app + "(" + base64.StdEncoding.EncodeToString(hash[:]) + ")/" + id
	s := &session{
		target: strings.NewReplacer("/", "%2f", "+", "%2b", "=", "%3d").Replace(path),
		body:   bytes.Repeat([]byte("."), size),
	}
	copy(s.body[counterDigits:], id)
	s.acquire = []byte("GET " + s.target + " HTTP/1.1\r\nHost: " + host + "\r\nExclusive: acquire\r\n\r\n")
	s.put = []byte("PUT " + s.target + " HTTP/1.1\r\nHost: " + host + "\r\nTimeout:20\r\nContent-Length:" +
		strconv.Itoa(size) + "\r\nExtraFlags:0\r\n")
	return s
}

// newID makes a session id as ASP.NET does: 24 letters of a-z and 0-5.
func newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz012345"
	id := make([]byte, 24)
	rand.Read(id) // never fails
	for i, b := range id {
		id[i] = letters[b%32]
	}
	return string(id)
}

// appendPut appends the request that stores the next counter; cookie 0: without a lock.
func (s *session) appendPut(b []byte, cookie int32) []byte {
	s.tried++
	putCounter(s.body, s.tried)
	b = append(b, s.put...)
	if cookie != 0 {
		b = appendCookie(b, cookie)
	}
	b = append(b, "\r\n"...)
	return append(b, s.body...)
}

func (s *session) appendRelease(b []byte, host string, cookie int32) []byte {
	b = append(b, "GET "+s.target+" HTTP/1.1\r\nHost: "+host+"\r\nExclusive: release\r\n"...)
	return append(appendCookie(b, cookie), "\r\n"...)
}

func (s *session) appendDelete(b []byte, host string, cookie int32) []byte {
	b = append(b, "DELETE "+s.target+" HTTP/1.1\r\nHost: "+host+"\r\n"...)
	if cookie != 0 {
		b = appendCookie(b, cookie)
	}
	return append(b, "\r\n"...)
}

func appendCookie(b []byte, cookie int32) []byte {
	b = append(b, "LockCookie:"...)
	return append(strconv.AppendInt(b, int64(cookie), 10), "\r\n"...)
}

// check tells whether body is what this session must be, and goes on from what it is.
func (s *session) check(body []byte) bool {
	if len(body) != len(s.body) || !bytes.Equal(body[counterDigits:], s.body[counterDigits:]) {
		return false
	}
	n, err := strconv.ParseUint(string(body[:counterDigits]), 16, 64)
	right := err == nil && (n == s.stored || s.unsure && n == s.tried)
	if err == nil {
		s.stored = n // one wrong value is counted once
	}
	s.unsure = false
	return right
}

func putCounter(body []byte, n uint64) {
	const hex = "0123456789abcdef"
	for i := range counterDigits {
		body[counterDigits-1-i] = hex[n&15]
		n >>= 4
	}
}
