package transport

import (
	"time"

	"peerstate/certs"
)

// A node that the farm's document revokes is gone at once: nobody waits for it, backups of its sessions are promoted as
// soon as all who are up have been asked, and it is not reached through others either. For this node it is lost, and is
// shown as refused. It is back when it is linked, or reached, by a certificate that the document does not refuse.

// revokedText is why such a node is not up.
const revokedText = "revoked"

// isRevoked tells whether a node's certificate, as it was up by last, is revoked. m.mu is held.
func (m *Mesh) isRevoked(n *node) bool {
	p := n.peer
	p.Node = n.name
	return m.certs.Load().Revokes(p)
}

// refuses tells whether a list is that of a revoked node, by its own word. m.mu is held. One that lies about its
// certificate gets as far as there are nodes that do not know of the revocation yet and link with it.
func (m *Mesh) refuses(ll *linkList) bool {
	return m.certs.Load().Revokes(ll.Cert.peer(certs.Identity{Node: ll.Node}))
}

// dropRevoked forgets the lists of nodes that are revoked. It is called when the document in force is another one. m.mu
// is held.
func (m *Mesh) dropRevoked() {
	for name, ll := range m.atlas.lists {
		if m.refuses(ll) {
			delete(m.atlas.lists, name)
		}
	}
}

// certified notes by which certificate a node is reached through others: by its own word, but it was not made later
// than it was heard of. m.mu is held.
func (m *Mesh) certified(n *node, ll *linkList) {
	if ll == nil || ll.Cert == nil || ll.Cert.Serial == n.peer.Serial {
		return
	}
	n.peer = ll.Cert.peer(certs.Identity{Farm: m.certs.Load().Self().Farm, Node: n.name})
	if now := time.Now(); n.peer.Issued.After(now) {
		n.peer.Issued = now
	}
}

// cutOff gives up a node that is revoked, and waits for a while for one that is not any more; false: neither is new.
// Nobody has a path to it. m.mu is held.
func (m *Mesh) cutOff(n *node) bool {
	revoked := m.isRevoked(n)
	if revoked == n.cut {
		return false
	}
	n.cut = revoked
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	if !revoked {
		n.state, n.since, n.reason = Connecting, time.Now(), "not linked yet since it is no longer revoked"
		m.await(n, m.config.Grace, Lost)
		m.dialLearned(n.name, n.addr)
		m.log.Info("a node is no longer revoked", "peer", n.name)
		return true
	}
	text := "sessions that only it held are missing from now on"
	if m.config.Backups > 0 {
		text = "its sessions are served from their backups"
	}
	m.log.Warn("a node is revoked, and cut off: "+text, "peer", n.name)
	n.state, n.since, n.reason = Lost, time.Now(), revokedText
	m.wg.Go(func() { m.promote(n.name) })
	m.reviewSoon()
	return true
}

// turnsAway tells whether what a node says through others is not heard: it is revoked.
func (m *Mesh) turnsAway(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	if n == nil {
		n = &node{name: name}
	}
	return n.way() == nil && m.isRevoked(n)
}

// castOut says that this node itself is revoked, as far as it has been told. It knows better as soon as it is linked.
func (m *Mesh) castOut(how string) {
	m.mu.Lock()
	linked := len(m.ways()) > 0
	if !linked && m.cast.IsZero() {
		m.cast = time.Now()
	}
	m.mu.Unlock()
	if linked || !m.repeats.first("this node is revoked") {
		return
	}
	m.log.Error("this node is revoked: the farm has cut it off, nobody asks it for sessions, and it gets none of others", "how", how,
		"advice", certs.Revoked.Advice())
}

// Revoked tells since when this node takes itself to be revoked: it has no path to any node, and was told so. Zero: it
// does not.
func (m *Mesh) Revoked() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cast
}
