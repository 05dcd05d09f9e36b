package replay

import (
	"bytes"
	"strconv"
)

// cookieNames are the names that the cookie's header has in requests and answers.
var cookieNames = [...]string{"LockCookie", "Lock-Cookie"}

// session is what is known of a session that was met.
type session struct {
	// guessed: it was made before it was known what is in it, and was not written since.
	guessed bool
	// cookies are the latest locks, each by its recorded cookie and the new server's.
	cookies []lock
}

type lock struct{ recorded, replayed int64 }

// maxLocks is how many locks are remembered: one is in force, and a few requests may come late.
const maxLocks = 16

// stands gives the new cookie for a recorded one; false if that was never seen.
func (s *session) stands(recorded int64) (int64, bool) {
	for _, l := range s.cookies {
		if l.recorded == recorded {
			return l.replayed, true
		}
	}
	return 0, false
}

// pair remembers that two cookies are of one lock. It is false if one of them is known to be of another.
func (s *session) pair(recorded, replayed int64) bool {
	for _, l := range s.cookies {
		if l.recorded == recorded || l.replayed == replayed {
			return l == lock{recorded, replayed}
		}
	}
	if len(s.cookies) == maxLocks {
		s.cookies = append(s.cookies[:0], s.cookies[1:]...)
	}
	s.cookies = append(s.cookies, lock{recorded, replayed})
	return true
}

// withCookie gives the head with another lock cookie.
func withCookie(head []byte, cookie int64) []byte {
	var out []byte
	for line := range bytes.Lines(head) {
		name, _, ok := bytes.Cut(line, []byte(":"))
		if ok && isCookie(bytes.TrimSpace(name)) {
			end := line[len(bytes.TrimRight(line, "\r\n")):]
			out = append(append(out, name...), ':')
			out = append(strconv.AppendInt(out, cookie, 10), end...)
			continue
		}
		out = append(out, line...)
	}
	return out
}

func isCookie(name []byte) bool {
	for _, one := range cookieNames {
		if bytes.EqualFold(name, []byte(one)) {
			return true
		}
	}
	return false
}
