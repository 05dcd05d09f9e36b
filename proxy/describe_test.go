package proxy

import (
	"bytes"
	"strings"
	"testing"

	"peerstate/store"
)

func TestAHeadIsDescribedAsTheListenerReadsIt(t *testing.T) {
	d := Describe([]byte(head("GET", "Exclusive: Acquire", "Lock-Cookie: 7") + "\r\n"))
	if d.Refused != "" || d.Op != store.Acquire || d.Cookie != 7 || string(d.Key) != key {
		t.Errorf("an acquire is described as %+v", d)
	}
	for in, why := range map[string]string{
		head("PUT") + "\r\n":  "without Content-Length",
		head("POST") + "\r\n": "a method other than",
		head("PUT", "Content-Length: 1", "Timeout: x") + "\r\n": "timeout",
		"GET a HTTP/1.1\n\n":                           "without a carriage return",
		"GET a HTTP/1.1\r\n":                           "no HTTP/1.1 request",
		"GET a HTTP/1.1\r\n\r\nGET b HTTP/1.1\r\n\r\n": "no HTTP/1.1 request",
		"": "no HTTP/1.1 request",
	} {
		if d := Describe([]byte(in)); !strings.Contains(d.Refused, why) {
			t.Errorf("%q is refused because of %q", in, d.Refused)
		}
	}
}

// FuzzDescribe: any head is described, without a byte of it being changed.
func FuzzDescribe(f *testing.F) {
	for _, seed := range []string{put("x"), get(), acquire(), "\r\n\r\n", "\r\n" + get(), "GET a HTTP/1.1\n\n", "GET a HTTP/1.1\r\nX: y\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		was := bytes.Clone(in)
		Describe(in)
		if !bytes.Equal(in, was) {
			t.Error("the head was changed")
		}
	})
}
