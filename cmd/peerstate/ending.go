package main

import (
	"context"
	"fmt"
	"time"

	"peerstate/cmd/peerstate/ending"
)

// Certificates that nobody replaces end, and with them the node's links. So the log says it.

// warnOfEndings keeps looking at the CAs in force. Of the node's own certificate the mesh speaks, which knows why it
// is not renewed.
func (n *sidecar) warnOfEndings() {
	ctx, cancel := context.WithCancel(context.Background())
	n.running.Go(func() {
		t := time.NewTicker(time.Minute)
		defer t.Stop()
		e := ending.NewLog(n.log)
		for {
			e.Look(time.Now(), ending.Of(n.mesh.Certs())[1:])
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
	for _, c := range ending.Of(n.mesh.Certs()) {
		if _, _, soon := ending.Urgency(c.Ends.Sub(now), c.Ends.Sub(c.Begun)); soon {
			warnings = append(warnings, fmt.Sprintf("%s ends on %s", c.What, c.Ends.UTC().Format("2006-01-02 15:04 UTC")))
		}
	}
	return warnings
}
