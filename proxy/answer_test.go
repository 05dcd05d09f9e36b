package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peerstate/store"
)

func TestAnswersHaveTheHeadersOfTheRealServerInItsOrder(t *testing.T) {
	tests := []struct {
		op   store.Op
		a    store.Answer
		want []string
	}{
		{store.Get, store.Answer{Timeout: 20, Body: []byte("abc")},
			[]string{"200 OK", "X-AspNet-Version: 4.0.30319", "Timeout: 20", "Cache-Control: private", "Content-Length: 3"}},
		{store.Get, store.Answer{Timeout: 0},
			[]string{"200 OK", "X-AspNet-Version: 4.0.30319", "Timeout: 0", "Cache-Control: private", "Content-Length: 0"}},
		{store.Acquire, store.Answer{Init: true, Cookie: 2, Timeout: 20, Body: []byte("abc")},
			[]string{"200 OK", "X-AspNet-Version: 4.0.30319", "ActionFlags: 1", "LockCookie: 2", "Timeout: 20",
				"Cache-Control: private", "Content-Length: 3"}},
		{store.Release, store.Answer{},
			[]string{"200 OK", "X-AspNet-Version: 4.0.30319", "Cache-Control: private", "Content-Length: 0"}},
		{store.Release, store.Answer{Init: true, Status: store.BadRequest},
			[]string{"400 Bad Request", "X-AspNet-Version: 4.0.30319", "ActionFlags: 1", "Cache-Control: private", "Content-Length: 0"}},
		{store.Put, store.Answer{},
			[]string{"200 OK", "X-AspNet-Version: 4.0.30319", "Cache-Control: private", "Content-Length: 0"}},
		{store.Delete, store.Answer{Status: store.NotFound},
			[]string{"404 Not Found", "X-AspNet-Version: 4.0.30319", "Cache-Control: private", "Content-Length: 0"}},
		{store.Head, store.Answer{},
			[]string{"200 OK", "X-AspNet-Version: 4.0.30319", "Cache-Control: private", "Content-Length: 0"}},
		{store.Acquire, store.Answer{Init: true, Status: store.Locked, Cookie: 7, LockAge: 90*time.Second + 999*time.Millisecond},
			[]string{"423 Locked", "X-AspNet-Version: 4.0.30319", "ActionFlags: 1", "LockDate: *", "LockAge: 90", "LockCookie: 7",
				"Cache-Control: private", "Content-Length: 0"}},
	}
	for _, test := range tests {
		for start, bare := range map[string]bool{"HTTP/1.1 ": false, "": true} {
			got := string(newWords(bare).appendAnswer(nil, test.op, &test.a))
			want := start + strings.Join(test.want, "\r\n") + "\r\n\r\n"
			if date, rest, ok := strings.Cut(got, "LockDate: "); ok {
				_, rest, _ = strings.Cut(rest, "\r\n")
				got = date + "LockDate: *\r\n" + rest
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%v %+v\n%s", test.op, test.a, diff)
			}
		}
	}
}

// TestLockDateIsTheServersLocalTimeInTicks checks with figures that .NET's DateTime gives.
func TestLockDateIsTheServersLocalTimeInTicks(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for want, when := range map[int64]time.Time{
		621355968000000000: time.Unix(0, 0).UTC(),
		621356004000000000: time.Unix(0, 0).In(zone),
		638396640000000001: time.Date(2024, 1, 1, 0, 0, 0, 100, time.UTC),
		630822816000000000: time.Date(2000, 1, 1, 0, 0, 0, 99, zone),
	} {
		if got := ticks(when); got != want {
			t.Errorf("%v: %d, want %d", when, got, want)
		}
	}
}

func TestLockDateIsNowLessTheLocksAge(t *testing.T) {
	now := time.Date(2024, 1, 1, 12, 0, 0, 0, time.Local)
	got := string(appendLock(nil, &store.Answer{LockAge: 61 * time.Second, Cookie: 3}, now))
	want := fmt.Sprintf("\r\nLockDate: %d\r\nLockAge: 61\r\nLockCookie: 3", ticks(now.Add(-61*time.Second)))
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
