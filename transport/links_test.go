package transport

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"peerstate/certs"
	"peerstate/store"
)

// watcher collects all links that nodes use, once a millisecond.
type watcher struct {
	end  chan struct{}
	done sync.WaitGroup
	seen map[*link]bool
}

func watch(nodes ...*testNode) *watcher {
	w := &watcher{end: make(chan struct{}), seen: map[*link]bool{}}
	w.done.Go(func() {
		t := time.NewTicker(time.Millisecond)
		defer t.Stop()
		for {
			for _, n := range nodes {
				n.mesh.mu.Lock()
				for _, other := range n.mesh.nodes {
					if other.link != nil {
						w.seen[other.link] = true
					}
				}
				n.mesh.mu.Unlock()
			}
			select {
			case <-t.C:
			case <-w.end:
				return
			}
		}
	})
	return w
}

// alive gives those that have not ended.
func (w *watcher) alive() (links []*link) {
	close(w.end)
	w.done.Wait()
	for l := range w.seen {
		if l.conn.Context().Err() == nil {
			links = append(links, l)
		}
	}
	return links
}

// peer gives what a node knows of another.
func (n *testNode) peer(name string) PeerStatus {
	for _, p := range n.mesh.Peers() {
		if p.Node == name {
			return p
		}
	}
	return PeerStatus{}
}

func TestOfTwoLinksThatAreDialledFromBothSidesAtOnceOneStays(t *testing.T) {
	for _, there := range []time.Duration{0, 10 * time.Millisecond, 80 * time.Millisecond} {
		for _, back := range []time.Duration{time.Millisecond, 35 * time.Millisecond} {
			for _, later := range []time.Duration{0, 1, 3, 10, 21, 45} {
				later *= time.Millisecond
				t.Run(fmt.Sprintf("%v there %v back %v later", there, back, later), func(t *testing.T) {
					inFarm(t, func(t *testing.T, f *farm) { dialBothSides(t, f, there, back, later) })
				})
			}
		}
	}
}

func dialBothSides(t *testing.T, f *farm, there, back, later time.Duration) {
	f.net.delaying(func(from, _ string) time.Duration {
		if from == addrOf("a").String() {
			return max(there, 1)
		}
		return back
	})
	a := f.start("a", "b")
	time.Sleep(later)
	b := f.start("b", "a")
	w := watch(a, b)
	a.put(keyOf(1), "on a", 0)
	b.put(keyOf(2), "on b", 0)
	begun := time.Now()
	known := map[*testNode]bool{}
	for time.Since(begun) < 1500*time.Millisecond {
		for n, key := range map[*testNode]string{a: keyOf(2), b: keyOf(1)} {
			switch got := n.head(key); {
			case got.Status == store.OK:
				known[n] = true
			case got.Status == store.NotFound:
				t.Errorf("after %v %s says that a session does not exist", time.Since(begun), n.name)
			case known[n]:
				t.Errorf("after %v %s lost sight of a session", time.Since(begun), n.name)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	if left := w.alive(); len(left) != 2 {
		t.Errorf("%d ends of links are alive, want 2", len(left))
	}
	x, y := a.mesh.direct("b"), b.mesh.direct("a")
	if x == nil || y == nil || x.dialled == y.dialled {
		t.Fatalf("a uses %v, b uses %v", x, y)
	}
	if !x.alive(t.Context()) || !y.alive(t.Context()) {
		t.Error("the link that stays does not carry pings both ways")
	}
	if lines := f.log.lines("a", "a link has ended"); len(lines) > 0 {
		t.Errorf("a choice between two links was logged as a loss: %s", lines)
	}
}

func TestThreeNodesThatDialEachOtherAtOnceHaveOneLinkForEachPair(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c := f.start("a", "b", "c"), f.start("b", "a", "c"), f.start("c", "a", "b")
		w := watch(a, b, c)
		time.Sleep(time.Second)
		f.linked(a, b, c)
		if left := w.alive(); len(left) != 6 {
			t.Errorf("%d ends of links are alive, want 6", len(left))
		}
	})
}

// An operator may list one node under several addresses, or twice.
func TestANodeThatIsConfiguredTwiceHasOneLink(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "b", "b")
		b := f.start("b", "a")
		w := watch(a, b)
		time.Sleep(3 * time.Second)
		f.linked(a, b)
		if left := w.alive(); len(left) != 2 {
			t.Errorf("%d ends of links are alive, want 2", len(left))
		}
		if n := len(a.mesh.Peers()); n != 1 {
			t.Errorf("a has %d peers: %v", n, a.mesh.Peers())
		}
	})
}

