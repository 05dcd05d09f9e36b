package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const twinLine = "two machines use one node's certificate"

// copyOf makes a node with a copy of another's certificates, as somebody does who clones a machine.
func (f *farm) copyOf(n *node) *node {
	f.t.Helper()
	c := &node{farm: f, name: n.name + "-copy", peer: freeUDP(f.t), env: n.env}
	for _, file := range []string{"ca.crt", "node.crt", "node.key"} {
		data, err := os.ReadFile(filepath.Join(f.dir, n.name, file))
		if err != nil {
			f.t.Fatal(err)
		}
		to := filepath.Join(f.dir, c.name, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			f.t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	return c
}

func (n *node) logged(text string) bool { return strings.Contains(n.log.String(), text) }

func TestASecondLiveNodeOfOneNameIsRefusedLoudlyAndARestartedOneIsNot(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.node("london"), f.node("tokyo")
	f.startBoth(london, tokyo)
	tokyo.want(200, "", "PUT", "visitor", "cart")

	twin := f.copyOf(tokyo)
	twin.start(london)
	for _, n := range []*node{london, twin} {
		f.until("said by "+n.name, func() bool { return n.logged(twinLine) })
	}
	if a := twin.do("GET", "visitor", ""); a.status == 200 {
		t.Errorf("the second tokyo got the session: %q", a.body)
	}
	if s := london.state("tokyo"); s != "up" {
		t.Errorf("london says that the first tokyo is %s", s)
	}
	london.want(200, "cart", "GET", "visitor", "")
	tokyo.want(200, "cart", "GET", "visitor", "")
	twin.kill()
	london.want(200, "cart", "GET", "visitor", "")
	f.safe(london)

	// The same name once more, but the first is gone this time.
	tokyo.kill()
	tokyo.restart()
	f.linked(london, tokyo)
	tokyo.want(200, "cart", "GET", "visitor", "")
	if tokyo.logged(twinLine) {
		t.Error("a restarted node is taken for a second one")
	}
}

// The two of one name have no link to a common node: each is at another end of a line.
func TestASecondLiveNodeOfOneNameIsNoticedWhereNobodyIsLinkedWithBoth(t *testing.T) {
	t.Parallel()
	d := newFarm(t).draw("tokyo london paris", [][2]int{{0, 1}, {1, 2}})
	tokyo, london, paris := d.nodes[0], d.nodes[1], d.nodes[2]
	tokyo.want(200, "", "PUT", "visitor", "cart")
	twin := d.copyOf(tokyo)
	twin.env = append(twin.env, "PEERSTATE_PEERS="+paris.peer)
	twin.start()
	d.until("said by the second tokyo", func() bool { return twin.logged(twinLine) })
	d.until("said by paris", func() bool { return paris.logged(twinLine) })
	if s := london.state("tokyo"); s != "up" {
		t.Errorf("london says that the first tokyo is %s", s)
	}
	paris.want(200, "cart", "GET", "visitor", "")
	twin.kill()
	tokyo.want(200, "cart", "GET", "visitor", "")
}
