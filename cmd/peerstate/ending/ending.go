// Package ending tells which certificates a node depends on, when they end, and how urgent that is.
package ending

import (
	"log/slog"
	"math"
	"time"

	"peerstate/certs"
)

// Ending is a certificate and its end, with what to do about it.
type Ending struct {
	What   string
	Serial string
	Begun  time.Time // when it was issued
	Ends   time.Time
	Advice string
}

// Of are those that this node depends on: its own, and its CA's.
func Of(s *certs.Snapshot) []Ending {
	self := s.Self()
	all := []Ending{{"this node's certificate", self.Serial, self.Issued, self.Expires,
		"the farm's issuer renews it: see that its node runs and can be reached, and then \"peerstate cert renew\"; without an issuer, " +
			"issue another one with \"peerstate cert issue\", and copy its files over the old ones"}}
	for _, a := range s.Authorities() {
		if a.KeyID == self.IssuerKey {
			all = append(all, Ending{"the farm's CA", a.Serial, a.From, a.Expires,
				"replace it with \"peerstate cert rotate-ca\" on the farm's issuer, or by hand; a node whose CA has ended can be linked with nobody"})
		}
	}
	return all
}

// Days is a time in whole days, as all commands and pages show it: the nearest, so that a certificate that was made
// for 90 days a moment ago has 90, and not 89.
func Days(d time.Duration) int {
	return int(math.Round(d.Hours() / 24))
}

// Urgency says how loud an end is to be spoken of that is left away, and how often, for a certificate of that life; false: not yet. A node
// renews with a third of the certificate's life left, so that with a quarter left something is wrong. What
// lasts for years is spoken of 30 days ahead.
func Urgency(left, life time.Duration) (level slog.Level, every time.Duration, soon bool) {
	const day = 24 * time.Hour
	switch {
	case left < min(day, life/90):
		return slog.LevelError, min(time.Hour, life/90), true
	case left < min(7*day, life/12):
		return slog.LevelWarn, min(12*time.Hour, life/90), true
	case left < min(30*day, life/4):
		return slog.LevelWarn, min(day, life/90), true
	}
	return 0, 0, false
}
