package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// shoppers are visitors who add one to a few counters, over and over, each page on another node.
type shoppers struct {
	nodes         []*node
	ids           []string
	stop          chan struct{}
	running       sync.WaitGroup
	mu            sync.Mutex
	made, perhaps map[string]int // additions that were answered, and those that were not
}

// shop begins with a counter for each node.
func shop(t *testing.T, nodes []*node) *shoppers {
	t.Helper()
	s := &shoppers{nodes: nodes, stop: make(chan struct{}), made: map[string]int{}, perhaps: map[string]int{}}
	for _, n := range nodes {
		id := "counter-of-" + n.name
		n.want(200, "", "PUT", id, "0")
		s.ids = append(s.ids, id)
	}
	for v, id := range s.ids {
		s.running.Go(func() {
			for turn := v; ; turn++ {
				select {
				case <-s.stop:
					return
				default:
				}
				ok, unsure := s.nodes[turn%len(s.nodes)].addOne(t, id)
				s.mu.Lock()
				if ok {
					s.made[id]++
				}
				if unsure {
					s.perhaps[id]++
				}
				s.mu.Unlock()
			}
		})
	}
	return s
}

func (s *shoppers) additions() (all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.made {
		all += n
	}
	return all
}

// goOn waits until some pages have been answered after this moment.
func (s *shoppers) goOn(f *farm, what string) {
	f.t.Helper()
	before := s.additions()
	f.until("going on "+what, func() bool { return s.additions() >= before+10 })
}

// end stops them, and compares what is in the sessions with what was answered.
func (s *shoppers) end(t *testing.T, d *drawn) {
	t.Helper()
	close(s.stop)
	s.running.Wait()
	for i, id := range s.ids {
		var a answer
		d.until("there", func() bool {
			n := s.nodes[(i+2)%len(s.nodes)]
			a = n.do("GET", id, "")
			if a.status == 404 {
				t.Fatalf("%s has gone, says %s", id, n.name)
			}
			if a.status == 423 && a.header["LockCookie"] != "0" { // as in addOne
				n.do("GET", id, "", "Exclusive: release", cookie(a))
			}
			return a.status == 200
		})
		got, err := strconv.Atoi(a.body)
		if err != nil || got < s.made[id] || got > s.made[id]+s.perhaps[id] {
			t.Errorf("%s is %q after %d additions and %d without an answer", id, a.body, s.made[id], s.perhaps[id])
		}
	}
	d.heldOnce(s.ids...)
	t.Logf("%d additions, %v without an answer", s.additions(), s.perhaps)
	for _, n := range s.nodes {
		n.missing("nobody")
	}
}

// Five nodes in a ring and in a full mesh, visitors on all of them: one link is pulled for a moment and one
// for so long that it ends, one node is killed and started at once and one only when its sessions
// have been taken over. The rest of the farm goes on all the time, and nothing that was answered is lost.
func TestNothingIsLostInARingNorInAMeshWhileLinksArePulledAndNodesKilled(t *testing.T) {
	for shape, links := range map[string][][2]int{"ring": ring(5), "full mesh": fullMesh(5)} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			d := newFarm(t).draw("london tokyo paris oslo lima", links, "PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_BACKUP_SYNC=strict")
			london, tokyo, paris, oslo, lima := d.nodes[0], d.nodes[1], d.nodes[2], d.nodes[3], d.nodes[4]
			s := shop(t, d.nodes)
			s.goOn(d.farm, "with all links")

			d.link(london, tokyo).set(rules{pulled: true})
			time.Sleep(time.Second)
			d.link(london, tokyo).set(rules{})
			s.goOn(d.farm, "after a link was away for a second")

			d.link(paris, oslo).set(rules{pulled: true})
			d.until("the link ended", func() bool {
				return paris.metric(`peerstate_peers{state="up"}`) == 4 && paris.links() == len(links)*2/5-1
			})
			s.goOn(d.farm, "without a link")
			d.link(paris, oslo).set(rules{})
			d.until("the link back", func() bool { return paris.links() == len(links)*2/5 })
			d.linked(d.nodes...)
			d.safe(d.nodes...)

			lima.kill()
			lima.restart()
			d.linked(d.nodes...)
			d.safe(d.nodes...)
			s.goOn(d.farm, "after a crash")

			tokyo.kill()
			d.until("tokyo out", func() bool { return london.state("tokyo") == "out" })
			s.goOn(d.farm, "without tokyo")
			tokyo.restart()
			d.linked(d.nodes...)
			s.goOn(d.farm, "with tokyo back")
			s.end(t, d)
		})
	}
}

// links is how many links the node has of its own.
func (n *node) links() int {
	n.farm.t.Helper()
	s, err := n.status()
	if err != nil {
		n.farm.t.Fatal(err)
	}
	links := 0
	for _, p := range s.Peers {
		if p.RTT != nil {
			links++
		}
	}
	return links
}

// Nobody can dial home, as behind a firewall: it dials one node. Its sessions are found and backed up by
// the others all the same, and theirs by it.
func TestANodeThatCanOnlyDialOutTakesFullPart(t *testing.T) {
	t.Parallel()
	d := newFarm(t).draw("london tokyo home", [][2]int{{0, 1}, {0, 2}}, "PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_BACKUP_SYNC=strict")
	london, tokyo, home := d.nodes[0], d.nodes[1], d.nodes[2]
	home.want(200, "", "PUT", "visitor", "cart")
	tokyo.want(200, "cart", "GET", "visitor", "")
	lock := home.want(200, "cart", "GET", "visitor", "", acquire)
	london.want(423, "", "GET", "visitor", "")
	tokyo.want(200, "", "PUT", "visitor", "fuller cart", cookie(lock))
	home.want(200, "fuller cart", "GET", "visitor", "")
	home.want(404, "", "GET", "nobody", "")
	for i := range 20 {
		home.want(200, "", "PUT", fmt.Sprint("other", i), "cart")
		tokyo.want(200, "", "PUT", fmt.Sprint("more", i), "cart")
	}
	d.safe(d.nodes...)

	// It comes back from a crash by its own dialling, and its sessions are there.
	home.kill()
	d.until("taken over", func() bool { return tokyo.do("GET", "other0", "").status == 200 })
	home.restart()
	d.linked(d.nodes...)
	home.served("visitor", "fuller cart")
	home.missing("nobody")
	// It keeps backups for others: tokyo's sessions survive tokyo.
	tokyo.kill()
	ids := []string{"visitor"}
	for i := range 20 {
		home.served(fmt.Sprint("other", i), "cart")
		home.served(fmt.Sprint("more", i), "cart")
		ids = append(ids, fmt.Sprint("other", i), fmt.Sprint("more", i))
	}
	d.nodes = []*node{london, home}
	d.heldOnce(ids...)
}
