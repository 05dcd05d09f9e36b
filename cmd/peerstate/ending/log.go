package ending

import (
	"context"
	"log/slog"
	"time"
)

// Log speaks of ends, the more often and the louder the nearer they come. It is for one goroutine.
type Log struct {
	log  *slog.Logger
	said map[string]saying // by serial number
}

// saying is when something was said, and for how long it holds.
type saying struct {
	at    time.Time
	every time.Duration
}

// NewLog makes a Log that has said nothing yet.
func NewLog(log *slog.Logger) *Log { return &Log{log, map[string]saying{}} }

// Look logs what is due. To be called once a minute or so.
func (e *Log) Look(now time.Time, all []Ending) {
	for _, c := range all {
		left := c.Ends.Sub(now)
		level, every, soon := Urgency(left, c.Ends.Sub(c.Begun))
		if !soon {
			continue
		}
		// When it has become more urgent the old pause does not count.
		if said, ok := e.said[c.Serial]; ok && now.Sub(said.at) < min(every, said.every) {
			continue
		}
		e.said[c.Serial] = saying{now, every}
		text := c.What + " ends soon, and has not been replaced"
		if left < 0 {
			text = c.What + " has ended: other nodes refuse this one"
		}
		e.log.Log(context.Background(), level, text, "ends", c.Ends, "left", left.Round(time.Second), "serial", c.Serial, "advice", c.Advice)
	}
}
