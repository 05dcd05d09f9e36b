package main

import (
	"context"
	"errors"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/service"
)

// watchCertificates puts changed certificate files in force while the node runs: when they change, and at
// each value from kick.
func (n *sidecar) watchCertificates(kick <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	n.running.Go(func() {
		if err := certs.Watch(ctx, n.settings.CertDir, kick, n.reloadCertificates); err != nil {
			n.log.Error("changes of the certificate files are not noticed; after one, restart this node", "error", err)
		}
	})
	n.onStop(func(context.Context) error {
		cancel()
		return nil
	})
}

// reloadCertificates reads the files, and puts what they hold in force if it can be used. If not, what was read
// before stays, and the operator is told until the files are mended: in the log once for each trouble, and each
// time it was asked for.
func (n *sidecar) reloadCertificates(asked bool) (usable bool) {
	n.system.Report(service.Reloading)
	defer n.system.Report(service.Ready)
	err := n.mesh.UpdateCerts(func(now *certs.Snapshot) (*certs.Snapshot, error) {
		fresh, err := certs.Reload(n.settings.CertDir, now, time.Now())
		if fresh == nil || fresh.Same(now) {
			return nil, err
		}
		return fresh, err
	})
	switch before := n.unusable.Load(); {
	case err != nil:
		n.unusable.Store(&err)
		if !asked && before != nil && (*before).Error() == err.Error() {
			break
		}
		n.log.Error("the certificate files have changed and cannot be used; what was read before stays in force", certificateTrouble(err)...)
	case before != nil:
		n.unusable.Store(nil)
		n.log.Info("the certificate files can be used again")
	}
	return err == nil
}

// certificateTrouble is what is wrong, for the log.
func certificateTrouble(err error) []any {
	if f, ok := errors.AsType[*certs.FileError](err); ok {
		return []any{"file", f.Path, "error", f.Err, "advice", f.Remedy}
	}
	return []any{"error", err}
}
