package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"

	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/settings"
)

// askSidecar has the sidecar that runs with these settings carry out a command. each gets the command's
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
	err = control.Call(ctx, socket, command, args, func(line json.RawMessage) {
		var report T
		if err := json.Unmarshal(line, &report); err != nil {
			failed = errors.Join(failed, err)
			return
		}
		failed = errors.Join(failed, each(report))
	})
	return errors.Join(err, failed)
}

// fromAdmin asks the admin listener of the sidecar that runs with these settings for JSON.
func fromAdmin(ctx context.Context, s *settings.Settings, path string, to any) error {
	_, port, err := net.SplitHostPort(string(s.AdminListen))
	if err != nil || port == "0" {
		return errors.New("there is no admin listener, or its port is only known to the sidecar")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.AdminListen.Reachable()+path, nil)
	if err != nil {
		return err
	}
	// Its own transport: no proxy of the environment, and no connection left open.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close() // it was read as far as it is of use
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	const most = 64 << 20 // the status of some hundreds of nodes with all their links
	return json.NewDecoder(io.LimitReader(answer.Body, most)).Decode(to)
}
