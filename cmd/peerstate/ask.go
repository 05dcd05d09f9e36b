package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/settings"
)

// askSidecar has the sidecar that runs with these settings carry out a command; one that is another node than
// they are of does not ([control.AnotherError]). each gets the command's
// reports as they come; it may be nil if there are none.
func askSidecar[T any](ctx context.Context, read func() (*settings.Settings, error), command string, args url.Values, each func(T) error) error {
	s, err := read()
	if err != nil {
		return err
	}
	socket, err := s.ControlSocket()
	if err != nil {
		return usage("%w", err)
	}
	var failed error
	err = control.Call(ctx, socket, control.NodeOf(s.CertDir), command, args, func(line json.RawMessage) {
		var report T
		if err := json.Unmarshal(line, &report); err != nil {
			failed = errors.Join(failed, err)
			return
		}
		failed = errors.Join(failed, each(report))
	})
	return errors.Join(err, failed)
}
