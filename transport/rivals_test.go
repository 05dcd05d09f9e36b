package transport

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"peerstate/store"
)

// islands are two farms of one kind, each with a node called a; that of the second is on machine 2. They are
// linked by one link between their ends.
type islands struct {
	*farm
	mesh     bool        // each island is a full mesh, otherwise a line
	one, two []*testNode // each begins with its a
}

// apart starts both islands; nothing goes between them until join. The ends dial each other.
func (f *farm) apart(one, two string, mesh, oneFirst bool) *islands {
	f.config = func(c *Config) { c.Manual = true }
	in := &islands{farm: f, mesh: mesh}
	f.issue("a", 365*24*time.Hour)
	f.copyCertificates("a", "2")
	inTwo := map[string]bool{}
	for _, host := range two {
		inTwo[addrOf(string(host)).String()] = true
	}
	f.net.losing(func(from, to string) bool { return inTwo[from] != inTwo[to] })
	begin := func(hosts, end string) (all []*testNode) {
		for i, h := range hosts {
			var peers []string
			if i > 0 {
				f.issue(string(h), 365*24*time.Hour)
			}
			for j := range i {
				if mesh || j == i-1 {
					peers = append(peers, hosts[j:j+1])
				}
			}
			if i == len(hosts)-1 {
				peers = append(peers, end)
			}
			all = append(all, f.startOn(string(h), peers...))
		}
		time.Sleep(10 * time.Second)
		return all
	}
	if oneFirst {
		in.one = begin(one, two[len(two)-1:])
	}
	in.two = begin(two, one[len(one)-1:])
	if !oneFirst {
		in.one = begin(one, two[len(two)-1:])
	}
	return in
}

func TestOfTwoIslandsThatEachHaveANodeOfOneNameTheEarlierStartedOneStays(t *testing.T) {
	for _, backups := range []int{0, 1} {
		for _, tt := range []struct {
			one, two string
			mesh     bool
		}{{"ab", "2c", false}, {"abd", "2c", false}, {"ab", "2ce", false}, {"abd", "2ce", false}, {"abd", "2ce", true}} {
			for _, oneFirst := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d backups/%s and %s/mesh %v/%v", backups, tt.one, tt.two, tt.mesh, oneFirst), func(t *testing.T) {
					inFarm(t, func(t *testing.T, f *farm) {
						f.backups = backups
						in := f.apart(tt.one, tt.two, tt.mesh, oneFirst)
						if oneFirst {
							in.joined(t, in.one, in.two)
						} else {
							in.joined(t, in.two, in.one)
						}
					})
				})
			}
		}
	}
}

// joined links the islands and checks what becomes of them: the a of the other one has to go.
func (in *islands) joined(t *testing.T, stays, other []*testNode) {
	first, twin := stays[0], other[0]
	linked := slices.Concat(stays, other[1:])
	const shared = 99 // one key that both islands have
	key := 0
	where := map[int]*testNode{}
	for _, n := range slices.Concat(in.one, in.two) {
		in.wantAnswer("put", n.put(keyOf(key), fmt.Sprint(key), 0), store.OK, "")
		where[key] = n
		key++
	}
	in.wantAnswer("put", stays[1].put(keyOf(shared), "older", 0), store.OK, "")
	time.Sleep(time.Second)
	in.wantAnswer("put", other[1].put(keyOf(shared), "newer", 0), store.OK, "")
	time.Sleep(time.Second) // the backups have been made
	before := map[*testNode]*link{}
	for _, n := range stays[1:] {
		before[n] = n.mesh.direct("a")
	}

	in.mend()
	time.Sleep(15 * time.Second)
	for n, l := range before {
		if n.mesh.direct("a") != l || l != nil && l.conn.Context().Err() != nil {
			t.Errorf("the link of %s to the node that was there first was not left alone", n.name)
		}
	}
	for _, n := range other[1:] {
		if n.mesh.direct("a") != nil || twin.mesh.direct(n.name) != nil {
			t.Errorf("the second node is linked with %s still", n.name)
		}
	}
	for _, some := range [][]*testNode{stays[1:], other[1:], {twin}} {
		lines := 0
		for _, n := range some {
			lines += len(in.log.lines(n.host, twinLine))
		}
		if lines == 0 || !in.mesh && lines != 1 {
			t.Errorf("%d lines of %s and its neighbours say that there are two", lines, some[0].host)
		}
	}
	for _, n := range linked {
		if n != first && n.mesh.wayTo(store.Peer{Node: "a", Instance: first.mesh.config.Instance}) == nil {
			t.Errorf("%s does not reach the node that was there first", n.name)
		}
	}
	conflicts := uint64(0)
	for _, n := range linked {
		conflicts += n.store.Stats().Conflicts
	}
	if conflicts != 1 {
		t.Errorf("%d conflicts are counted, want that of the key which both islands had", conflicts)
	}
	for _, k := range slices.Sorted(maps.Keys(where)) {
		in.wantOnce(t, linked, k, fmt.Sprint(k), where[k] == twin && in.backups == 0)
	}
	in.wantOnce(t, linked, shared, "newer", false)
}

// wantOnce checks that every node finds a session, and exactly one holds it; or, gone, that none does: it was
// only on the node that had to go.
func (in *islands) wantOnce(t *testing.T, nodes []*testNode, k int, body string, gone bool) {
	t.Helper()
	for _, n := range nodes {
		if gone {
			in.wantAnswer(fmt.Sprintf("get of %d on %s", k, n.name), n.get(keyOf(k)), store.NotFound, "")
			continue
		}
		in.wantAnswer(fmt.Sprintf("get of %d on %s", k, n.name), n.get(keyOf(k)), store.OK, body)
	}
	time.Sleep(time.Second) // the last receipt has come
	var holders []string
	for _, n := range nodes {
		if n.holds(keyOf(k)) {
			holders = append(holders, n.name)
		}
	}
	if want := map[bool]int{false: 1, true: 0}[gone]; len(holders) != want {
		t.Errorf("session %d is held by %v", k, holders)
	}
}

// In a ring, a is started anew again and again, in good order or not, while news travel at very different speeds: lists of a
// run that is over come to nodes that are linked with the next one, and the other way round.
func TestANodeThatIsStartedAnewIsNeverTakenForASecondOne(t *testing.T) {
	for _, slow := range []time.Duration{20 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%v", slow, killed), func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					d := f.draw(ring(5))
					f.net.delaying(func(from, to string) time.Duration {
						switch {
						case from == addrOf("b").String() && to == addrOf("c").String(), from == addrOf("d").String():
							return slow
						case from == addrOf("c").String():
							return slow / 3
						}
						return time.Millisecond
					})
					for i := range 12 {
						n := f.nodes["a"]
						if killed {
							n.kill()
						} else {
							n.stop()
						}
						time.Sleep(time.Duration(i%4) * 70 * time.Millisecond)
						// Of its two links now the one is there first and now the other, or there is one only.
						f.startOn("a", [][]string{{"b", "e"}, {"b"}, {"e"}, {"c"}}[i%4]...)
						time.Sleep(time.Duration(i) * 300 * time.Millisecond)
					}
					time.Sleep(30 * time.Second)
					for host := range f.nodes {
						if lines := f.log.lines(host, twinLine); len(lines) > 0 {
							t.Error(lines)
						}
					}
					for _, n := range d.all[1:] {
						if n.mesh.wayTo(store.Peer{Node: "a", Instance: f.nodes["a"].mesh.config.Instance}) == nil {
							t.Errorf("%s does not reach the last run", n.name)
						}
					}
				})
			})
		}
	}
}
