package certs

import (
	"crypto/ecdsa"
	"testing"
	"time"
)

func newRequest(t testing.TB, s *Snapshot, now time.Time) *Request {
	t.Helper()
	r, err := NewRequest(s, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARequestTellsWhoAsksAndForWhichKey(t *testing.T) {
	ca := newCA(t, "farm", noon)
	s := newNode(t, ca, "web1", noon)
	r := newRequest(t, s, noon)
	for _, now := range []time.Time{noon, noon.Add(time.Hour), noon.Add(-time.Hour)} {
		peer, key, err := parseRequest(r.Bytes(), ca.trust, now)
		if err != nil {
			t.Fatal(err)
		}
		if peer != s.Self() || !key.Equal(&r.key.PublicKey) || key.Equal(&s.cert.PrivateKey.(*ecdsa.PrivateKey).PublicKey) {
			t.Errorf("%v asks for %v", peer, key)
		}
	}
}
