package transport

import (
	"fmt"
	"strings"
)

// Aliases of application ids are applied to keys before anything else, so they have to be the same on all nodes. Each node
// tells a digest of its own, in its hello and in its list of links, and says when another's differs. The sessions are
// not touched by that.

// maxDigest bounds what stands for a node's aliases.
const maxDigest = 64

// checkAliases finds what no node tells.
func checkAliases(digest string) error {
	if len(digest) > maxDigest || strings.Trim(digest, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: aliases %q", errFrame, plain(digest))
	}
	return nil
}

// understands tells whether a node that is up knows a kind of frame. One that is reached through others may know more than those
// have told. m.mu is held.
func (m *Mesh) understands(n *node, k kind) bool {
	speaks := 0
	if n.link != nil {
		speaks = n.link.version
	} else if ll := m.atlas.lists[n.name]; ll != nil {
		speaks = ll.Speaks
	}
	return max(speaks, minVersion) >= k.since()
}

// strangeAliases says how the aliases of a node that is up differ from this node's; "" if they do not, or nobody can tell.
// m.mu is held.
func (m *Mesh) strangeAliases(n *node) string {
	mine, theirs, tells := m.config.Aliases, "", m.understands(n, kindExplain) // came with the aliases
	if n.link != nil {
		theirs = n.link.aliases
	} else if ll := m.atlas.lists[n.name]; ll != nil {
		theirs = ll.Aliases
	}
	switch {
	case n.way() == nil || !tells && n.link == nil || theirs == mine && (tells || mine == ""):
		return ""
	case !tells:
		return "its release knows no PEERSTATE_APP_ALIASES, and this node has some: install the same release on both"
	case theirs == "":
		return "it has no PEERSTATE_APP_ALIASES, and this node has some"
	case mine == "":
		return "it has PEERSTATE_APP_ALIASES, and this node has none"
	}
	return "its PEERSTATE_APP_ALIASES are not this node's"
}

// watchAliases says once when a node's aliases differ from this node's, and when they do no more.
func (m *Mesh) watchAliases() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.byName() {
		if n.way() == nil {
			continue // it may come back as it was
		}
		now := m.strangeAliases(n)
		if now == n.strange {
			continue
		}
		if n.strange = now; now == "" {
			m.log.Info("a node has the same aliases of application ids as this one now", "peer", n.name)
			continue
		}
		m.log.Warn("a node has other aliases of application ids: each of the two keeps sessions under keys by which the other does not find them. "+
			"Set PEERSTATE_APP_ALIASES to the same on all nodes, and restart them", "peer", n.name, "reason", now)
	}
}
