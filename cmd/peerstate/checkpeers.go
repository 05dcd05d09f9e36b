package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"peerstate/certs"
	"peerstate/transport"
)

// probeTimeout is how long check waits for one peer.
const probeTimeout = 6 * time.Second

// clockLimit is the difference of two clocks that is worth a warning.
const clockLimit = time.Minute

// checkPeers looks whether the configured peers can be reached, whether each side accepts the
// other's certificate, and whether the clocks agree. All are asked at once.
func checkPeers(ctx context.Context, s *settings) []finding {
	addrs, known := []string(s.Peers), false
	if len(addrs) == 0 {
		addrs, known = knownAddrs(s.CertDir), true
	}
	if len(addrs) == 0 {
		if s.CADir != "" {
			return []finding{good("PEERSTATE_PEERS is empty: nodes that join by an invitation find this one")}
		}
		return []finding{warning("PEERSTATE_PEERS is empty: this node links only to those that dial it",
			"name the other nodes in PEERSTATE_PEERS, unless each of them names this one")}
	}
	snap, err := certs.Load(s.CertDir, time.Now())
	if err != nil {
		return nil // checkCertificates has said what is wrong
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	all := make([][]finding, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() {
			p, err := transport.Probe(ctx, snap, addr)
			all[i] = judgePeer(addr, snap.Self().Node, p, err)
		})
	}
	wg.Wait()
	var findings []finding
	if known {
		findings = mildly(all)
	}
	for _, f := range all {
		findings = append(findings, f...)
	}
	return findings
}

// knownAddrs are the addresses where the node has met others, or was told of them when it joined. None, if they
// cannot be read: then nothing is known.
func knownAddrs(certDir string) (addrs []string) {
	data, err := os.ReadFile(filepath.Join(certDir, stateDir, "nodes.json"))
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

// mildly begins the findings about nodes that nobody has named: one that does not answer is no problem as long as
// another does.
func mildly(all [][]finding) []finding {
	for _, found := range all {
		if found[0].grade == fine {
			for _, other := range all {
				other[0].grade = min(other[0].grade, doubtful)
			}
			return []finding{good("PEERSTATE_PEERS is empty: the node begins with those that it knows from before")}
		}
	}
	return []finding{warning("PEERSTATE_PEERS is empty, and none of the nodes that this one knows from before can be reached", "")}
}

// judgePeer says what a probe has found.
func judgePeer(addr, self string, p transport.Probed, err error) []finding {
	what := fmt.Sprintf("peer %s: %v", addr, err)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return []finding{fault(fmt.Sprintf("peer %s: the name cannot be resolved (%v)", addr, dns), "write the name right in PEERSTATE_PEERS, or use the IP address")}
	}
	if refusal, ok := errors.AsType[*certs.Refusal](err); ok {
		return []finding{fault(what, refusal.Reason.Advice())}
	}
	if refused, ok := errors.AsType[*transport.RefusedError](err); ok {
		return []finding{fault(what, refused.Reason.Advice())}
	}
	switch {
	case errors.Is(err, transport.ErrNoAnswer):
		return []finding{fault(what, "see that peerstate runs there, that the port is its PEERSTATE_PEER_LISTEN, and that firewalls on both sides let UDP through to it")}
	case err != nil:
		return []finding{fault(what, "")}
	case p.Node == self:
		return []finding{warning(fmt.Sprintf("peer %s is this node itself", addr), "take it out of PEERSTATE_PEERS; it does no harm")}
	}
	findings := []finding{good("peer %s answers at %s: node %s, round trip %.1f ms", addr, p.Addr, p.Node, float64(p.RTT.Microseconds())/1000)}
	if p.Offset.Abs() > clockLimit {
		findings = append(findings, warning(fmt.Sprintf("the clock of %s is %s this machine's", p.Node, ahead(p.Offset)),
			"set both machines' clocks right (time service, NTP): which of two writes came last is told by them"))
	}
	return findings
}

func ahead(d time.Duration) string {
	if d < 0 {
		return d.Abs().Round(time.Second).String() + " behind"
	}
	return d.Round(time.Second).String() + " ahead of"
}
