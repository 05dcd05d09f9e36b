package machine

import "testing"

func TestWhatTheSystemGivesIsMeasured(t *testing.T) {
	m, err := Measure()
	if err != nil || m.Receive <= 0 || m.Send <= 0 || m.Memory < 64<<20 {
		t.Errorf("%+v, %v", m, err)
	}
}
