package transport

import (
	"fmt"
	"time"
)

// A node is up while a path of live links leads to it. What has no link of its own is reached over the
// first link of a shortest path (via.go).

// reach is how a node is reached: over which of this node's links first, and over how many in all.
type reach struct {
	first *link
	hops  int
}

// remap works out anew to which nodes a path of links leads. It is called whenever a link of this node
// or the list of another has changed. m.mu is held.
func (m *Mesh) remap() {
	if m.closed {
		return
	}
	m.atlas.drawn = time.Now()
	var links []*link
	for _, n := range m.byName() {
		if n.link != nil {
			links = append(links, n.link)
		}
	}
	m.relist(links)
	found := map[string]reach{}
	var order []string
	for _, l := range links {
		found[l.node.name] = reach{l, 1}
		order = append(order, l.node.name)
	}
	for i := 0; i < len(order); i++ { // it grows: the nearer ones come first
		x := order[i]
		for _, y := range m.atlas.linksOf(x) {
			ll := m.atlas.lists[y]
			if _, ok := found[y]; ok || y == m.me || !ll.has(x) || ll.Left {
				continue // a link counts when both ends report it; that of a run which has left is over
			}
			found[y] = reach{found[x].first, found[x].hops + 1}
			order = append(order, y)
			if m.nodes[y] == nil && len(m.nodes) < maxLearned {
				m.log.Info("a node has been heard of", "peer", y, "from", found[x].first.node.name)
				m.node(y)
			}
		}
	}
	// In a fixed order, so that what is logged can be compared.
	for _, n := range m.byName() {
		if n.link != nil {
			n.reach, n.far = reach{}, nil
		} else {
			m.through(n, found[n.name])
		}
	}
}

func (a *atlas) linksOf(name string) []string {
	if ll := a.lists[name]; ll != nil {
		return ll.Links
	}
	return nil
}

// through notes how a node without a link of its own is reached, or that it is not. m.mu is held.
func (m *Mesh) through(n *node, r reach) {
	far := n.first != nil
	n.reach = r
	ll := m.atlas.lists[n.name]
	switch {
	case r.first == nil:
		if n.far != nil {
			n.far.shut()
		}
		n.far = nil
		n.part()
	case n.far == nil || n.far.instance != ll.Instance:
		m.run(n, ll.Instance)
		way := m.farLink(n.name, ll.Instance)
		way.node = n
		n.far = way
		m.wg.Go(func() { m.meet(way) })
	}
	if r.first != nil {
		m.certified(n, ll)
		n.cut, m.cast = false, time.Time{}
	} else if m.cutOff(n) {
		m.changed()
		m.saveNodes()
		return
	}
	switch {
	case r.first != nil && n.state != Up:
		if n.timer != nil {
			n.timer.Stop()
			n.timer = nil
		}
		n.state, n.since = Up, time.Now()
		m.log.Debug("a node is reached through others", "peer", n.name, "through", r.first.node.name, "links", r.hops)
		m.wg.Go(func() { m.resolve(n.name) })
	case r.first == nil && n.hasLeft(ll) && n.state != Drained && n.state != Lost:
		if n.timer != nil {
			n.timer.Stop()
			n.timer = nil
		}
		n.state, n.since, n.reason = Drained, time.Now(), ""
		m.wg.Go(func() { m.promote(n.name) })
		m.reviewSoon()
	case r.first == nil && (n.state == Up || n.state == Suspect):
		if far {
			n.reason = "no path of links leads to it any more"
			m.log.Info("a node cannot be reached through others any more", "peer", n.name)
		}
		n.state, n.since = Connecting, time.Now()
		m.await(n, m.config.Grace, Out)
	default:
		return
	}
	if r.first != nil {
		n.reason = fmt.Sprintf("it has no link of its own; it is reached through %s", r.first.node.name)
	}
	m.changed()
	m.saveNodes()
}

// hasLeft tells whether a node's last word was that it stops and holds nothing. Mesh.mu is held.
func (n *node) hasLeft(ll *linkList) bool {
	if ll == nil {
		return n.left != 0
	}
	return ll.Left || n.left != 0 && ll.Instance == n.left
}

// way gives a link to a node: its own, or one through others; nil: there is none. Mesh.mu is held.
func (n *node) way() *link {
	if n.link != nil {
		return n.link
	}
	return n.far
}

// linkTo gives a link to a node, its own or one through others, or nil.
func (m *Mesh) linkTo(name string) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[name]; n != nil {
		return n.way()
	}
	return nil
}

// direct gives a node's own link, or nil.
func (m *Mesh) direct(name string) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[name]; n != nil {
		return n.link
	}
	return nil
}

// ways gives the names of all nodes that can be reached, linked or through others. m.mu is held.
func (m *Mesh) ways() []string {
	var names []string
	for _, n := range m.byName() {
		if n.way() != nil {
			names = append(names, n.name)
		}
	}
	return names
}

// farLink makes a link to one run of a node that leads through others. Its node may be one that is not
// known here: then it only has a name.
func (m *Mesh) farLink(name string, instance uint64) *link {
	return &link{mesh: m, standing: &standing{}, far: true, holds: true, instance: instance, since: time.Now(), node: &node{name: name}}
}
