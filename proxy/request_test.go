package proxy

import (
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"peerstate/store"
)

// parse reads a head from memory.
func parse(t *testing.T, text string) (*request, refusal) {
	t.Helper()
	r := new(request)
	in := newReader(&script{in: []byte(text)}, new(atomic.Bool))
	if err := in.await(0); err != nil {
		t.Fatal(err)
	}
	why, err := r.readHead(&in, 1000)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return r, why
}

func TestHeadersMeanTheSameInAnyCaseAndWithAnySpace(t *testing.T) {
	for _, lines := range []string{
		"Timeout:30\r\nLockCookie:7\r\nExtraFlags:-2\r\nContent-Length:5\r\nExpect:100-continue",
		"TIMEOUT: 30 \r\nlock-cookie: \t7\r\nextraflags:\t-2\t\r\ncontent-length:   5\r\nexpect: 100-Continue",
		"timeout:+30\r\nLOCKCOOKIE:0007\r\nExtraFlags: -0002\r\nContent-Length: 05\r\nEXPECT: 100-CONTINUE",
	} {
		r, why := parse(t, "PUT /a HTTP/1.1\r\n"+lines+"\r\nHost:\r\nX-Other: ü\r\n\r\n")
		if why != sound || r.fault() != sound {
			t.Fatalf("%q: refusal %d, fault %d", lines, why, r.fault())
		}
		if r.Op != store.Put || r.Timeout != 30 || r.Cookie != 7 || r.Flags != -2 || r.length != 5 || !r.expect || r.last {
			t.Errorf("%q: %+v", lines, r)
		}
	}
}

func TestWhatARequestDoesNotSayHasItsDefault(t *testing.T) {
	r, why := parse(t, "PUT /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
	if why != sound || r.Timeout != 20 || r.Cookie != store.NoCookie || r.Flags != 0 || r.expect || r.last {
		t.Errorf("refusal %d, %+v", why, r)
	}
}

func TestOnlyAGetCanBeExclusive(t *testing.T) {
	for _, test := range []struct {
		method, value string
		want          store.Op
	}{
		{"GET", "acquire", store.Acquire},
		{"GET", "ReLease", store.Release},
		{"GET", "", store.Get},
		{"GET", "acquired", store.Get},
		{"GET", "acquire\r\nExclusive: release", store.Release}, // the last one counts
		{"GET", "acquire\r\nExclusive: none", store.Get},
		{"PUT", "acquire", store.Put},
		{"DELETE", "release", store.Delete},
		{"HEAD", "acquire", store.Head},
	} {
		r, why := parse(t, test.method+" /a HTTP/1.1\r\nExclusive: "+test.value+"\r\nContent-Length: 0\r\n\r\n")
		if why != sound || r.Op != test.want {
			t.Errorf("%s with Exclusive %q: refusal %d, %v, want %v", test.method, test.value, why, r.Op, test.want)
		}
	}
}

func TestNumbersAreReadAsDotNetReadsThem(t *testing.T) {
	for text, want := range map[string]int32{
		"0": 0, "-0": 0, "+0": 0, "007": 7, "-1": -1, "+12": 12,
		"2147483647": math.MaxInt32, "-2147483648": math.MinInt32,
		strings.Repeat("0", 100) + "1": 1,
	} {
		if got, ok := parseInt32([]byte(text)); !ok || got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "-", "+", "--1", "1-", " 1", "1 2", "0x1", "1.0", "2147483648", "-2147483649",
		"99999999999999999999999999999999", "١"} {
		if got, ok := parseInt32([]byte(text)); ok {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func TestBadValuesAreFaultsOnlyWhereTheyMatter(t *testing.T) {
	for _, test := range []struct {
		text   string
		fault  refusal
		cookie int32
	}{
		{"PUT /a HTTP/1.1\r\nTimeout: x", badTimeout, store.NoCookie},
		{"PUT /a HTTP/1.1\r\nTimeout:", badTimeout, store.NoCookie},
		{"PUT /a HTTP/1.1\r\nTimeout: -1", badTimeout, store.NoCookie},
		{"PUT /a HTTP/1.1\r\nTimeout: 525601", badTimeout, store.NoCookie},
		{"PUT /a HTTP/1.1\r\nTimeout: 525601\r\nTimeout: 5", sound, store.NoCookie},
		{"PUT /a HTTP/1.1\r\nExtraFlags: x", badFlags, store.NoCookie},
		{"PUT /a HTTP/1.1\r\nLockCookie: x", sound, store.BadCookie},
		{"PUT /a HTTP/1.1\r\nLockCookie: -1", sound, store.BadCookie},
		{"PUT /a HTTP/1.1\r\nLockCookie: 2147483648", sound, store.BadCookie},
		{"PUT /a HTTP/1.1\r\nLockCookie:", sound, store.BadCookie},
		{"GET /a HTTP/1.1\r\nTimeout: x\r\nExtraFlags: x", sound, store.NoCookie},
		{"POST /a HTTP/1.1", otherMethod, store.NoCookie},
		{"get /a HTTP/1.1", otherMethod, store.NoCookie},
	} {
		r, why := parse(t, test.text+"\r\nContent-Length: 0\r\n\r\n")
		if why != sound || r.fault() != test.fault || r.Cookie != test.cookie {
			t.Errorf("%q: refusal %d, fault %d, cookie %d", test.text, why, r.fault(), r.Cookie)
		}
	}
}

func TestControlCharactersAreFoundAtAnyPlace(t *testing.T) {
	for c := range 256 {
		want := c < 0x20 && c != '\t' || c == 0x7f
		for n := range 40 {
			for at := range n {
				b := []byte(strings.Repeat("\xff\x80\t a~", n))[:n]
				b[at] = byte(c)
				if hasControl(b) != want {
					t.Fatalf("%q: %v, want %v", b, !want, want)
				}
			}
		}
	}
}
