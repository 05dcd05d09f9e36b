package certs

import (
	"bytes"
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
