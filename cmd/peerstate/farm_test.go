package main

import (
	"testing"

	"peerstate/transport"
)

func TestTheWarningAboutAPeerSaysWhatItsStateMeans(t *testing.T) {
	for _, c := range []struct {
		peer transport.PeerStatus
		want string
	}{
		{transport.PeerStatus{Node: "web2", State: transport.Out, Reason: "no answer on UDP"}, "peer web2 is out: no answer on UDP"},
		{transport.PeerStatus{Addr: "10.0.0.2:42425", State: transport.Refused, Reason: "another farm"}, "peer 10.0.0.2:42425 is refused: another farm"},
		{transport.PeerStatus{Node: "web2", State: transport.Drained}, "peer web2 is drained (it has stopped, and left no session behind)"},
	} {
		if got := peerWarning(c.peer); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
