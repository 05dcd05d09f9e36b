package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"peerstate/cmd/peerstate/settings"
	"peerstate/store"
	"peerstate/store/journal"
)

// openJournal loads the sessions from the data directory and keeps it up to date.
func (n *sidecar) openJournal(ctx context.Context) error {
	o := store.JournalOptions{Dir: n.settings.DataDir, Node: settings.StandAlone, Every: time.Duration(n.settings.DataSync)}
	if n.certs != nil {
		o.Farm, o.Node = n.certs.Self().Farm, n.name
	}
	_, err := handedBack(ctx, n.log, func() (struct{}, error) { return struct{}{}, n.store.OpenJournal(o) })
	switch {
	case errors.Is(err, journal.ErrInUse):
		return fmt.Errorf("PEERSTATE_DATA_DIR: %w", err) // and not because of a setting, if that process ends a little later
	case err != nil:
		return usage("PEERSTATE_DATA_DIR: %w", err)
	}
	return nil
}

// comparing is what /readyz says while sessions from the journal cannot be served yet.
const comparing = "starting: the sessions in the journal are compared with those of the other nodes"

// becomeReady says that the sidecar is ready, as soon as the sessions from the journal have been compared.
func (n *sidecar) becomeReady() {
	if n.mesh == nil || !n.store.Recalled() {
		n.enter("")
		return
	}
	phase, done := comparing, ""
	n.phase.Store(&phase)
	ctx, cancel := context.WithCancel(context.Background())
	n.running.Go(func() {
		select {
		case <-n.mesh.Compared():
			n.phase.CompareAndSwap(&phase, &done) // unless it stops meanwhile
		case <-ctx.Done():
		}
	})
	n.onStop(func(context.Context) error {
		cancel()
		return nil
	})
}

// journalWarnings says that sessions are less safe than the operator wants.
func (n *sidecar) journalWarnings() (warnings []string) {
	j, ok := n.store.Journal()
	if ok && j.Failure != nil {
		warnings = append(warnings, fmt.Sprintf("changes of sessions do not get to disk since %s, so a crash now loses them: %v",
			j.FailedSince.Format(time.TimeOnly), j.Failure))
	}
	return warnings
}
