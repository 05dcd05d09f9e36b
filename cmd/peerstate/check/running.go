package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/machine"
	"peerstate/cmd/peerstate/settings"
	"peerstate/transport"
)

// Insight is what a running sidecar tells check: what only that process knows.
type Insight struct {
	Node     string                 `json:"node"`
	Version  string                 `json:"version"`
	NotReady string                 `json:"not_ready"` // why; empty: it is ready
	Warnings []string               `json:"warnings"`  // those of /readyz
	Settings map[string]string      `json:"settings"`  // in force there, by their names
	Machine  machine.Limits         `json:"machine"`
	Sessions int64                  `json:"sessions"` // bytes of those that it holds, and of backups
	Peers    []Peer                 `json:"peers"`
	Links    []transport.LinkStatus `json:"links"`
}

// Peer is another node as the running one sees it.
type Peer struct {
	Node    string          `json:"node"`
	Site    string          `json:"site"`
	Addr    string          `json:"addr"`
	Version string          `json:"version"`
	State   transport.State `json:"state"`
	Offset  time.Duration   `json:"offset"` // its clock minus this node's
}

// runningSidecar is one that has been found to run with the settings that are checked.
type runningSidecar struct {
	node, version string
	told          *Insight // nil: it answers on its admin listener only
}

// findRunning looks for a sidecar that runs with these settings; nil: there is none, or another node's, which is a
// finding. It asks at the control socket, and otherwise at the admin listener, which tells less.
func findRunning(ctx context.Context, s *settings.Settings) (*runningSidecar, []Finding) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	self := control.NodeOf(s.CertDir)
	socket, err := s.ControlSocket()
	if err == nil {
		told := new(Insight)
		err = control.Call(ctx, socket, self, "check", nil, func(line json.RawMessage) {
			if err := json.Unmarshal(line, told); err != nil {
				told = nil // of some other version: as if it had not been asked
			}
		})
		if err == nil && told != nil && told.Version != "" {
			return &runningSidecar{told.Node, told.Version, told}, nil
		}
	}
	var found []Finding
	status := askAdmin(ctx, s)
	another, is := errors.AsType[*control.AnotherError](err)
	if !is && status != nil {
		another, is = errors.AsType[*control.AnotherError](self.Another(control.Named(status.Farm, status.Node), s.AdminListen.Reachable()))
	}
	switch {
	case is:
		return nil, []Finding{fault(another.What, control.AnotherRemedy)}
	case status != nil && errors.Is(err, control.ErrOther): // checkRunning says that it is another version
	case status != nil && socket != "" && err != nil:
		found = append(found, warning(fmt.Sprintf("a peerstate answers at PEERSTATE_ADMIN_LISTEN, but not at the control socket: %v", err),
			"run check, drain and the other commands with the settings, and under the account, that it was started with"))
	case err != nil && !errors.Is(err, control.ErrNotRunning) && (socket == "" || !errors.Is(control.Check(socket), control.ErrForeign)):
		found = append(found, warning("no sidecar can be asked at the control socket: "+err.Error(), ""))
	case err != nil:
		if err := control.Check(socket); err != nil {
			found = append(found, fault("PEERSTATE_CONTROL: "+err.Error(),
				"set it to a path that the account of peerstate may make; without a control socket drain, forget and the commands about certificates do not work"))
		} else {
			found = append(found, good("%s can be the control socket", socket))
		}
	}
	if status == nil {
		return nil, found
	}
	return &runningSidecar{status.Node, status.Version, nil}, found
}

// checkRunning looks at what a running sidecar tells of itself.
func checkRunning(s *settings.Settings, r *runningSidecar, version string) (all []Finding) {
	all = append(all, good("a peerstate %s runs here (node %s), so its ports are in use", r.version, r.node))
	if r.version != version {
		all = append(all, warning(fmt.Sprintf("this program is version %s, the one that runs is %s", version, r.version), "restart it to have the other version run"))
	}
	t := r.told
	if t == nil {
		return all
	}
	if changed := t.changed(s); len(changed) > 0 {
		all = append(all, warning("the settings are not those that the running peerstate was started with: "+strings.Join(changed, "; "), "restart it to have the new ones in force"))
	}
	if t.NotReady != "" {
		all = append(all, warning("it is not ready: "+t.NotReady, ""))
	}
	for _, w := range t.Warnings {
		if !strings.HasPrefix(w, "peer ") && !(t.up() == 0 && strings.HasPrefix(w, "PEERSTATE_BACKUPS ")) { // check says those itself
			all = append(all, warning("it warns: "+w, ""))
		}
	}
	return all
}

// up counts the other nodes that are up.
func (t *Insight) up() (n int) {
	for _, p := range t.Peers {
		if p.State == transport.Up {
			n++
		}
	}
	return n
}

// changed names the settings that are other ones now.
func (t *Insight) changed(s *settings.Settings) (all []string) {
	for _, f := range s.InForce {
		old, known := t.Settings[f.Name]
		if _, port, err := net.SplitHostPort(old); !known || old == f.Value || err == nil && port == "0" { // a port that the system chose
			continue
		}
		all = append(all, fmt.Sprintf("%s was %q and is %q", f.Name, old, f.Value))
	}
	return all
}

// has tells whether the running sidecar has the address of a setting.
func (r *runningSidecar) has(name, value string) bool {
	if r == nil {
		return false
	}
	if r.told == nil {
		return true // as far as is known
	}
	return r.told.Settings[name] == value
}
