package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"peerstate/certs"
)

// Certificates that nobody replaces end, and with them the node's links. So the log says it, the more often and the
// louder the nearer it comes.

// ending is a certificate and its end.
type ending struct {
	what   string
	serial string
	begun  time.Time // when it was issued
	ends   time.Time
	advice string
}

// endingsOf are those that this node depends on: its own, and its CA's.
func endingsOf(s *certs.Snapshot) []ending {
	self := s.Self()
	all := []ending{{"this node's certificate", self.Serial, self.Issued, self.Expires,
		"the farm's issuer renews it: see that its node runs and can be reached, and then \"peerstate cert renew\"; without an issuer, " +
			"issue another one with \"peerstate cert issue\", and copy its files over the old ones"}}
	for _, a := range s.Authorities() {
		if a.KeyID == self.IssuerKey {
			all = append(all, ending{"the farm's CA", a.Serial, a.From, a.Expires,
				"replace it with \"peerstate cert rotate-ca\" on the farm's issuer, or by hand; a node whose CA has ended can be linked with nobody"})
		}
	}
	return all
}

// urgency says how loud an end is to be spoken of that is left away, and how often; false: not yet. A node
// renews with a third of the certificate's life left, so that with a quarter left something is wrong. What
// lasts for years is spoken of 30 days ahead.
func urgency(left, life time.Duration) (level slog.Level, every time.Duration, soon bool) {
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

// endingLog remembers what was said.
type endingLog struct {
	log  *slog.Logger
	said map[string]saidEnding // by serial number
}

type saidEnding struct {
	at    time.Time
	every time.Duration
}

// look logs what is due.
func (e *endingLog) look(now time.Time, all []ending) {
	for _, c := range all {
		left := c.ends.Sub(now)
		level, every, soon := urgency(left, c.ends.Sub(c.begun))
		if !soon {
			continue
		}
		// When it has become more urgent the old pause does not count.
		if said, ok := e.said[c.serial]; ok && now.Sub(said.at) < min(every, said.every) {
			continue
		}
		e.said[c.serial] = saidEnding{now, every}
		text := c.what + " ends soon, and has not been replaced"
		if left < 0 {
			text = c.what + " has ended: other nodes refuse this one"
		}
		e.log.Log(context.Background(), level, text, "ends", c.ends, "left", left.Round(time.Second), "serial", c.serial, "advice", c.advice)
	}
}

// warnOfEndings keeps looking at the CAs in force. Of the node's own certificate the mesh speaks, which knows why it
// is not renewed.
func (n *sidecar) warnOfEndings() {
	ctx, cancel := context.WithCancel(context.Background())
	n.running.Go(func() {
		t := time.NewTicker(time.Minute)
		defer t.Stop()
		e := &endingLog{n.log, map[string]saidEnding{}}
		for {
			e.look(time.Now(), endingsOf(n.mesh.Certs())[1:])
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	n.onStop(func(context.Context) error {
		cancel()
		return nil
	})
}

// certificateWarnings are lines about the certificates for /readyz.
func (n *sidecar) certificateWarnings() (warnings []string) {
	if err := n.unusable.Load(); err != nil {
		warnings = append(warnings, fmt.Sprintf("the certificate files have changed and cannot be used; what was read before stays in force: %v", *err))
	}
	if since := n.mesh.Revoked(); !since.IsZero() {
		warnings = append(warnings, fmt.Sprintf("this node is revoked: the other nodes have refused it since %s; \"peerstate cert token %s\" on the farm's issuer "+
			"invites it anew", since.UTC().Format("2006-01-02 15:04 UTC"), n.name))
	}
	now := time.Now()
	for _, c := range endingsOf(n.mesh.Certs()) {
		if _, _, soon := urgency(c.ends.Sub(now), c.ends.Sub(c.begun)); soon {
			warnings = append(warnings, fmt.Sprintf("%s ends on %s", c.what, c.ends.UTC().Format("2006-01-02 15:04 UTC")))
		}
	}
	return warnings
}
