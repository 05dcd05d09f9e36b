package transport

import (
	"cmp"
	"slices"
	"time"
)

// What there is to see of the farm as a whole: which links there are between any two nodes, and how long a round trip
// takes on each. A node measures its own, and tells the times with its list of links; nothing is decided by them.

// tripUnit is in which round-trip times are told.
const tripUnit = 100 * time.Microsecond

// trip is the link's round-trip time as it is told.
func (l *link) trip() uint32 {
	return uint32(min(l.conn.ConnectionStats().SmoothedRTT/tripUnit, 1<<32-1))
}

// tripsDiffer tells whether round-trip times are worth being told again: one has changed by over a quarter, and by over
// 2 ms, which is more than what comes and goes on a local network.
func tripsDiffer(told, now []uint32) bool {
	for i, t := range told {
		d := max(t, now[i]) - min(t, now[i])
		if d > t/4 && time.Duration(d)*tripUnit > 2*time.Millisecond {
			return true
		}
	}
	return false
}

// retime tells the round-trip times of this node's links again if they have changed.
func (m *Mesh) retime(links []*link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	links = slices.DeleteFunc(slices.Clone(links), func(l *link) bool { return l.node.link != l })
	if len(links) == len(m.atlas.mine.Links) { // otherwise they have just changed, and remap has told it
		m.relist(links)
	}
}

// LinkStatus is a link between two nodes.
type LinkStatus struct {
	A, B string        // names, A before B
	RTT  time.Duration // round-trip time; 0: not known
}

// Links lists the links that both ends report, of this node and of all nodes that it can reach, by name.
func (m *Mesh) Links() []LinkStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []LinkStatus
	for _, n := range m.byName() {
		if n.link != nil {
			all = append(all, LinkStatus{A: min(m.me, n.name), B: max(m.me, n.name), RTT: n.link.conn.ConnectionStats().SmoothedRTT})
		}
		if n.way() == nil {
			continue // what it said last may be long over
		}
		ll := m.atlas.lists[n.name]
		for _, to := range m.atlas.linksOf(n.name) {
			other := m.atlas.lists[to]
			if n.name < to && other.has(n.name) && !ll.Left && !other.Left {
				all = append(all, LinkStatus{A: n.name, B: to, RTT: cmp.Or(ll.tripTo(to), other.tripTo(n.name))})
			}
		}
	}
	slices.SortFunc(all, func(x, y LinkStatus) int { return cmp.Or(cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B)) })
	return all
}

// tripTo is the round-trip time of a link as the list has it; 0: not told.
func (ll *linkList) tripTo(name string) time.Duration {
	if i, ok := slices.BinarySearch(ll.Links, name); ok && i < len(ll.Trips) {
		return time.Duration(ll.Trips[i]) * tripUnit
	}
	return 0
}
