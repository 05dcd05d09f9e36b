package proxy

import (
	"strconv"
	"time"

	"peerstate/store"
)

// version is the framework version that every answer names; the client refuses a major version
// below 2.
const version = "4.0.30319"

// words are the parts of answers that do not change. There are two sets, for the two forms of the
// status line.
type words struct {
	// head of an answer by status: status line and X-AspNet-Version.
	head [Statuses]string
	// empty is a whole answer by status that has no other headers and no body.
	empty [Statuses][]byte
	// goOn answers "Expect: 100-continue".
	goOn []byte
}

// Names of headers, each with the end of the line before. The last header of every answer is its
// length.
const (
	aspNet      = "\r\nX-AspNet-Version: " + version
	actionFlags = "\r\nActionFlags: 1"
	cookieIs    = "\r\nLockCookie: "
	timeoutIs   = "\r\nTimeout: "
	dateIs      = "\r\nLockDate: "
	ageIs       = "\r\nLockAge: "
	lengthIs    = "\r\nCache-Control: private\r\nContent-Length: "
	end         = "\r\n\r\n"
)

func newWords(bare bool) *words {
	start := "HTTP/1.1 "
	if bare {
		start = ""
	}
	w := &words{goOn: []byte(start + "100 Continue" + end)}
	for status, line := range map[store.Status]string{
		store.OK:         "200 OK",
		store.BadRequest: "400 Bad Request",
		store.NotFound:   "404 Not Found",
		store.Locked:     "423 Locked",
	} {
		w.head[status] = start + line + aspNet
		w.empty[status] = []byte(w.head[status] + lengthIs + "0" + end)
	}
	return w
}

// appendAnswer appends the headers of an answer to op, in the order in which Microsoft's server
// sends them, up to the empty line. a.Status is neither Unknown nor Full.
func (w *words) appendAnswer(out []byte, op store.Op, a *store.Answer) []byte {
	found := a.Status == store.OK && (op == store.Get || op == store.Acquire)
	if !found && !a.Init && a.Status != store.Locked {
		return append(out, w.empty[a.Status]...)
	}
	out = append(out, w.head[a.Status]...)
	if a.Init {
		out = append(out, actionFlags...)
	}
	switch {
	case a.Status == store.Locked:
		out = appendLock(out, a, time.Now())
	case found:
		if op == store.Acquire {
			out = appendNumber(out, cookieIs, int64(a.Cookie))
		}
		out = appendNumber(out, timeoutIs, int64(a.Timeout))
	}
	out = appendNumber(out, lengthIs, int64(len(a.Body)))
	return append(out, end...)
}

// appendLock appends what a 423 says of the lock. LockDate is in the server's local time, as that
// was when the lock was taken.
func appendLock(out []byte, a *store.Answer, now time.Time) []byte {
	out = appendNumber(out, dateIs, ticks(now.Add(-a.LockAge)))
	out = appendNumber(out, ageIs, int64(a.LockAge/time.Second))
	return appendNumber(out, cookieIs, int64(a.Cookie))
}

// epochTicks is 1970-01-01 in .NET's ticks.
const epochTicks = 621_355_968_000_000_000

// ticks gives t as .NET counts local time: in units of 100 ns since the first day of year 1.
func ticks(t time.Time) int64 {
	_, offset := t.Zone()
	return epochTicks + (t.Unix()+int64(offset))*1e7 + int64(t.Nanosecond())/100
}

func appendNumber(out []byte, name string, n int64) []byte {
	return strconv.AppendInt(append(out, name...), n, 10)
}
