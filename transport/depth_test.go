package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"peerstate/certs"
)

// statuses gives the links of a topology as a mesh lists them.
func (tp topology) statuses() (all []LinkStatus) {
	for _, l := range tp.links {
		all = append(all, LinkStatus{A: nodeName(min(l[0], l[1])), B: nodeName(max(l[0], l[1]))})
	}
	return all
}

func TestTheDepthOfAFarmIsThatOfItsFarthestNodes(t *testing.T) {
	for name, c := range map[string]struct {
		links   []LinkStatus
		depth   int
		worst   int // without one node or link
		without int // how many names that is: one for a node, two for a link
	}{
		"alone":              {nil, 0, 0, 0},
		"a pair":             {line(2).statuses(), 1, 0, 0},
		"a line":             {line(12).statuses(), 11, 10, 1},
		"a ring":             {ring(12).statuses(), 6, 11, 2},
		"a star":             {star(8).statuses(), 2, 2, 1},
		"a star of stars":    {stars().statuses(), 4, 4, 1},
		"all with all":       {full(5).statuses(), 1, 2, 2},
		"too many to try it": {full(100).statuses(), 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := DepthOf(c.links)
			if d.Links != c.depth || (d.From != "" && d.To != "") != (c.depth > 0) {
				t.Errorf("it is %+v, want %d", d, c.depth)
			}
			if d, without := WorstDepthOf(c.links); d.Links != c.worst || len(without) != c.without {
				t.Errorf("it becomes %+v without %q, want %d", d, without, c.worst)
			}
		})
	}
}

func TestEachNodeKnowsWhichVersionTheOthersRun(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := &drawn{farm: f, topology: line(4)}
		for i := range d.size {
			f.config = func(c *Config) { c.Manual, c.Program = true, fmt.Sprintf("1.%d", i) }
			d.all = append(d.all, f.start(nodeName(i), d.peersOf(i)...))
		}
		d.reached()
		for _, n := range d.all {
			for _, p := range n.mesh.Peers() {
				if its := fmt.Sprintf("1.%d", p.Node[0]-'a'); p.Program != its {
					t.Errorf("%s says that %s runs version %q, want %q", n.name, p.Node, p.Program, its)
				}
			}
		}
		if far := d.all[0].mesh.reaches(); far != 3 {
			t.Errorf("the farthest node from a is reached over %d links, want 3", far)
		}
	})
}

func TestALookFromOutsideTellsWhoAnswersAndWhyNobodyDoes(t *testing.T) {
	dir := t.TempDir()
	ca := realCA(t, dir)
	n := realStart(t, ca, dir, "a", "127.0.0.1:0")
	if _, err := ca.Issue(filepath.Join(dir, "b"), "b", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	snap, err := certs.Load(filepath.Join(dir, "b"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Probe(t.Context(), snap, n.mesh.Addr().String())
	if err != nil || p.Node != "a" || p.Program != "2.0?" || p.Hops != defaultHops || p.Reach != 0 {
		t.Errorf("it says %+v, %v", p, err)
	}

	answering := func(answers bool) string {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			buf := make([]byte, 1500)
			for {
				_, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				if strange := buf[1] == 0x1a; answers && strange {
					_, _ = conn.WriteTo([]byte("another version"), from) // who asked may have gone
				}
			}
		}()
		t.Cleanup(func() {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			<-ended
		})
		return conn.LocalAddr().String()
	}
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("nobody", func(t *testing.T) { // the three at once
		for addr, want := range map[string]error{answering(false): ErrNoAnswer, answering(true): ErrNoHandshake, closed.LocalAddr().String(): ErrNobody} {
			t.Run(want.Error(), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // otherwise QUIC tries for 3 s
				defer cancel()
				if p, err := Probe(ctx, snap, addr); !errors.Is(err, want) {
					t.Errorf("%+v, %v", p, err)
				}
			})
		}
	})
}

func TestAStrangePacketIsAnsweredByANode(t *testing.T) {
	n := realFarm(t, "a")[0]
	to, ok := n.mesh.Addr().(*net.UDPAddr)
	if !ok {
		t.Fatal("no UDP address")
	}
	if err := knock(to); err != ErrNoHandshake {
		t.Error(err)
	}
}
