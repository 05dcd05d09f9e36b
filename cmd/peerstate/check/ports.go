package check

import (
	"context"
	"errors"
	"io"
	"time"

	"peerstate/cmd/peerstate/admin"
	"peerstate/cmd/peerstate/ports"
	"peerstate/cmd/peerstate/settings"
)

// checkPorts looks whether serve could listen. What the sidecar that runs here has already is not tried.
func checkPorts(ctx context.Context, s *settings.Settings, r *runningSidecar) []Finding {
	var all []Finding
	try := func(setting, use string, addr settings.ListenAddr, listen func() (io.Closer, error)) {
		if addr == "" || r.has(setting, string(addr)) {
			return
		}
		l, err := listen()
		if f, ok := errors.AsType[*ports.Fault](err); ok {
			all = append(all, fault(f.What, f.Mend))
			return
		}
		if err := l.Close(); err != nil {
			all = append(all, warning(setting+": "+err.Error(), ""))
			return
		}
		all = append(all, good("%s is free for %s", addr, use))
	}
	tcp := func(setting string, addr settings.ListenAddr) func() (io.Closer, error) {
		return func() (io.Closer, error) { return ports.ListenTCP(ctx, setting, addr) }
	}
	try("PEERSTATE_LISTEN", "the web server", s.Listen, tcp("PEERSTATE_LISTEN", s.Listen))
	try("PEERSTATE_ADMIN_LISTEN", "health, metrics and status", s.AdminListen, tcp("PEERSTATE_ADMIN_LISTEN", s.AdminListen))
	// Windows may let two programs have one port, if one has it for a single address only.
	if s.Listen != "" && ports.ASPNETStateRuns() {
		all = append(all, warning("Microsoft's own state service runs on this machine too, so it is not certain which of the two a web server reaches",
			ports.DisableASPNETState))
	}
	if s.CertDir != "" {
		try("PEERSTATE_PEER_LISTEN", "the peers (UDP)", s.PeerListen, func() (io.Closer, error) {
			return ports.ListenUDP(ctx, "PEERSTATE_PEER_LISTEN", s.PeerListen)
		})
	}
	return all
}

// askAdmin asks the admin listener whether a sidecar with these settings runs. nil: none, or one
// that has no admin listener.
func askAdmin(ctx context.Context, s *settings.Settings) *admin.Status {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var status admin.Status
	if err := admin.Ask(ctx, s.AdminListen.Reachable(), "/api/status", &status); err != nil || status.Version == "" {
		return nil // it does not run, or something else has the port
	}
	return &status
}
