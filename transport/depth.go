package transport

import (
	"maps"
	"slices"
)

// A question goes over at most MaxHops links. A farm that is deeper looks whole to everybody, and sessions are not
// found in it; so whoever draws its links by hand wants to know how deep it is, also on the day when one of them fails.

// reaches is over how many links the farthest node is reached that is up; 0: none is.
func (m *Mesh) reaches() (most int) {
	for _, p := range m.Peers() {
		most = max(most, p.Hops)
	}
	return most
}

// Depth is how far apart the nodes of a farm are, in links on the shortest way.
type Depth struct {
	Links    int // between the two that are farthest from each other
	From, To string
}

// maxWorst bounds how many links are followed to find out how deep a farm is when something fails: about a second.
const maxWorst = 2e7

// DepthOf gives how deep a farm with these links is. Nodes that no path joins do not count.
func DepthOf(links []LinkStatus) Depth { return graphOf(links).depth("", LinkStatus{}) }

// WorstDepthOf gives how deep a farm gets at most when one node or one link of it fails, and which: a node's name, or
// two. In a farm that is too large to try them all nothing is found.
func WorstDepthOf(links []LinkStatus) (worst Depth, without []string) {
	g := graphOf(links)
	if float64(len(g)+len(links))*float64(len(g))*float64(len(g)+2*len(links)) > maxWorst {
		return Depth{}, nil
	}
	for _, x := range slices.Sorted(maps.Keys(g)) {
		if d := g.depth(x, LinkStatus{}); d.Links > worst.Links {
			worst, without = d, []string{x}
		}
	}
	for _, l := range links {
		if d := g.depth("", l); d.Links > worst.Links {
			worst, without = d, []string{l.A, l.B}
		}
	}
	return worst, without
}

// graph has for each node whom it is linked with.
type graph map[string][]string

func graphOf(links []LinkStatus) graph {
	g := graph{}
	for _, l := range links {
		g[l.A], g[l.B] = append(g[l.A], l.B), append(g[l.B], l.A)
	}
	return g
}

// depth gives the depth without one node or one link.
func (g graph) depth(without string, cut LinkStatus) (most Depth) {
	far := make(map[string]int, len(g))
	order := make([]string, 0, len(g))
	for _, from := range slices.Sorted(maps.Keys(g)) {
		if from == without {
			continue
		}
		clear(far)
		far[from], order = 0, append(order[:0], from)
		for i := 0; i < len(order); i++ { // it grows: the nearer ones come first
			x := order[i]
			for _, y := range g[x] {
				if _, ok := far[y]; ok || y == without || x == cut.A && y == cut.B || x == cut.B && y == cut.A {
					continue
				}
				far[y] = far[x] + 1
				order = append(order, y)
				if far[y] > most.Links {
					most = Depth{far[y], from, y}
				}
			}
		}
	}
	return most
}