func TestANodeThatRestartsIsLinkedAgainAndReplacesItsOldSelf(t *testing.T) {
	for what, tt := range map[string]struct {
		a, b   []string // what they dial
		within time.Duration
	}{
		"it dials":              {a: nil, b: []string{"a"}, within: 200 * time.Millisecond},
		"it is dialled":         {a: []string{"b"}, b: nil, within: 2 * time.Second},
		"both dial one another": {a: []string{"b"}, b: []string{"a"}, within: 200 * time.Millisecond},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				a := f.start("a", tt.a...)
				b := f.start("b", tt.b...)
				f.linked(a, b)
				time.Sleep(20 * time.Second)
				for range 3 {
					old := a.mesh.direct("b")
					b.kill()
					time.Sleep(time.Second)
					if a.mesh.direct("b") != old {
						t.Fatal("a has heard of the end")
					}
					b = f.start("b", tt.b...)
					begun := time.Now()
					for a.mesh.direct("b") == nil || a.mesh.direct("b").instance != b.mesh.config.Instance {
						if time.Since(begun) > tt.within {
							t.Fatalf("not linked after %v", tt.within)
						}
						time.Sleep(time.Millisecond)
					}
					time.Sleep(50 * time.Millisecond)
					if old.conn.Context().Err() == nil {
						t.Error("the link to the old run lives")
					}
					b.put(keyOf(1), "x", 0)
					f.wantAnswer("get on a", a.get(keyOf(1)), store.OK, "x")
					a.delete(keyOf(1), store.NoCookie)
					time.Sleep(15 * time.Second)
				}
			})
		})
	}
}

// copyCertificates makes the mistake of an operator who sets up a machine by copying another.
func (f *farm) copyCertificates(from, to string) {
	f.t.Helper()
	if err := certs.MakeDir(filepath.Join(f.dir, to)); err != nil {
		f.t.Fatal(err)
	}
	for _, name := range []string{certs.CACert, certs.NodeCert, certs.NodeKey} {
		data, err := os.ReadFile(filepath.Join(f.dir, from, name))
		if err == nil {
			err = certs.WriteFile(filepath.Join(f.dir, to, name), data)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

const twinLine = "two machines use one node's certificate"

func TestASecondLiveNodeOfOneNameIsRefusedLoudlyAndTheFirstGoesOn(t *testing.T) {
	for what, tt := range map[string]struct{ a, b, twin []string }{
		"the second dials":              {b: []string{"a"}, twin: []string{"a"}},
		"the second is dialled":         {a: []string{"b", "2"}},
		"both":                          {a: []string{"b", "2"}, b: []string{"a"}, twin: []string{"a"}},
		"the second dials its namesake": {a: []string{"b"}, twin: []string{"b"}},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				a := f.start("a", tt.a...)
				b := f.start("b", tt.b...)
				f.linked(a, b)
				time.Sleep(2 * time.Second)
				f.copyCertificates("b", "2")
				first := a.mesh.direct("b")
				b.put(keyOf(1), "x", 0)
				twin := f.startOn("2", tt.twin...)
				for range 600 {
					if d := took(func() { f.wantAnswer("head on a", a.head(keyOf(1)), store.OK, "") }); d != 2*f.delay {
						t.Fatalf("a question took %v", d)
					}
					time.Sleep(80 * time.Millisecond)
				}
				if a.mesh.direct("b") != first || first.conn.Context().Err() != nil {
					t.Error("the first node's link was not left alone")
				}
				if twin.mesh.direct("a") != nil || twin.mesh.direct("b") != nil {
					t.Error("the second node is linked")
				}
				accuser := "a"
				if what == "the second dials its namesake" {
					accuser = "b"
				}
				f.wantLogged(accuser, twinLine)
				f.wantLogged("2", twinLine)
				for _, p := range append(a.mesh.Peers(), twin.mesh.Peers()...) {
					if p.Node == "" && (p.State != Refused || !strings.Contains(p.Reason, "called b")) {
						t.Errorf("the refused address is shown as %+v", p)
					}
				}
			})
		})
	}
}

