package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/settings"
	"peerstate/store"
	"peerstate/store/journal"
)

// aloneNode is whose the journal of a node without peers is. It has no name of its own: that of the machine may change.
const aloneNode = "stand-alone"

// openJournal loads the sessions from the data directory and keeps it up to date.
func (n *sidecar) openJournal() error {
	o := store.JournalOptions{Dir: n.settings.DataDir, Node: aloneNode, Every: time.Duration(n.settings.DataSync)}
	if n.certs != nil {
		o.Farm, o.Node = n.certs.Self().Farm, n.name
	}
	err := n.store.OpenJournal(o)
	switch {
	case errors.Is(err, journal.ErrInUse):
		return fmt.Errorf("PEERSTATE_DATA_DIR: %w", err) // that process may be about to end
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

// checkDataDir looks whether serve could use the data directory.
func checkDataDir(s *settings.Settings, runs bool) finding {
	farm, node := "", aloneNode
	if s.CertDir != "" {
		node = ""
		if snap, err := certs.Load(s.CertDir, time.Now()); err == nil { // the certificates are looked at by themselves
			farm, node = snap.Self().Farm, snap.Self().Node
		}
	}
	err := journal.Check(s.DataDir, farm, node)
	another := "set PEERSTATE_DATA_DIR to a directory of this node's own"
	switch {
	case err == nil:
		return good("%s can be used for the journal", s.DataDir)
	case errors.Is(err, fs.ErrNotExist):
		return warning("PEERSTATE_DATA_DIR: "+s.DataDir+" does not exist; it is made at the first start",
			"nothing, if this is the first start; else set it to where the journal is, or sessions are not found again")
	case errors.Is(err, journal.ErrInUse) && runs:
		return good("%s is used by the peerstate that runs here", s.DataDir)
	case errors.Is(err, journal.ErrInUse):
		return fault("PEERSTATE_DATA_DIR: "+s.DataDir+": another process uses it", "stop that one, or "+another)
	case errors.Is(err, journal.ErrForeign), errors.Is(err, journal.ErrNewer):
		return fault("PEERSTATE_DATA_DIR: "+s.DataDir+": "+err.Error(), another)
	}
	return fault("PEERSTATE_DATA_DIR: "+s.DataDir+": "+err.Error(), "let the account that runs peerstate write there, or "+another)
}
