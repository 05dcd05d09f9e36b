package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"peerstate/examples/demo/demotest"
)

func TestNoCounterIsLostWhenOneOfThreeSitesIsKilled(t *testing.T) {
	program := demotest.Build(t, t.TempDir(), "peerstate/cmd/peerstate")
	play := func(t *testing.T, haproxy, config string) string {
		t.Helper()
		var out bytes.Buffer
		dir := filepath.Join(t.TempDir(), "run")
		s := &show{screen: screen{out: &out}, program: program, dir: dir, shop: demotest.FreeTCP(t), haproxy: haproxy, config: config,
			once: true, pause: time.Second}
		for _, site := range demotest.Sites(t, dir, "london", "tokyo", "sydney") {
			s.add(site, demotest.FreeTCP(t))
		}
		err := s.run(t.Context())
		if err != nil && haproxy == "" {
			t.Errorf("%v\n%s", err, &out)
		}
		if err != nil {
			return err.Error()
		}
		return out.String()
	}
	for name, haproxy := range map[string]string{"built in": "", "HAProxy": findHAProxy()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "HAProxy" && haproxy == "" {
				t.Skip("HAProxy is not installed (Debian: apt-get install haproxy)")
			}
			said := play(t, haproxy, "haproxy.cfg")
			for _, want := range []string{"-- sydney loses power", "-- all visitors are served by the other two", "-- sydney is back",
				"no counter ever lost one", "All have stopped."} {
				if !strings.Contains(said, want) {
					t.Errorf("it did not say %q:\n%s", want, said)
				}
			}
		})
	}
	t.Run("a wrong configuration", func(t *testing.T) {
		t.Parallel()
		if findHAProxy() == "" {
			t.Skip("HAProxy is not installed (Debian: apt-get install haproxy)")
		}
		if said := play(t, findHAProxy(), "main_test.go"); !strings.Contains(said, "haproxy has ended") {
			t.Errorf("it said %s", said)
		}
	})
}

func TestACounterThatGoesBackIsNoticed(t *testing.T) {
	for name, c := range map[string]struct {
		before, unsure, count int
		wrong                 bool
	}{
		"one more": {5, 0, 6, false}, "a page that counted unseen": {5, 1, 7, false}, "or did not": {5, 1, 6, false},
		"the same again": {5, 0, 5, true}, "a new session": {5, 0, 1, true}, "too many": {5, 0, 7, true},
	} {
		v := visitor{count: c.before, unsure: c.unsure}
		if v.saw("london", c.count); (v.wrong != nil) != c.wrong {
			t.Errorf("%s: %v", name, v.wrong)
		}
	}
}
