package demo

import (
	"regexp"
	"testing"

	"peerstate/proxy/upstream/aspnetstate"
)

func TestASessionIDLooksLikeOneOfASPNET(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := NewSessionID()
		if seen[id] || !regexp.MustCompile(`^[a-z0-5]{24}$`).MatchString(id) {
			t.Fatalf("%q, after %d others", id, len(seen))
		}
		seen[id] = true
	}
}

// The double of Microsoft's service notes whatever the real client does not send.
func TestTheDemonstrationSpeaksAsTheRealClientDoes(t *testing.T) {
	s, err := aspnetstate.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	c, err := Connect(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() // all answers were read
	id := NewSessionID()
	for _, step := range []struct {
		method, header, body string
		want                 Answer
	}{
		{"GET", "Exclusive:acquire\r\n", "", Answer{Status: "404"}},
		{"PUT", "Timeout:20\r\nLockCookie:0\r\n", "1", Answer{Status: "200"}},
		{"GET", "Exclusive:acquire\r\n", "", Answer{Status: "200", Cookie: "2", Body: "1"}},
		{"GET", "Exclusive:acquire\r\n", "", Answer{Status: "423", Cookie: "2"}},
		{"PUT", "Timeout:20\r\nLockCookie:2\r\n", "22", Answer{Status: "200"}},
		{"GET", "", "", Answer{Status: "200", Body: "22"}},
		{"DELETE", "", "", Answer{Status: "200"}},
	} {
		if got, err := c.Do(step.method, id, step.header, step.body); err != nil || got != step.want {
			t.Errorf("%s with %q: %+v, %v", step.method, step.header, got, err)
		}
	}
	if wrong := s.Wrong(); len(wrong) > 0 {
		t.Errorf("the service found wrong: %q", wrong)
	}
}
