package transport

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"peerstate/certs"
)

// rotation tells how far the replacement of the CA is.
func (i *issuedFarm) rotation() certs.Progress {
	i.t.Helper()
	p, ok := i.nodes[i.host].mesh.Rotation()
	if !ok {
		i.t.Fatal("this is not the issuer")
	}
	return p
}

// reach waits until the replacement of the CA is at the stage, a minute at most.
func (i *issuedFarm) reach(stage certs.Stage) {
	i.t.Helper()
	for range 600 {
		if i.rotation().Stage == stage {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	i.t.Fatalf("the stage %q is not reached within a minute: %+v, %v\n%s", stage, i.rotation(), i.nodes[i.host].mesh.RotationWaits(), i.log)
}

func (i *issuedFarm) rotate() {
	i.t.Helper()
	if err := i.nodes[i.host].mesh.RotateCA(context.Background(), 365*day); err != nil {
		i.t.Fatal(err)
	}
}

// onOneCA fails unless all nodes have a certificate of the one CA that is trusted, and it is another than before, or not.
func (i *issuedFarm) onOneCA(was string, another bool) {
	i.t.Helper()
	d := i.issuer.Document()
	if n := len(d.Authorities()); n != 1 || d.Rotation.Stage != certs.NoRotation {
		i.t.Fatalf("%d CAs are trusted, stage %q", n, d.Rotation.Stage)
	}
	for _, n := range i.nodes {
		for end := time.Now().Add(5 * time.Second); n.mesh.Certs().DocumentNumber() != d.Number && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
		s := n.mesh.Certs()
		if s.DocumentNumber() != d.Number || s.Self().IssuerKey == was == another || s.Self().IssuerKey != d.Authorities()[0].KeyID {
			i.t.Errorf("%s has document %d, want %d; its certificate is of %s, and that was %s before", n.name, s.DocumentNumber(), d.Number, s.Self().IssuerKey, was)
		}
		n.onDisk()
	}
}

func all(f *farm) (nodes []*testNode) {
	for _, n := range f.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *testNode) int { return strings.Compare(a.name, b.name) })
	return nodes
}

// drawnIssued is a farm with the links of a topology whose node a is the issuer.
func (f *farm) drawnIssued(tp topology, backups int) (*issuedFarm, *drawn) {
	f.t.Helper()
	f.backups = backups
	f.config = func(c *Config) { c.Manual = true }
	i := f.issued("a", 90*day)
	d := &drawn{farm: f, topology: tp}
	for n := range tp.size {
		d.all = append(d.all, f.start(nodeName(n), d.peersOf(n)...))
	}
	d.reached()
	return i, d
}

func TestTheCAIsReplacedUnderLoadWithoutOneRequestFailedOrLate(t *testing.T) {
	for name, tp := range map[string]topology{"full mesh": full(5), "ring": ring(5), "star, issuer in the middle": star(5), "star, issuer outside": turned(star(5))} {
		t.Run(name, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				i, d := f.drawnIssued(tp, 1)
				time.Sleep(2 * time.Second)
				was := d.all[0].mesh.Certs().Self().IssuerKey
				late := 62 * time.Millisecond
				if name != "full mesh" {
					late = 150 * time.Millisecond
				}
				before, since := parted(d.all), len(f.log.String())
				l := f.loaded(late, d.all...)
				time.Sleep(time.Second)
				begun := time.Now()
				i.rotate()
				i.reach(certs.NoRotation)
				took := time.Since(begun)
				time.Sleep(time.Second)
				l.end()
				t.Logf("it took %v, %d requests, the slowest %v", took, l.done, l.worst)
				if took > 10*time.Second {
					t.Errorf("it took %v", took)
				}
				i.onOneCA(was, true)
				f.renewed(2*time.Second, d.all...)
				f.quiet(since)
				if n := parted(d.all); n != before {
					t.Errorf("nodes have parted, or have not met: %d, %d before", n, before)
				}
				if p := i.rotation(); !p.Done || len(p.Waiting) != 0 {
					t.Errorf("%+v", p)
				}
			})
		})
	}
}

// turned gives the first node of a topology another place.
func turned(tp topology) topology {
	next := topology{size: tp.size}
	for _, l := range tp.links {
		x, y := (l[0]+1)%tp.size, (l[1]+1)%tp.size
		next.links = append(next.links, [2]int{min(x, y), max(x, y)})
	}
	return next
}

