package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
)

// mostAnswer is the status of some hundreds of nodes with all their links.
const mostAnswer = 64 << 20 // bytes

// Ask asks the admin listener at an address, host:port, for the JSON at a path. It is an error if nobody, or somebody else,
// answers there, or if the address is empty or its port 0.
func Ask(ctx context.Context, addr, path string, to any) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return errors.New("there is no admin listener, or its port is only known to the sidecar")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
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
	return json.NewDecoder(io.LimitReader(answer.Body, mostAnswer)).Decode(to)
}
