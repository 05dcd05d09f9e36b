package transport

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"peerstate/certs"
)

// forget tells that a node will not come back.
type forget struct {
	Node string `cbor:"1,keyasint"`
}

// Forget says that a node will not come back: nobody waits for it any more, and what only it held is
// missing. The linked nodes are told. It is an error to forget a node that is linked, or was never known.
// A node that comes back all the same is known again.
func (m *Mesh) Forget(name string) error {
	if err := m.forget(name); err != nil {
		return err
	}
	m.tellForget(name, nil)
	return nil
}

// tellForget tells the links but for the one that it came from.
func (m *Mesh) tellForget(name string, from *link) {
	for _, l := range m.takers(nil) {
		if l == from {
			continue
		}
		l.say(kindForget, forget{Node: name})
	}
}

func (m *Mesh) forget(name string) error {
	m.mu.Lock()
	n := m.nodes[name]
	_, unmet := m.unmet[name]
	switch {
	case n == nil && !unmet:
		known := append(slices.Collect(maps.Keys(m.nodes)), slices.Collect(maps.Keys(m.unmet))...)
		m.mu.Unlock()
		slices.Sort(known)
		if len(known) == 0 {
			return fmt.Errorf("no node %q is known here, nor any other", name)
		}
		return fmt.Errorf("no node %q is known here; there are %s", name, strings.Join(slices.Compact(known), ", "))
	case n != nil && n.way() != nil:
		m.mu.Unlock()
		return fmt.Errorf("%s is linked; stop it first (peerstate drain)", name)
	}
	if n != nil && n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	delete(m.nodes, name)
	delete(m.unmet, name)
	if name == m.anchor.Node {
		m.anchor = knownNode{}
	}
	delete(m.atlas.lists, name)
	m.changed()
	m.saveNodes()
	m.mu.Unlock()
	m.log.Warn("a node is forgotten: nobody waits for it any more", "peer", name)
	m.start(func() { m.promote(name) })
	m.reviewSoon()
	return nil
}

// forgotten takes another node's word for it.
func (l *link) forgotten(data []byte) error {
	var f forget
	if err := decode(data, &f); err != nil {
		return err
	}
	if err := certs.ValidName(f.Node); err != nil {
		return errors.Join(errFrame, err)
	}
	if !l.quota.allow(l.quota.hearsay, refusedHearsay) {
		return nil
	}
	if err := l.mesh.forget(f.Node); err != nil {
		l.mesh.log.Debug("a node was not forgotten", "peer", l.node.name, "reason", err)
		return nil
	}
	l.mesh.tellForget(f.Node, l) // those who have forgotten it pass nothing on
	return nil
}