func TestAReplacementOfTheCASurvivesCrashesOfTheIssuer(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				r := rand.New(rand.NewPCG(seed, 3))
				i := f.issued("a", 90*day)
				nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a", "b"), f.start("d", "a", "b")}
				f.linked(nodes...)
				was := nodes[0].mesh.Certs().Self().IssuerKey
				i.rotate()
				for range 6 {
					time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
					if r.IntN(2) == 0 {
						i.crash()
						time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
					} else {
						i.nodes["a"].stop()
						i.close()
					}
					f.startOn("a", "b", "c", "d")
				}
				i.reach(certs.NoRotation)
				i.onOneCA(was, true)
				f.linked(all(f)...)
			})
		})
	}
}

func TestAReplacementOfTheCAGoesOnWhenTheIssuerWasCutOff(t *testing.T) {
	for _, stage := range []certs.Stage{certs.Trust, certs.Renew, certs.Drop} {
		t.Run(string(stage), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				i := f.issued("a", 90*day)
				nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a", "b")}
				f.linked(nodes...)
				was := nodes[0].mesh.Certs().Self().IssuerKey
				i.rotate()
				for i.rotation().Stage != stage {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(5 * time.Millisecond) // what is on its way to the others arrives, and their answers do not
				f.split(nodes[0])
				time.Sleep(30 * time.Second)
				if p := i.rotation(); p.Done || p.Stage == certs.NoRotation || !slices.Contains(p.Waiting, "b") {
					t.Errorf("while it is cut off: %+v", p)
				}
				if why := nodes[0].mesh.RotationWaits()["b"]; !strings.Contains(why, string(Out)) {
					t.Errorf("b is waited for since %q", why)
				}
				f.mend()
				i.reach(certs.NoRotation)
				i.onOneCA(was, true)
				f.linked(nodes...)
			})
		})
	}
}

func TestANodeThatIsOffIsWaitedForAndNamed(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issued("a", 90*day)
		nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a", "b")}
		f.linked(nodes...)
		was := nodes[0].mesh.Certs().Self().IssuerKey
		nodes[2].kill()
		i.rotate()
		if p := i.rotation(); !slices.Contains(p.Waiting, "c") || p.Done {
			t.Errorf("at once: %+v", p)
		}
		time.Sleep(3 * time.Minute) // it is lost by now
		if p := i.rotation(); p.Stage != certs.Trust || !slices.Equal(p.Waiting, []string{"c"}) || !slices.Equal(p.Confirmed, []string{"a", "b"}) {
			t.Errorf("%+v", p)
		}
		if why := nodes[0].mesh.RotationWaits()["c"]; !strings.Contains(why, string(Lost)) {
			t.Errorf("c is waited for since %q", why)
		}
		if n := len(f.log.lines("a", "level=WARN", "waits for nodes", "[c]", "--without")); n != 1 {
			t.Errorf("%d warnings", n)
		}
		f.startOn("c", "a", "b")
		i.reach(certs.NoRotation)
		i.onOneCA(was, true)
		f.linked(all(f)...)
	})
}

func TestTheOperatorGoesOnWithoutANode(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issued("a", 90*day)
		nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a", "b")}
		f.linked(nodes...)
		was := nodes[0].mesh.Certs().Self().IssuerKey
		nodes[2].kill()
		i.rotate()
		time.Sleep(10 * time.Second)
		if err := nodes[1].mesh.RotateWithout(context.Background(), "c"); err == nil || !strings.Contains(err.Error(), "ask on a") {
			t.Errorf("on another node: %v", err)
		}
		if err := nodes[0].mesh.RotateWithout(context.Background(), "c"); err != nil {
			t.Fatal(err)
		}
		i.reach(certs.NoRotation)
		i.onOneCA(was, true)
		// It comes back with what nobody trusts any more.
		c := f.startOn("c", "a", "b")
		time.Sleep(30 * time.Second)
		if c.mesh.linkTo("a") != nil || nodes[1].mesh.linkTo("c") != nil {
			t.Error("c is linked with a certificate of the CA that was dropped")
		}
	})
}

func TestAReplacementOfTheCAIsAbandonedInEachStage(t *testing.T) {
	for _, stage := range []certs.Stage{certs.Trust, certs.Renew, certs.Drop} {
		t.Run(string(stage), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				i, d := f.drawnIssued(ring(5), 1)
				time.Sleep(2 * time.Second)
				was := d.all[0].mesh.Certs().Self().IssuerKey
				since := len(f.log.String())
				var l *load
				if stage == certs.Renew {
					l = f.loaded(150*time.Millisecond, d.all...)
				}
				i.rotate()
				for i.rotation().Stage != stage {
					time.Sleep(time.Millisecond)
				}
				if stage == certs.Renew { // some have renewed
					for d.all[2].mesh.Certs().Self().IssuerKey == was {
						time.Sleep(time.Millisecond)
					}
				}
				err := d.all[0].mesh.AbandonRotation(context.Background())
				if (err != nil) != (stage == certs.Drop) {
					t.Errorf("abandoned: %v", err)
				}
				i.reach(certs.NoRotation)
				time.Sleep(time.Second)
				if l != nil {
					l.end()
				}
				i.onOneCA(was, stage == certs.Drop)
				f.quiet(since)
				// And it can be replaced after that.
				was = d.all[0].mesh.Certs().Self().IssuerKey
				time.Sleep(5 * time.Minute)
				i.rotate()
				i.reach(certs.NoRotation)
				i.onOneCA(was, true)
			})
		})
	}
}

