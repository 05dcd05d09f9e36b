package admin

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsLoggedAtInfoAndAboveIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		e := new(Events)
		log := slog.New(e.Over(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError})))
		log.Debug("a detail")
		log.With("farm", "shop").WithGroup("g").Info("linked", "peer", "web2", slog.Group("in", "a", 1), "since", time.Unix(0, 0), "stage", "")
		time.Sleep(time.Second)
		log.Warn("a link has ended\x1b[31m", "why", strings.Repeat("ä", 1000))
		log.Error("lost")
		all := e.Last()
		if len(all) != 3 {
			t.Fatalf("%d events", len(all))
		}
		if x := all[0]; x.Level != "error" || x.Text != "lost" || x.Number != 3 || x.Times != 1 {
			t.Errorf("%+v", x)
		}
		if x := all[1]; x.Level != "warn" || x.Text != "a link has ended [31m" || len(x.Details[0].Value) > maxDetail+len("…") {
			t.Errorf("%+v", x)
		}
		want := []Detail{{"farm", "shop"}, {"g.peer", "web2"}, {"g.in.a", "1"}, {"g.since", "1970-01-01 00:00:00 UTC"}}
		if diff := cmp.Diff(want, all[2].Details); diff != "" {
			t.Error(diff)
		}
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "lost") {
			t.Errorf("the log has %q, and is to have errors only", got)
		}
	})
}

func TestAnEventThatComesAgainIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(Events)
		log := slog.New(e.Over(slog.DiscardHandler))
		for i := range 1000 {
			log.Warn("two copies", "peer", "web2", "session", i)
			log.Warn("two copies", "peer", "web3", "session", i)
			log.Info("ready")
		}
		all := e.Last()
		if len(all) != 3 || all[2].Times != 1000 || all[1].Times != 1000 || all[2].Details[1].Value != "999" {
			t.Errorf("%+v", all)
		}
		time.Sleep(2 * time.Minute)
		log.Info("ready")
		if all := e.Last(); len(all) != 4 || all[0].Times != 1 {
			t.Errorf("two minutes later: %+v", all)
		}
		for i := range 2 * maxEvents {
			log.Info("another", "peer", i)
		}
		if n := len(e.Last()); n != maxEvents {
			t.Errorf("%d events are kept", n)
		}
	})
}
