package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/admin"
	"peerstate/cmd/peerstate/ports"
	"peerstate/cmd/peerstate/settings"
	"peerstate/transport"
)

// loadCertificates reads the node's certificates, which say what its name is.
func loadCertificates(s *settings.Settings) (*certs.Snapshot, error) {
	snap, err := certs.Load(s.CertDir, time.Now())
	if err != nil {
		return nil, usage("PEERSTATE_CERT_DIR: %w", err)
	}
	return snap, nil
}

// joinFarm links the node with the others. The store asks them from now on.
func (n *sidecar) joinFarm(ctx context.Context) error {
	s := n.settings
	if err := n.openIssuer(); err != nil {
		return err
	}
	conn, err := handedBack(ctx, n.log, func() (net.PacketConn, error) { return ports.ListenUDP(ctx, "PEERSTATE_PEER_LISTEN", s.PeerListen) })
	if err != nil {
		return err
	}
	mesh, err := transport.New(transport.Config{
		Certs: n.certs, Store: n.store, Instance: n.instance, Conn: conn, Peers: s.Peers,
		CertDir: s.CertDir, StateDir: filepath.Join(s.CertDir, certs.StateDir), Issuer: n.issuer, Site: string(s.Site), Program: buildVersion(),
		FetchTimeout: s.FetchTimeout, Grace: s.MissingGrace, LostAfter: s.LostAfter, MaxBody: int64(s.MaxBody),
		Backups: int(s.Backups), Placement: transport.Placement(s.Placement),
		Manual: s.Mesh == settings.MeshManual, MaxHops: int(s.MaxHops), Aliases: s.AppAliases.Digest(), ClientOf: n.lockOwner, Log: n.log,
	})
	if err != nil {
		if cerr := conn.Close(); cerr != nil {
			n.log.Debug("closing the socket for peers", "error", cerr)
		}
		return fmt.Errorf("join the farm: %w", err)
	}
	n.store.Join(mesh)
	n.mesh = mesh
	n.onStop(func(ctx context.Context) error {
		// The web server is gone by now: no session can come any more.
		if s.OnStop == settings.OnStopKeep && !n.drained.Load() {
			return mesh.Close()
		}
		if err := mesh.GoodBye(ctx); err != nil {
			n.log.Debug("no good-bye was said", "reason", err)
		}
		return mesh.Close()
	})
	return nil
}

// farmStatus adds to the status what there is only with peers.
func (n *sidecar) farmStatus(st *admin.Status) {
	self := n.mesh.Certs().Self()
	st.Farm = self.Farm
	st.Certificate = &admin.Certificate{Node: self.Node, Issuer: self.Issuer, IssuerKey: self.IssuerKey, Serial: self.Serial,
		Expires: self.Expires, CAExpires: self.CAExpires, Document: n.mesh.Certs().DocumentNumber()}
	if d := n.mesh.Certs().Document(); d != nil {
		st.Certificate.Rotation = string(d.Rotation.Stage)
	}
	for _, p := range n.mesh.Peers() {
		peer := admin.Peer{Node: p.Node, Site: p.Site, Addr: p.Addr, State: string(p.State), Hops: p.Hops, Since: p.Since, Reason: p.Reason,
			Aliases: p.Aliases, Document: p.Document, Issuer: p.Issuer, Rotation: rotationOf(n.mesh.Certs(), p.Cert, p.Document)}
		if p.RTT > 0 {
			ms := float64(p.RTT.Microseconds()) / 1000
			peer.RTTMillis = &ms
		}
		if !p.Cert.Expires.IsZero() {
			peer.CertExpires, peer.CertIssuer, peer.CertSerial = &p.Cert.Expires, p.Cert.IssuerKey, p.Cert.Serial
			if p.State != transport.Drained { // what it said before it left is not so any more
				peer.Sessions = &p.Sessions
			}
		}
		st.Peers = append(st.Peers, peer)
	}
	for _, l := range n.mesh.Links() {
		link := admin.Link{A: l.A, B: l.B}
		if l.RTT > 0 {
			ms := float64(l.RTT.Microseconds()) / 1000
			link.RTTMillis = &ms
		}
		st.Links = append(st.Links, link)
	}
	for _, k := range n.mesh.Mistakes() {
		st.Mistakes = append(st.Mistakes, admin.Mistake{Applications: [2]string{"/" + k.IDs[0], "/" + k.IDs[1]}, Nodes: k.Nodes, Alias: k.Alias(), First: k.First, Last: k.Last})
	}
}

// farmMetrics adds the metrics that there are only with peers.
func (n *sidecar) farmMetrics(m *admin.Metrics) {
	self := n.mesh.Certs().Self()
	m.Certificates = map[string]time.Time{"leaf": self.Expires, "ca": self.CAExpires}
	stats := n.store.Stats()
	m.Farm = &admin.Farm{Document: n.mesh.Certs().DocumentNumber(), InDoubt: stats.Doubts, Unsafe: stats.Unsafe, UnsafeFor: stats.UnsafeFor, Unsynced: stats.Unsynced,
		Backups: stats.Backups, BackupBytes: stats.BackupBytes, Peers: map[string]int{}, PeerRTT: map[string]time.Duration{}}
	for _, state := range transport.States {
		m.Farm.Peers[string(state)] = 0
	}
	for _, p := range n.mesh.Peers() {
		m.Farm.Peers[string(p.State)]++
		if p.RTT > 0 {
			m.Farm.PeerRTT[p.Node] = p.RTT
		}
	}
}

// farmWarnings are what an operator should look at although the node is ready.
func (n *sidecar) farmWarnings() (warnings []string) {
	warnings = n.certificateWarnings()
	for _, p := range n.mesh.Peers() {
		if p.Aliases != "" {
			warnings = append(warnings, fmt.Sprintf("peer %s keeps sessions under other keys: %s", p.Node, p.Aliases))
		}
		if p.State != transport.Up && p.State != transport.Connecting {
			warnings = append(warnings, peerWarning(p))
		}
	}
	if keepers := n.mesh.Keepers(); keepers < int(n.settings.Backups) {
		warnings = append(warnings, fmt.Sprintf("PEERSTATE_BACKUPS is %d, and of the other nodes %d can keep any: a crash now may lose sessions", n.settings.Backups, keepers))
	}
	for _, k := range n.mesh.Mistakes() {
		warnings = append(warnings, k.String())
	}
	if !n.store.Sure() {
		warnings = append(warnings, "this process stood still, and compares its sessions with the other nodes before it serves them")
	}
	if n.mesh.Skewed() {
		warnings = append(warnings, "this machine's clock differs from most other nodes'")
	}
	return warnings
}

// peerWarning says of a node that is not up what it is, and why.
func peerWarning(p transport.PeerStatus) string {
	text := fmt.Sprintf("peer %s is %s", cmp.Or(p.Node, p.Addr), p.State)
	if p.State == transport.Drained {
		text += " (it has stopped, and left no session behind)"
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// standardLog takes what libraries write to the standard logger, which is not made for this program's
// reader.
type standardLog struct{ log *slog.Logger }

func (l standardLog) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if strings.Contains(text, "buffer size") {
		l.log.Warn("the system allows only a small buffer for the UDP socket: in bursts, packets are lost and sent again",
			"advice", "Linux: sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000; BSD and macOS: sysctl -w kern.ipc.maxsockbuf=8441037",
			"detail", text)
		return len(p), nil
	}
	l.log.Warn("a library says", "text", text)
	return len(p), nil
}