func TestNodesThatJoinWhileTheCAIsReplacedAreWaitedForAndOneThatLeftIsNamed(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issued("a", 90*day)
		nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a", "b")}
		f.linked(nodes...)
		was := nodes[0].mesh.Certs().Self().IssuerKey
		nodes[2].kill() // holds it up
		nodes[1].mesh.GoodBye(context.Background())
		nodes[1].stop()
		i.rotate()
		// One gets its certificate before it is ever seen, and one comes at once.
		byHand := func(name string) {
			ca, err := certs.LoadCA(i.caDir())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ca.Issue(filepath.Join(f.dir, name), name, 365*day, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		byHand("d")
		byHand("e")
		f.startOn("e", "a")
		time.Sleep(5 * time.Second)
		if p := i.rotation(); !slices.Equal(p.Waiting, []string{"b", "c", "d"}) || !slices.Equal(p.Confirmed, []string{"a", "e"}) {
			t.Errorf("%+v", p)
		}
		why := nodes[0].mesh.RotationWaits()
		if !strings.Contains(why["b"], string(Drained)) || !strings.Contains(why["d"], "never linked") {
			t.Errorf("%v", why)
		}
		f.startOn("c", "a", "e")
		f.startOn("d", "a")
		f.startOn("b", "a")
		i.reach(certs.NoRotation)
		i.onOneCA(was, true)
		f.linked(all(f)...)
	})
}

// A node that answers for another, keeps what it has heard, or makes something up confirms nothing.
func TestOnlyTheNodeThatIsAskedConfirms(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.issued("a", 90*day)
		nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a", "b")}
		f.linked(nodes...)
		m := nodes[0].mesh
		nonce, other := newNonce(), newNonce()
		good := nodes[1].mesh.confirmation(nonce)
		changed := slices.Clone(good.Proof)
		changed[len(changed)/2] ^= 1
		heard := func(name string, nonce []byte, proof []byte) bool {
			delete(m.rotating.confirmed, name)
			m.hearConfirmed(name, nonce, confirmed{Proof: proof})
			_, ok := m.confirmations()[name]
			return ok
		}
		if !heard("b", nonce, good.Proof) {
			t.Error("its own is not accepted")
		}
		if heard("c", nonce, good.Proof) {
			t.Error("b has confirmed for c")
		}
		if heard("b", other, good.Proof) {
			t.Error("what was said to another question is accepted")
		}
		if heard("b", nonce, changed) || heard("b", nonce, nil) || heard("b", nonce, []byte("x")) {
			t.Error("what b has not signed is accepted")
		}
	})
}

// A connection that shows the old certificate holds up the proof of the new one, but not for ever.
func TestANodeProvesItsNewCertificateWhenNoConnectionShowsTheOldOne(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issued("a", 90*day)
		nodes := []*testNode{f.start("a"), f.start("b", "a"), f.start("c", "a", "b")}
		f.linked(nodes...)
		b := nodes[1].mesh
		nodes[2].kill() // nothing goes on to the last stage
		if err := nodes[0].mesh.RotateCA(t.Context(), 365*day); err != nil {
			t.Fatal(err)
		}
		if err := nodes[0].mesh.RotateWithout(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		for b.Certs().Document() == nil || b.Certs().Document().Rotation.Stage != certs.Renew {
			time.Sleep(time.Millisecond)
		}
		// As if no link could be replaced, also one that is just being.
		done := make(chan struct{})
		defer close(done)
		go func() {
			for {
				b.mu.Lock()
				for _, l := range b.conns {
					l.mine, l.renewing, l.asking = "another", true, true
				}
				b.mu.Unlock()
				select {
				case <-done:
					return
				case <-time.After(100 * time.Microsecond):
				}
			}
		}()
		to := b.Certs().Document().Rotation.To
		for b.Certs().Self().IssuerKey != to {
			time.Sleep(time.Millisecond)
		}
		begun := time.Now()
		if c := b.confirmation(newNonce()); len(c.Proof) > 0 || c.Note == "" {
			t.Errorf("it is proven while a connection shows the old one: %+v", c)
		}
		i.reach(certs.Drop)
		if d := time.Since(begun); d < linksWithin-time.Second || d > linksWithin+2*time.Second {
			t.Errorf("it was held up for %v", d)
		}
	})
}
