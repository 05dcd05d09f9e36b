package service

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place has names that need care in every kind of text.
var place = Place{
	Program: "/opt/a b/50% & <more>/peerstate", Env: "/etc/peerstate/peerstate.env", Data: "/var/lib/peerstate",
	Log: "/var/log/peerstate.log", Account: "peerstate",
}
