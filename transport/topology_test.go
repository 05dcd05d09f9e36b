package transport

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"peerstate/store"
)

// topology is the links of a farm, as the operator draws them: each node dials some that come before it.
type topology struct {
	size  int
	links [][2]int
}

func line(n int) topology {
	tp := topology{size: n}
	for i := 1; i < n; i++ {
		tp.links = append(tp.links, [2]int{i - 1, i})
	}
	return tp
}

func ring(n int) topology {
	tp := line(n)
	tp.links = append(tp.links, [2]int{0, n - 1})
	return tp
}

func star(n int) topology {
	tp := topology{size: n}
	for i := 1; i < n; i++ {
		tp.links = append(tp.links, [2]int{0, i})
	}
	return tp
}

// stars is a star of three stars.
func stars() topology {
	tp := star(4)
	for hub := 1; hub <= 3; hub++ {
		for leaf := range 2 {
			tp.links = append(tp.links, [2]int{hub, 4 + (hub-1)*2 + leaf})
		}
	}
	tp.size = 10
	return tp
}

// partial is a ring with chords.
func partial(n int) topology {
	tp := ring(n)
	for i := 0; i+4 < n; i += 3 {
		tp.links = append(tp.links, [2]int{i, i + 4})
	}
	return tp
}

func full(n int) topology {
	tp := topology{size: n}
	for i := range n {
		for j := range i {
			tp.links = append(tp.links, [2]int{j, i})
		}
	}
	return tp
}

func topologies() map[string]topology {
	return map[string]topology{
		"line of 3": line(3), "line of 6": line(6), "line of 12": line(12), "ring of 4": ring(4), "ring of 5": ring(5),
		"ring of 12": ring(12), "star of 8": star(8), "star of stars": stars(), "partial mesh of 10": partial(10), "full mesh of 12": full(12),
	}
}

func nodeName(i int) string { return string(rune('a' + i)) }

// distances gives how many links are between each two nodes, without those that are gone; -1: there is no
// path.
func (tp topology) distances(gone ...int) [][]int {
	all := make([][]int, tp.size)
	for i := range all {
		all[i] = slices.Repeat([]int{-1}, tp.size)
		if slices.Contains(gone, i) {
			continue
		}
		all[i][i] = 0
		for next := []int{i}; len(next) > 0; next = next[1:] {
			for _, l := range tp.links {
				for _, p := range [][2]int{l, {l[1], l[0]}} {
					if p[0] == next[0] && all[i][p[1]] < 0 && !slices.Contains(gone, p[1]) {
						all[i][p[1]] = all[i][p[0]] + 1
						next = append(next, p[1])
					}
				}
			}
		}
	}
	return all
}

// drawn is a farm with the links of a topology.
type drawn struct {
	*farm
	topology
	all []*testNode
}

// draw starts the nodes of a topology and waits until each can reach each.
func (f *farm) draw(tp topology) *drawn {
	f.t.Helper()
	before := f.config
	f.config = func(c *Config) {
		if before != nil {
			before(c)
		}
		c.Manual = true
	}
	d := &drawn{farm: f, topology: tp}
	for i := range tp.size {
		d.all = append(d.all, f.start(nodeName(i), d.peersOf(i)...))
	}
	d.reached()
	return d
}

func (d *drawn) peersOf(i int) (peers []string) {
	for _, l := range d.links {
		if l[1] == i {
			peers = append(peers, nodeName(l[0]))
		}
	}
	return peers
}

// reached waits until each node can reach each, and has the links that were drawn and no others.
func (d *drawn) reached() {
	d.t.Helper()
	var last string
	distances := d.distances()
	for range 300 {
		last = ""
		for i, a := range d.all {
			up := map[string]int{}
			for _, p := range a.mesh.Peers() {
				if p.State == Up {
					up[p.Node] = p.Hops
				}
			}
			for j, hops := range distances[i] {
				if i != j && up[nodeName(j)] != hops {
					last = fmt.Sprintf("%s sees %s %d links away, want %d", a.name, nodeName(j), up[nodeName(j)], hops)
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
		if last == "" {
			return
		}
	}
	d.t.Fatalf("%s\n%s", last, d.log)
}

// traffic is how many questions each node has handled, and how many came that it had seen.
type traffic struct {
	handled []float64
	seen    float64
}

func (d *drawn) traffic() (x traffic) {
	for _, n := range d.all {
		x.handled = append(x.handled, value(d.t, n.mesh.metrics.handled))
		x.seen += value(d.t, n.mesh.metrics.seen)
	}
	return x
}

// cost checks what one question has cost since before, and gives the number of messages: no node handles
// it twice, and no link carries it more than twice.
func (d *drawn) cost(before traffic) int {
	d.t.Helper()
	now := d.traffic()
	messages := now.seen - before.seen
	for i := range now.handled {
		n := now.handled[i] - before.handled[i]
		if n > 1 {
			d.t.Errorf("%s has handled one question %v times", nodeName(i), n)
		}
		messages += n
	}
	if int(messages) > 2*len(d.links) {
		d.t.Errorf("a question was sent %v times over %d links", messages, len(d.links))
	}
	return int(messages)
}

func TestInEveryTopologyEachNodeFindsEachSession(t *testing.T) {
	for what, tp := range topologies() {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				d := f.draw(tp)
				away := d.distances()
				for i, from := range d.all {
					body := fmt.Sprintf("of %d", i)
					from.put(keyOf(i), body, 0)
					holder := i
					for _, to := range []int{(i + 1) % d.size, (i + d.size/2) % d.size, (i + d.size - 1) % d.size, i} {
						if to == holder {
							continue
						}
						before := d.traffic()
						wantTime(t, fmt.Sprintf("a fetch over %d links", away[holder][to]), took(func() {
							f.wantAnswer("get", d.all[to].get(keyOf(i)), store.OK, body)
						}), time.Duration(2*away[holder][to])*f.delay)
						holder = to
						time.Sleep(time.Second) // the poll of those who may wait at the holder, and the question's end
						d.cost(before)
					}
					if h := f.holders(keyOf(i)); len(h) != 1 || h[0] != nodeName(holder) {
						t.Errorf("held by %v, want %s", h, nodeName(holder))
					}
				}
				for _, n := range d.all {
					if doubts := n.store.Stats().Doubts; doubts != 0 {
						t.Errorf("%s is in doubt about %d hand-overs", n.name, doubts)
					}
				}
			})
		})
	}
}

func TestInEveryTopologyAMissIsDecidedByAllAtOnce(t *testing.T) {
	for what, tp := range topologies() {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				d := f.draw(tp)
				most, slowest := 0, time.Duration(0)
				for i, n := range d.all {
					before := d.traffic()
					took := took(func() { f.wantAnswer("a miss", n.get(keyOf(i)), store.NotFound, "") })
					time.Sleep(time.Second)
					most, slowest = max(most, d.cost(before)), max(slowest, took)
					farthest := slices.Max(d.distances()[i])
					if limit := time.Duration(2*farthest+2)*f.delay + time.Millisecond; took > limit {
						t.Errorf("a miss took %v, %d links are between %s and the farthest node", took, farthest, n.name)
					}
					if d.links != nil && len(d.links) == d.size*(d.size-1)/2 {
						wantTime(t, "a miss in a full mesh", took, 2*f.delay)
					}
				}
				if len(d.links) == d.size*(d.size-1)/2 && most != d.size-1 {
					t.Errorf("a miss in a full mesh takes %d messages", most)
				}
				t.Logf("%s: %d nodes, %d links, at most %d questions and %v for a miss", what, d.size, len(d.links), most, slowest)
			})
		})
	}
}
