package ending

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"
)

func TestAnEndThatComesNearerIsSaidLouderAndMoreOften(t *testing.T) {
	const day = 24 * time.Hour
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		life  time.Duration
		lines map[string]int // in 40 days before the end and 1 day after, by level
	}{
		"two years, by hand":   {730 * day, map[string]int{"WARN": 23 + 12, "ERROR": 24 + 24}},
		"90 days, renewed":     {90 * day, map[string]int{"WARN": 15 + 1 + 12, "ERROR": 24 + 24}},
		"replaced in time":     {0, map[string]int{}},
		"one that is in order": {4000 * day, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			e := NewLog(slog.New(slog.NewTextHandler(&out, nil)))
			e1 := Ending{What: "this node's certificate", Serial: "1", Begun: noon, Ends: noon.Add(c.life), Advice: "renew it"}
			begin, during := e1.Ends.Add(-40*day), 41*day
			switch {
			case c.lines == nil:
				begin = noon
			case c.life == 0: // another one with a third of 90 days left
				e1.Ends, begin, during = noon.Add(90*day), noon, 120*day
			}
			for now := begin; now.Before(begin.Add(during)); now = now.Add(time.Minute) {
				if c.life == 0 && now.Equal(noon.Add(60*day)) {
					e1.Serial, e1.Begun, e1.Ends = "2", now, now.Add(90*day)
				}
				e.Look(now, []Ending{e1})
			}
			got := map[string]int{}
			for line := range strings.Lines(out.String()) {
				_, level, _ := strings.Cut(line, "level=")
				level, _, _ = strings.Cut(level, " ")
				got[level]++
			}
			if want := c.lines; !maps.Equal(got, want) {
				t.Errorf("it logs %v, want %v\n%s", got, want, out.String())
			}
		})
	}
}