func TestASecondNodeOfOneNameIsLetInWhenTheFirstIsDead(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		f.copyCertificates("b", "2") // the machine is replaced, and keeps its name
		b.kill()
		moved := f.startOn("2", "a")
		begun := time.Now()
		f.linked(a, moved)
		if d := time.Since(begun); d > 3*time.Second {
			t.Errorf("it took %v", d)
		}
		if got := a.mesh.direct("b").instance; got != moved.mesh.config.Instance {
			t.Error("a is linked to another run")
		}
		if lines := f.log.lines("a", twinLine); len(lines) > 0 {
			t.Error(lines)
		}
	})
}

func TestANodeThatFindsItselfAtAConfiguredAddressLeavesItOut(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "a")
		f.wantAnswer("get before it has found out", a.get(keyOf(1)), store.Unknown, "")
		time.Sleep(100 * time.Millisecond)
		if d := took(func() { f.wantAnswer("get", a.get(keyOf(1)), store.NotFound, "") }); d != 0 {
			t.Errorf("a miss took %v", d)
		}
		if p := a.mesh.Peers(); len(p) > 0 {
			t.Errorf("it has peers: %v", p)
		}
		f.wantLogged("a", "is this node itself")
		time.Sleep(5 * time.Second)
		before := f.net.packets()
		time.Sleep(time.Hour)
		if sent := f.net.packets() - before; sent > 0 {
			t.Errorf("it has sent %d packets to itself", sent)
		}
	})
}

func TestALinkThatDiesIsNoticedAndItsNodeIsOutAndThenLost(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		time.Sleep(10 * time.Second)
		p := a.peer("b")
		if p.State != Up || p.Reason != "" || p.RTT < 20*time.Millisecond || p.RTT > 25*time.Millisecond ||
			p.Site != "site-b" || p.Addr != b.addr.String() || time.Since(p.Since) < 10*time.Second || p.Cert.Expires.IsZero() {
			t.Errorf("while it is up: %+v", p)
		}
		b.kill()
		begun := time.Now()
		reach := func(want State, from, to time.Duration) {
			t.Helper()
			for a.peer("b").State != want {
				if time.Since(begun) > to {
					t.Fatalf("after %v: %+v, want it %s", to, a.peer("b"), want)
				}
				time.Sleep(time.Millisecond)
			}
			p := a.peer("b")
			if d := time.Since(begun); d < from {
				t.Errorf("%s after %v already", want, d)
			}
			if time.Since(p.Since) > 2*time.Millisecond || p.RTT != 0 || !strings.Contains(p.Reason, "nothing was heard") {
				t.Errorf("%s: %+v", want, p)
			}
		}
		// QUIC's time-out begins with the first ping that is not acknowledged.
		reach(Connecting, 4*time.Second, 6100*time.Millisecond)
		f.wantLogged("a", "a link has ended")
		reach(Out, 9*time.Second, 11200*time.Millisecond)
		f.wantLogged("a", "a node is out")
		reach(Lost, 69*time.Second, 72*time.Second)
		f.wantLogged("a", "a node is lost")
		time.Sleep(time.Hour)
		if p := a.peer("b"); p.State != Lost {
			t.Errorf("an hour later: %+v", p)
		}
		b = f.start("b", "a")
		f.linked(a, b)
		if p := a.peer("b"); p.State != Up || p.Reason != "" {
			t.Errorf("when it is back: %+v", p)
		}
	})
}

func TestANodeThatIsStoppedIsMissedAtOnce(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		b.stop()
		time.Sleep(20 * time.Millisecond)
		if p := a.peer("b"); p.State != Connecting || p.Reason != "closed by the other side: the node stops" {
			t.Errorf("%+v", p)
		}
	})
}

