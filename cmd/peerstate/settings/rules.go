package settings

import (
	"fmt"
	"net"
	"slices"
	"time"

	"peerstate/store"
	"peerstate/transport"
)

// StateNetworkTimeout is how long ASP.NET waits for an answer before the visitor sees an error page.
const StateNetworkTimeout = 10 * time.Second

// contradictions are settings, right in themselves, with which the program must not start.
func (s *Settings) contradictions() (wrong Wrong) {
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Sprintf(format, a...)) }

	if s.Listen != "" && !s.Listen.IsLoopback() && !s.AllowRemote {
		say("PEERSTATE_LISTEN is %q, which other machines can reach, and the protocol has no password: "+
			"it should be a loopback address such as 127.0.0.1:42424 (or set PEERSTATE_ALLOW_REMOTE=true)", s.Listen)
	}
	if s.CertDir == "" && len(s.Peers) > 0 {
		say("PEERSTATE_PEERS is %q without PEERSTATE_CERT_DIR: peers need certificates, so set PEERSTATE_CERT_DIR too "+
			"(peerstate cert init and peerstate cert issue make them)", s.Value("Peers"))
	}
	if s.CADir != "" && s.CertDir == "" {
		say("PEERSTATE_CA_DIR is %q without PEERSTATE_CERT_DIR: the farm's issuer is a node of it, so set PEERSTATE_CERT_DIR too "+
			"(peerstate cert issue makes its certificate)", s.CADir)
	}
	if s.FetchTimeout >= StateNetworkTimeout {
		say("PEERSTATE_FETCH_TIMEOUT is %q: it should be below %v, when ASP.NET gives up and shows an error page",
			s.Value("FetchTimeout"), StateNetworkTimeout)
	}
	if time.Duration(s.LockWait) >= s.FetchTimeout {
		say("PEERSTATE_LOCK_WAIT is %q: it should be below PEERSTATE_FETCH_TIMEOUT (%v), the longest that a request waits",
			s.Value("LockWait"), s.FetchTimeout)
	}
	if s.OnStop == OnStopKeep && s.DataDir == "" {
		say("PEERSTATE_ON_STOP is \"keep\" without PEERSTATE_DATA_DIR: sessions are kept in the journal, so set PEERSTATE_DATA_DIR too")
	}
	if s.Upstream != "" && s.Listen.Reachable() == ListenAddr(s.Upstream).Reachable() {
		say("PEERSTATE_UPSTREAM is %q, where this node itself listens: it should be the old state server, and PEERSTATE_LISTEN another port where both run on one machine", s.Upstream)
	}
	if clash(s.Listen, s.AdminListen) {
		say("PEERSTATE_ADMIN_LISTEN is %q, the same port as PEERSTATE_LISTEN: it should be another, such as 127.0.0.1:42426",
			s.Value("AdminListen"))
	}
	return wrong
}

// doubts are settings that can be meant, but seldom are.
func (s *Settings) doubts() (warnings []string) {
	say := func(format string, a ...any) { warnings = append(warnings, fmt.Sprintf(format, a...)) }

	if s.Listen == "" && s.CertDir == "" {
		say("PEERSTATE_LISTEN and PEERSTATE_CERT_DIR are both empty: this node serves neither a web server nor peers")
	}
	if s.Listen != "" && !s.Listen.IsLoopback() {
		say("PEERSTATE_LISTEN is %q: whoever reaches this port can read and change every session; let a firewall admit the web servers only", s.Listen)
	}
	if s.AdminListen != "" && !s.AdminListen.IsLoopback() {
		say("PEERSTATE_ADMIN_LISTEN is %q: other machines can read status and metrics (no session contents, and nothing can be changed)", s.AdminListen)
	}
	if s.CertDir == "" && s.given("PeerListen") {
		say("PEERSTATE_PEER_LISTEN has no effect without PEERSTATE_CERT_DIR")
	}
	if s.Upstream != "" && s.Listen == "" {
		say("PEERSTATE_UPSTREAM has no effect without PEERSTATE_LISTEN: sessions are taken over by the node whose web server asks for them")
	}
	if s.Upstream != "" && s.DataDir == "" && (s.CertDir == "" || s.Backups == 0) {
		say("PEERSTATE_UPSTREAM without PEERSTATE_DATA_DIR and without backups: a session that was taken over is in this node's memory and nowhere else")
	}
	if s.DataDir == "" && s.given("DataSync") {
		say("PEERSTATE_DATA_SYNC has no effect without PEERSTATE_DATA_DIR")
	}
	if s.MaxMemory > 0 && int64(s.MaxBody) > int64(s.MaxMemory)/4 {
		say("PEERSTATE_MAX_BODY is %q, and PEERSTATE_MAX_MEMORY %q: some sessions of that size fill it; one of more than a sixteenth of it "+
			"cannot be relied on to be received when it is nearly full; set PEERSTATE_MAX_BODY to what your largest sessions need", s.Value("MaxBody"), s.Value("MaxMemory"))
	}
	if s.BackupSync != store.SyncOff && s.Backups == 0 {
		say("PEERSTATE_BACKUP_SYNC is %q and has no effect with PEERSTATE_BACKUPS=0", s.Value("BackupSync"))
	}
	if s.Placement != Placement(transport.AnyNode) && s.Site == "" {
		say("PEERSTATE_BACKUP_PLACEMENT is %q, and PEERSTATE_SITE is empty: set it on each node", s.Value("Placement"))
	}
	if s.CADir == "" && s.given("CertLife") {
		say("PEERSTATE_CERT_LIFE has no effect without PEERSTATE_CA_DIR: the farm's issuer decides how long certificates last")
	}
	if s.CertDir == "" && s.Mesh == MeshManual {
		say("PEERSTATE_MESH has no effect without PEERSTATE_CERT_DIR")
	}
	sorted := slices.Sorted(slices.Values(s.Peers))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] && (i == 1 || sorted[i-2] != sorted[i]) {
			say("PEERSTATE_PEERS names %s more than once", sorted[i])
		}
	}
	return warnings
}

// clash tells whether two TCP listeners would want the same port of the same address.
func clash(a, b ListenAddr) bool {
	hostA, portA, errA := net.SplitHostPort(string(a))
	hostB, portB, errB := net.SplitHostPort(string(b))
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || IsAll(hostA) || IsAll(hostB)
}

// IsAll tells whether a listener on that host takes the port on every address.
func IsAll(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
