package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/settings"
	"peerstate/transport"
)

// probeTimeout is how long check waits for one peer.
const probeTimeout = 6 * time.Second

// checkPeers looks whether the other nodes can be reached and whether each side accepts the other's certificate, and at
// the farm as a whole: as the sidecar that runs here sees it, or else by what those say that were reached. All are asked
// at once. reached is how many other nodes there are that answer.
func checkPeers(ctx context.Context, s *settings.Settings, r *runningSidecar, version string) (all []Finding, reached int) {
	addrs, known := []string(s.Peers), false
	if r != nil && r.told != nil {
		all, reached = judgeFarm(s, r.told), r.told.up()
		addrs = missed(addrs, r.told.Peers)
	} else if len(addrs) == 0 {
		addrs, known = knownAddrs(s.CertDir), true
	}
	if len(addrs) == 0 {
		return append(all, noAddrs(s, r)), reached
	}
	snap, err := certs.Load(s.CertDir, time.Now())
	if err != nil {
		return all, reached // checkCertificates has said what is wrong
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	probed, found := make([]transport.Probed, len(addrs)), make([]Finding, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() {
			p, err := transport.Probe(ctx, snap, addr)
			probed[i], found[i] = p, judgePeer(addr, snap.Self().Node, p, err)
		})
	}
	wg.Wait()
	if known {
		all = append(all, mildly(found))
	}
	all = append(all, found...)
	for _, p := range probed {
		all = append(all, judgeAliases(s.AppAliases.Digest(), snap.Self().Node, p)...)
	}
	if r == nil || r.told == nil {
		others := slices.DeleteFunc(probed, func(p transport.Probed) bool { return p.Node == "" || p.Node == snap.Self().Node })
		all, reached = append(all, judgeProbed(s, snap.Self().Node, version, others)...), len(others)
	}
	return all, reached
}

// missed adds to the configured addresses those of nodes that the running sidecar knows and does not reach.
func missed(addrs []string, peers []Peer) []string {
	addrs = slices.Clone(addrs)
	for _, p := range peers {
		if p.Addr != "" && (p.State == transport.Out || p.State == transport.Refused || p.State == transport.Connecting) && !slices.Contains(addrs, p.Addr) {
			addrs = append(addrs, p.Addr)
		}
	}
	return addrs
}

// noAddrs is what there is to say when there is nobody to ask.
func noAddrs(s *settings.Settings, r *runningSidecar) Finding {
	switch {
	case r != nil && r.told != nil && len(r.told.Peers) > 0:
		return good("PEERSTATE_PEERS is empty, and the running peerstate has the nodes that it knows")
	case s.CADir != "":
		return good("PEERSTATE_PEERS is empty: nodes that join by an invitation find this one")
	}
	return warning("PEERSTATE_PEERS is empty: this node links only to those that dial it",
		"name the other nodes in PEERSTATE_PEERS, unless each of them names this one")
}

// judgeProbed looks at the farm by what the other nodes say that were reached.
func judgeProbed(s *settings.Settings, self, version string, others []transport.Probed) (all []Finding) {
	offsets, versions := map[string]time.Duration{}, map[string]string{self: version}
	for _, p := range others {
		offsets[p.Node], versions[p.Node] = p.Offset, p.Program
	}
	all = append(all, judgeClocks(offsets)...)
	all = append(all, judgeVersions(versions)...)
	return append(all, judgeReach(others, int(s.MaxHops))...)
}

// knownAddrs are the addresses where the node has met others, or was told of them when it joined. None, if they
// cannot be read: then nothing is known.
func knownAddrs(certDir string) (addrs []string) {
	data, err := os.ReadFile(filepath.Join(certDir, certs.StateDir, "nodes.json"))
	if err != nil {
		return nil
	}
	var nodes []struct {
		Addr  string          `json:"addr"`
		State transport.State `json:"state"`
	}
	if err := json.Unmarshal(data, &nodes); err != nil {
		return nil
	}
	for _, n := range nodes {
		if n.Addr != "" && n.State != transport.Drained && n.State != transport.Lost {
			addrs = append(addrs, n.Addr)
		}
	}
	return addrs
}

// mildly is what there is to say of nodes that nobody has named, and makes less of their findings: one that does not
// answer is no problem as long as another does.
func mildly(all []Finding) Finding {
	for _, found := range all {
		if found.Grade == Fine {
			for i := range all {
				all[i].Grade = min(all[i].Grade, Doubtful)
			}
			return good("PEERSTATE_PEERS is empty: the node begins with those that it knows from before")
		}
	}
	return warning("PEERSTATE_PEERS is empty, and none of the nodes that this one knows from before can be reached", "")
}

// judgePeer says what a probe has found.
func judgePeer(addr, self string, p transport.Probed, err error) Finding {
	what := fmt.Sprintf("peer %s: %v", addr, err)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fault(fmt.Sprintf("peer %s: the name cannot be resolved (%v)", addr, dns), "write the name right in PEERSTATE_PEERS, or use the IP address")
	}
	if refusal, ok := errors.AsType[*certs.Refusal](err); ok {
		return fault(what, refusal.Reason.Advice())
	}
	if refused, ok := errors.AsType[*transport.RefusedError](err); ok {
		return fault(what, refused.Reason.Advice())
	}
	switch {
	case errors.Is(err, transport.ErrNoAnswer):
		return fault(fmt.Sprintf("peer %s: UDP is blocked on the way, or nobody is there: no answer at all", addr),
			"see that the machine is on and peerstate runs there, and let UDP through to that port in the firewalls of both machines and between them, and the answers back")
	case errors.Is(err, transport.ErrNobody):
		return fault(what, "start peerstate there, and see that the port is its PEERSTATE_PEER_LISTEN; a firewall that refuses instead of dropping looks the same")
	case errors.Is(err, transport.ErrNoHandshake):
		return fault(what, "see that it is peerstate that has this port, and that packets of 1,280 bytes get through (MTU of VPNs and tunnels)")
	case err != nil:
		return fault(what, "")
	case p.Node == self:
		return warning(fmt.Sprintf("peer %s is this node itself", addr), "take it out of PEERSTATE_PEERS; it does no harm")
	}
	return good("peer %s answers at %s: node %s, round trip %.1f ms", addr, p.Addr, p.Node, float64(p.RTT.Microseconds())/1000)
}
