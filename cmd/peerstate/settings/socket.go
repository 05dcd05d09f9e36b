package settings

import (
	"errors"
	"net"

	"peerstate/cmd/peerstate/control"
)

// ControlSocket is where the control socket is, by the settings: a path, or a pipe's name on Windows. It is an error if that
// is told by a port that only the sidecar knows.
func (s *Settings) ControlSocket() (string, error) {
	if s.Control != "" {
		return string(s.Control), nil
	}
	addr := s.Listen
	if addr == "" {
		addr = s.PeerListen
	}
	_, port, err := net.SplitHostPort(string(addr))
	if err != nil || port == "0" {
		return "", errors.New("there is no control socket, as the port is only known when the sidecar runs: set PEERSTATE_CONTROL")
	}
	return control.Default(port), nil
}
