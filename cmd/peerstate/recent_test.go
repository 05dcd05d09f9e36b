package main

import (
	"testing"

	"peerstate/cmd/peerstate/admin"
	"peerstate/proxy"
	"peerstate/store"
)

func TestRequestsThatGetNoAnswerAreCountedAsSuch(t *testing.T) {
	var r admin.Reading
	countRequests(&r, &[proxy.Statuses]uint64{store.OK: 1, store.BadRequest: 10, store.NotFound: 100, store.Locked: 1000, store.Unknown: 10_000, store.Full: 100_000})
	if r.Requests != 111_111 || r.Refused != 110_000 || r.Locked != 1000 {
		t.Errorf("of 111,111 requests %d are counted, %d as without an answer, %d as locked", r.Requests, r.Refused, r.Locked)
	}
}
