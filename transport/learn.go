package transport

import (
	"slices"
	"time"

	"peerstate/certs"
)

// A node needs the address of one other to link to all: each tells its links whom it knows, and dials
// those that it did not know. It is told again when something has changed, within a second.

// maxLearned bounds how many addresses are dialled that others have named.
const maxLearned = 256

// nodeList is whom the sender knows and has not given up.
type nodeList struct {
	Nodes []nodeInfo `cbor:"1,keyasint"`
}

type nodeInfo struct {
	Name string `cbor:"1,keyasint"`
	Addr string `cbor:"2,keyasint"` // under which the sender reaches it
	Site string `cbor:"3,keyasint,omitempty"`
	Up   bool   `cbor:"4,keyasint,omitempty"` // it is linked with the sender
	// Instance is the run of it that was up last.
	Instance uint64 `cbor:"5,keyasint,omitempty"`
}

// tell sends a link the list of the other nodes.
func (m *Mesh) tell(l *link) {
	m.mu.Lock()
	var list nodeList
	for _, n := range m.nodes {
		if n.name == l.node.name || n.gone() || n.addr == "" || len(list.Nodes) == maxLearned {
			continue
		}
		list.Nodes = append(list.Nodes, nodeInfo{Name: n.name, Addr: m.addrOf(n), Site: n.site, Up: n.link != nil, Instance: n.instance})
	}
	m.mu.Unlock()
	l.say(kindNodes, list)
}

// addrOf gives the address to name to others: the one in the settings, which may be a name that moves,
// before the one that packets come from. m.mu is held.
func (m *Mesh) addrOf(n *node) string {
	for _, d := range m.diallers {
		if d.node == n.name {
			return d.addr
		}
	}
	return n.addr
}

// learn takes a list in. A node that was not known may hold sessions: it is waited for like one that has
// just gone, until it is linked.
func (l *link) learn(data []byte) error {
	var list nodeList
	if err := decode(data, &list); err != nil {
		return err
	}
	m := l.mesh
	m.mu.Lock()
	defer m.mu.Unlock()
	if !l.listed.Swap(true) {
		m.changed()
	}
	for _, info := range list.Nodes {
		if info.Name == m.me || certs.ValidName(info.Name) != nil || len(info.Addr) > 300 {
			continue
		}
		n := m.nodes[info.Name]
		if n == nil && (len(m.nodes) >= maxLearned || m.isRevoked(&node{name: info.Name})) || n != nil && n.cut {
			continue
		}
		if n == nil || n.gone() && info.Up && !n.onlyNamed() && !m.hasLeft(n, info.Instance) {
			if !l.quota.allow(l.quota.hearsay, refusedHearsay) {
				break
			}
			n = m.node(info.Name)
			if ll := m.atlas.lists[info.Name]; ll != nil && ll.Left {
				delete(m.atlas.lists, info.Name) // of a run before this one
			}
			n.left = 0
			n.site, n.addr, n.reason = plain(info.Site), plain(info.Addr), "named by "+l.node.name+", not linked yet"
			n.state, n.since = Connecting, time.Now()
			m.await(n, m.config.Grace, Out)
			m.remap()
			m.changed()
			m.log.Info("a node has been heard of", "peer", n.name, "addr", n.addr, "from", l.node.name)
		}
		if n.addr == "" {
			n.site, n.addr = plain(info.Site), plain(info.Addr) // known from the map of links until now
		}
		if n.link == nil {
			m.dialLearned(info.Name, plain(info.Addr))
		}
	}
	return nil
}

// onlyNamed tells whether nothing but its name was ever heard of a node. One that was waited for once in vain is not
// again because somebody names it again: whoever makes up nodes could have all others wait for them for ever. If it is
// there it links itself, or is reached through who names it. Mesh.mu is held.
func (n *node) onlyNamed() bool { return !n.direct && n.instance == 0 && n.peer.Serial == "" }

// hasLeft tells whether that run of a node has said that it stops and holds nothing. m.mu is held.
func (m *Mesh) hasLeft(n *node, instance uint64) bool {
	ll := m.atlas.lists[n.name]
	return instance != 0 && (n.left == instance || ll != nil && ll.Left && ll.Instance == instance)
}

// dialLearned dials a node that others have named, unless somebody does so already, until it is linked or
// given up. Where the operator draws the links nobody is. m.mu is held.
func (m *Mesh) dialLearned(name, addr string) {
	if m.closed || m.config.Manual || addr == "" || len(m.diallers) >= maxLearned+len(m.config.Peers) ||
		slices.ContainsFunc(m.diallers, func(d *dialler) bool { return d.addr == addr || d.node == name && d.told == "" }) {
		return
	}
	m.dial(&dialler{mesh: m, addr: addr, node: name, learned: true, since: m.started})
}
