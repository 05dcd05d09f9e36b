package certs

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

var nonce = bytes.Repeat([]byte{1}, MinNonce)

func TestAConfirmationTellsWhoHasWhichDocument(t *testing.T) {
	now := time.Now()
	ca := newCA(t, "farm", now)
	web1, web2 := newNode(t, ca, "web1", now), newNode(t, ca, "web2", now)
	for _, number := range []uint64{0, 7} {
		if number > 0 {
			web1.document = newDocument(t, ca, number)
		}
		data, err := web1.Confirm(nonce)
		if err != nil {
			t.Fatal(err)
		}
		got, err := web2.Confirmed(data, nonce)
		if want := (Confirmation{web1.Self(), number}); err != nil || got != want {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
}

func TestAConfirmationThatProvesTooLittleCountsForNothing(t *testing.T) {
	now := time.Now()
	ca, other := newCA(t, "farm", now), newCA(t, "farm", now)
	issuer := newNode(t, ca, "web1", now)
	web2, web3, stranger := newNode(t, ca, "web2", now), newNode(t, ca, "web3", now), newNode(t, other, "web2", now)
	issuer.trust = issuer.trust.under(newDocument(t, ca, 1, Revocation{Node: "web3", Before: now}))
	made := func(s *Snapshot, change func(*confirmationWire)) []byte {
		data, err := s.Confirm(nonce)
		if err != nil {
			t.Fatal(err)
		}
		var w confirmationWire
		if err := decoding.Unmarshal(data, &w); err != nil {
			t.Fatal(err)
		}
		change(&w)
		if data, err = encoding.Marshal(w); err != nil {
			t.Fatal(err)
		}
		return data
	}
	asIs := func(*confirmationWire) {}
	for name, c := range map[string]struct {
		data, nonce []byte
		says        string
		reason      Reason
	}{
		"junk":                  {[]byte("junk"), nonce, "not a confirmation", 0},
		"nothing":               {nil, nonce, "not a confirmation", 0},
		"far too large":         {make([]byte, MaxConfirmation+1), nonce, "at most", 0},
		"for another question":  {made(web2, asIs), bytes.Repeat([]byte{2}, MinNonce), "for this question", 0},
		"for no question":       {made(web2, asIs), nil, "a nonce has 16 to 64 bytes", 0},
		"another number":        {made(web2, func(w *confirmationWire) { w.Number = 9 }), nonce, "for this question", 0},
		"another's certificate": {made(web2, func(w *confirmationWire) { w.Certificate = issuer.cert.Leaf.Raw }), nonce, "for this question", 0},
		"no certificate":        {made(web2, func(w *confirmationWire) { w.Certificate = nil }), nonce, "cannot be read", Unreadable},
		"another CA":            {made(stranger, asIs), nonce, "another CA", AnotherCA},
		"revoked":               {made(web3, asIs), nonce, "revoked", Revoked},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := issuer.Confirmed(c.data, c.nonce)
			if err == nil || got != (Confirmation{}) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, error %v; want one with %q", got, err, c.says)
			}
			if r, ok := RefusalOf(err); ok != (c.reason != 0) || ok && r.Reason != c.reason {
				t.Errorf("the refusal is %v, want %v", r, c.reason)
			}
		})
	}
	for _, n := range []int{0, MinNonce - 1, MaxNonce + 1} {
		if _, err := web2.Confirm(make([]byte, n)); err == nil {
			t.Errorf("a nonce of %d bytes is answered", n)
		}
	}
}