func TestAPeerThatComesLateIsFoundAndUntilThenTriedWithPauses(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a", "b")
		time.Sleep(time.Second)
		if p := a.mesh.Peers(); len(p) != 1 || p[0].State != Connecting || p[0].Addr != addrOf("b").String() {
			t.Errorf("at first: %+v", p)
		}
		time.Sleep(9 * time.Second)
		if p := a.mesh.Peers(); len(p) != 1 || p[0].State != Out || p[0].Reason != "no answer on UDP" {
			t.Errorf("later: %+v", p)
		}
		before := f.net.packets()
		time.Sleep(10 * time.Minute)
		if rate := float64(f.net.packets()-before) / 600; rate > 5 {
			t.Errorf("%.1f packets a second are sent to a node that is not there", rate)
		}
		if lines := f.log.lines("a", "level=WARN"); len(lines) != 1 || !strings.Contains(lines[0], "no answer on UDP") {
			t.Errorf("logged: %s", lines)
		}
		b := f.start("b")
		begun := time.Now()
		f.linked(a, b)
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("found after %v", d)
		}
	})
}

func TestAnExpiredCertificateEndsALiveLink(t *testing.T) {
	for _, dialler := range []string{"a", "b"} {
		t.Run(dialler+" dials", func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				f.issue("b", 10*time.Minute)
				var a, b *testNode
				if dialler == "a" {
					a, b = f.start("a", "b"), f.start("b")
				} else {
					a, b = f.start("a"), f.start("b", "a")
				}
				f.linked(a, b)
				time.Sleep(10*time.Minute - 2*time.Second)
				if a.mesh.direct("b") == nil {
					t.Fatal("the link has ended too soon")
				}
				time.Sleep(6 * time.Second)
				b.put(keyOf(1), "x", 0)
				f.wantAnswer("get on a", a.get(keyOf(1)), store.Unknown, "")
				if a.mesh.direct("b") != nil || b.mesh.direct("a") != nil {
					t.Fatal("the link lives")
				}
				f.wantLogged("a", `a peer's certificate is no longer accepted; its link is closed" node=a peer=b reason="expired`)
				f.wantLogged("b", "a link has ended", `reason="closed by the other side: certificate no longer accepted: expired"`)
				f.wantLogged("a", "a peer's certificate is refused: expired")
				f.wantLogged("b", "a peer refuses this node's certificate: expired")
			})
		})
	}
}

func TestANodeThatLeavesQuestionsUnansweredIsNotWaitedForAndThenUnlinked(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		f.deaf("b", a)
		if d := took(func() { f.wantAnswer("the first get", a.get(keyOf(1)), store.Unknown, "") }); d != 2500*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if p := a.peer("b"); p.State != Suspect {
			t.Errorf("%+v", p)
		}
		for range 10 {
			if d := took(func() { f.wantAnswer("a later get", a.get(keyOf(1)), store.Unknown, "") }); d != 0 {
				t.Errorf("it took %v", d)
			}
			time.Sleep(400 * time.Millisecond)
		}
		if a.mesh.direct("b") == nil {
			t.Fatal("unlinked before the grace time was over")
		}
		time.Sleep(1200 * time.Millisecond)
		if a.mesh.direct("b") != nil {
			t.Error("still linked")
		}
		time.Sleep(65 * time.Second)
		f.wantAnswer("a get when it is lost", a.get(keyOf(1)), store.NotFound, "")
		f.wantLogged("a", "a node left a question unanswered")
		f.wantLogged("a", "a link has ended", "no question answered for the grace time")
	})
}

// A write that waits for one node asks the others again and again, at the end with a few
// milliseconds left.
func TestAQuestionForWhichLittleTimeWasLeftMakesNobodySuspect(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c := f.start("a", "b", "c"), f.start("b", "c"), f.start("c")
		f.linked(a, b, c)
		c.stop()
		for range 20 {
			f.wantAnswer("release", a.release(keyOf(1), 7), store.Unknown, "")
			if p := a.peer("b"); p.State != Up {
				t.Fatalf("%+v", p)
			}
		}
	})
}

func TestClosingEndsQuestionsAsNotKnown(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 200 * time.Microsecond)
				switch got := a.get(keyOf(i)); got.Status {
				case store.Unknown, store.NotFound:
				default:
					t.Errorf("status %d", got.Status)
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		a.stop()
		all.Wait()
		if got := a.mesh.Ask(context.Background(), store.Question{Key: keyOf(1), Want: store.Move}); got.Outcome != store.NotKnown {
			t.Errorf("after the end: %+v", got)
		}
		if _, err := a.mesh.Forward(context.Background(), "b", &store.Request{Op: store.Put, Key: []byte("x")}); err == nil {
			t.Error("after the end a write was passed on")
		}
	})
}
