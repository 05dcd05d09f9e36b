package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestARotationMovesAllNodesToTheNewCA(t *testing.T) {
	f := newIssuerFarm(t, "web1", "web2", "web3")
	old := f.issuer.ca.cert
	f.rotate()
	if d := f.issuer.Document(); d.Rotation.Stage != Trust || len(d.Authorities()) != 2 {
		t.Fatalf("it begins with %+v", d.Rotation)
	}
	introduced := f.issuer.ca.trust.byKeyID(f.issuer.Document().Rotation.To)
	for _, stage := range []Stage{Trust, Renew, Drop} {
		f.reach(stage)
		// Whoever trusts only one of them, having missed the stages before, can follow.
		if d := f.issuer.Document(); !d.signedBy(old) || !d.signedBy(introduced) {
			t.Errorf("stage %q is not signed by both CAs", stage)
		}
	}
	f.reach(NoRotation)
	f.round()
	ca := f.issuer.ca
	if ca.cert.Equal(old) || len(ca.trust.cas) != 1 || f.issuer.files.next != nil || exists(t, filepath.Join(f.dir, caNextKey)) {
		t.Error("the old CA is still there")
	}
	for _, n := range f.nodes {
		if s := n.s; s.Self().IssuerKey != keyID(ca.cert) || len(s.Authorities()) != 1 || s.Document().Rotation.Stage != NoRotation {
			t.Errorf("%s has %+v", n.name, s.Self())
		}
	}
	p, d, err := f.issuer.Advance(f.names(), nil, f.now)
	if err != nil || d != nil || !p.Done || p.Stage != NoRotation {
		t.Errorf("after the end: %+v, %v, %v", p, d, err)
	}
	// And once more, from the new one.
	f.rotate()
	f.reach(NoRotation)
}

// Each way through a rotation, with a crash before each of the changes that it makes to the disk.
func TestACrashAtAnyPointLosesNoKeyAndNobody(t *testing.T) {
	for name, run := range map[string]func(f *issuerFarm){
		"rotate": func(f *issuerFarm) {
			f.rotate()
			f.reach(Renew)
			f.reach(Drop)
			f.reach(NoRotation)
		},
		"abandon at once": func(f *issuerFarm) {
			f.rotate()
			if d := f.issuer.Document(); d.Rotation.Stage == Trust {
				f.abandon()
			}
			f.reach(NoRotation)
		},
		"abandon when some have renewed": func(f *issuerFarm) {
			f.rotate()
			f.reach(Renew)
			n := f.nodes["web1"]
			f.tell(n, f.issuer.Document())
			f.ask(n)
			f.install(n, 0)
			f.abandon()
			f.reach(Drop)
			f.reach(NoRotation)
		},
		"revoke": func(f *issuerFarm) {
			f.rotate()
			f.nodes["web2"].gone = true
			f.do("revoke", func() error { _, err := f.issuer.Revoke("web2", nil, f.later()); return err })
			f.do("without", func() error { _, err := f.issuer.GoOnWithout("web9", f.later()); return err })
			f.reach(NoRotation)
			if !slices.Contains(f.issuer.Revoked(), "web2") {
				f.t.Error("the revocation is lost")
			}
		},
		"renew": func(f *issuerFarm) {
			for range 3 {
				f.ask(f.nodes["web1"])
				f.install(f.nodes["web1"], 0)
			}
			f.do("invite", func() error {
				_, err := f.issuer.Invite("web7", time.Hour, "web1", []string{"a:1"}, f.later())
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits for the disk
			points := 0
			for at := 0; ; at++ {
				f := newIssuerFarm(t, "web1", "web2")
				before := len(f.changes)
				f.crashIn = at
				run(f)
				f.check("at the end")
				if f.crashIn >= 0 {
					points = len(f.changes) - before
					break // it has ended before the crash
				}
				// Whatever was left half done: exactly the keys that are needed are there.
				_, err := os.Stat(filepath.Join(f.dir, caNextKey))
				if rotating := f.issuer.ca.rotation().Stage != NoRotation; errors.Is(err, fs.ErrNotExist) == rotating {
					t.Errorf("crash %d: next.key: %v, rotating: %v; after %q", at, err, rotating, f.changes)
				}
			}
			if points < 4 {
				t.Errorf("there were only %d changes to crash before", points)
			}
		})
	}
}

func TestAbandoningIsRefusedWhenNodesMayHaveDroppedTheOldCA(t *testing.T) {
	f := newIssuerFarm(t, "web1", "web2")
	if _, err := f.issuer.Abandon(f.now); err == nil {
		t.Error("there is nothing to abandon")
	}
	f.rotate()
	f.reach(Drop)
	if _, err := f.issuer.Abandon(f.now); err == nil || !strings.Contains(err.Error(), "too late") {
		t.Errorf("error %v", err)
	}
}

func TestAnAbandonedRotationIsNotBegunAgainBeforeItHasEnded(t *testing.T) {
	f := newIssuerFarm(t, "web1", "web2")
	f.rotate()
	f.reach(Renew)
	f.abandon()
	before := f.issuer.Document()
	f.abandon() // once more changes nothing
	if !f.issuer.Document().Equal(before) {
		t.Error("abandoning twice says something new")
	}
	if _, err := f.issuer.Rotate(DefaultCALife, f.now); err == nil || !strings.Contains(err.Error(), "being abandoned") {
		t.Errorf("error %v", err)
	}
	old := before.Rotation.To
	f.reach(NoRotation)
	if a := f.issuer.Document().Authorities(); len(a) != 1 || a[0].KeyID != old {
		t.Errorf("the CAs are %+v", a)
	}
	f.rotate()
	f.reach(NoRotation)
}

func TestARotationWaitsForWhoeverIsOffUnlessToldNotTo(t *testing.T) {
	f := newIssuerFarm(t, "web1", "web2", "web3")
	f.rotate()
	for _, name := range []string{"web1", "web2"} {
		f.tell(f.nodes[name], f.issuer.Document())
		f.confirm(f.nodes[name], f.nodes["web1"])
	}
	want := Progress{Stage: Trust, To: f.issuer.Document().Rotation.To, Number: f.issuer.Document().Number,
		Waiting: []string{"web3"}, Confirmed: []string{"web1", "web2"}, Without: []string{}}
	// Not even if the caller has forgotten about it: its certificate is known.
	for _, expected := range [][]string{{"web1", "web2", "web3"}, {"web1"}} {
		p, d, err := f.issuer.Advance(expected, f.confirmed, f.later())
		if err != nil || d != nil || fmt.Sprint(p) != fmt.Sprint(want) {
			t.Errorf("%+v, %v, %v", p, d, err)
		}
	}
	// A confirmation of an older document, or somebody else's, does not count.
	for _, c := range []Confirmation{{Peer: f.nodes["web3"].s.Self(), Number: want.Number - 1}, {Peer: f.nodes["web1"].s.Self(), Number: want.Number}} {
		f.confirmed["web3"] = c
		if p, _, err := f.issuer.Advance(f.names(), f.confirmed, f.later()); err != nil || len(p.Waiting) != 1 {
			t.Errorf("%+v, %v", p, err)
		}
	}
	delete(f.confirmed, "web3")
	f.nodes["web3"].gone = true
	f.do("without", func() error { _, err := f.issuer.GoOnWithout("web3", f.later()); return err })
	f.reach(Renew)
	f.reach(NoRotation)
	if _, err := f.issuer.GoOnWithout("web3", f.now); err == nil {
		t.Error("nothing is waited for any more")
	}
}

func TestARevokedNodeIsNotWaitedForUnlessItIsInAgain(t *testing.T) {
	f := newIssuerFarm(t, "web1", "web2")
	f.rotate()
	f.nodes["web2"].gone = true
	f.do("revoke", func() error { _, err := f.issuer.Revoke("web2", nil, f.later()); return err })
	if p := f.advance(); !slices.Equal(p.Waiting, []string{"web1"}) {
		t.Errorf("waits for %v", p.Waiting)
	}
	f.issueByHand("web2")
	if p := f.advance(); !slices.Equal(p.Waiting, []string{"web1", "web2"}) {
		t.Errorf("waits for %v", p.Waiting)
	}
	f.reach(NoRotation)
}

func TestARotationNeverAdvancesForNobody(t *testing.T) {
	f := newIssuerFarm(t)
	f.rotate()
	if _, d, err := f.issuer.Advance(nil, nil, f.now); err == nil || d != nil {
		t.Errorf("%v, %v", d, err)
	}
}

// Random farms: whatever the order in which nodes hear, renew and confirm, answers that come late, crashes,
// abandoned rotations, nodes that are off, revoked ones, new ones, and a CA directory that comes back from an
// older copy, every two nodes accept each other at every moment (issuerFarm.check after each step).
func TestNodesAcceptEachOtherAtEachMomentOfARotation(t *testing.T) {
	var total reached
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(10) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel() // it mostly waits for the disk
				randomRotation(t, rand.New(rand.NewPCG(seed, 7)), &total)
			})
		}
	})
	// They have been where it matters.
	for what, n := range map[string]int64{"renew": total.renew.Load(), "drop": total.drop.Load(), "done": total.done.Load(),
		"turned round": total.turned.Load(), "crash": total.crashes.Load(), "restored": total.restored.Load(), "late": total.late.Load()} {
		t.Logf("%s: %d", what, n)
		if n < 3 && !t.Failed() {
			t.Errorf("%s: only %d times", what, n)
		}
	}
}

// reached is how often random farms came to where something can go wrong.
type reached struct{ renew, drop, done, turned, crashes, restored, late atomic.Int64 }

func (r *reached) count(before, after *Document) {
	if before == nil || after == nil || before.Equal(after) {
		return
	}
	switch was, is := before.Rotation, after.Rotation; {
	case was.Stage == Trust && is.Stage == Renew:
		r.renew.Add(1)
	case was.Stage == Renew && is.Stage == Drop:
		r.drop.Add(1)
	case was.Stage == Drop && is.Stage == NoRotation:
		r.done.Add(1)
	case was.Stage == Renew && is.Stage == Renew && was.To != is.To:
		r.turned.Add(1)
	}
}

func randomRotation(t *testing.T, random *rand.Rand, total *reached) {
	f := newIssuerFarm(t, "web1", "web2", "web3")
	home := f.nodes["web1"] // the issuer's own node, which stays
	var kept string         // a copy of the CA's directory
	some := func(of int) []*farmNode {
		var list []*farmNode
		for _, name := range f.names() {
			if n := f.nodes[name]; !n.off && random.IntN(of) > 0 {
				list = append(list, n)
			}
		}
		return list
	}
	once := func(in int) bool { return random.IntN(in) == 0 }
	for range 200 {
		names := f.names()
		n := f.nodes[names[random.IntN(len(names))]]
		if once(25) {
			f.crashIn = random.IntN(3)
		}
		d := f.issuer.Document()
		stage := NoRotation
		if d != nil {
			stage = d.Rotation.Stage
		}
		switch random.IntN(20) {
		case 0:
			if stage == NoRotation {
				f.rotate()
			}
		case 1:
			if stage == Renew && once(2) || stage == Trust && once(8) {
				f.abandon()
			}
		case 2:
			n.off = n != home && !n.off && once(6)
		case 3:
			if n != home && once(12) {
				n.gone = true
				f.do("revoke", func() error { _, err := f.issuer.Revoke(n.name, nil, f.later()); return err })
			}
		case 4:
			if n != home && stage != NoRotation && once(12) {
				n.gone = true
				f.do("without", func() error { _, err := f.issuer.GoOnWithout(n.name, f.later()); return err })
			}
		case 5:
			if len(f.nodes) < 7 && once(3) {
				f.issueByHand(fmt.Sprintf("new%d", len(f.nodes)))
				f.check("a new node")
			}
		case 6:
			if once(2) {
				kept = copyDir(t, f.dir)
			}
			if kept != "" && once(8) && f.comeBack(kept) {
				total.restored.Add(1)
			}
		case 7:
			if once(3) {
				f.crashIn = -1
				f.reopen("a crash")
			}
		case 8: // through each other
			for _, n := range some(3) {
				f.tell(n, f.nodes[names[random.IntN(len(names))]].s.Document())
			}
		case 9, 10:
			for _, n := range some(6) {
				f.tell(n, d)
			}
		case 11: // at other times than when it must
			f.ask(n)
		case 12, 13:
			for _, n := range some(6) {
				if stage == Renew && n.s.Self().IssuerKey != d.Rotation.To && !n.gone {
					f.ask(n)
					if at := len(n.pending); at > 0 && !once(3) {
						f.install(n, at-1)
					}
				}
			}
		case 14:
			for _, n := range some(2) {
				if at := len(n.pending); at > 0 && !f.install(n, random.IntN(at)) {
					total.late.Add(1)
				}
			}
		default:
			for _, n := range some(10) {
				f.confirm(n, home)
			}
			f.goOnWithoutTheGone(f.advance())
		}
		total.count(d, f.issuer.Document())
	}
	for _, change := range f.changes {
		if strings.HasPrefix(change, "crash") {
			total.crashes.Add(1)
		}
	}
	f.crashIn = -1
	for _, n := range f.nodes {
		n.off = false
	}
	if d := f.issuer.Document(); d == nil || d.Rotation.Stage == NoRotation {
		f.rotate()
	}
	f.goOnWithoutTheGone(f.advance())
	f.reach(NoRotation)
	f.round()
	if len(f.issuer.Document().Authorities()) != 1 {
		t.Error("more than one CA remains")
	}
}

// goOnWithoutTheGone does what the operator does about nodes that are not in the farm any more.
func (f *issuerFarm) goOnWithoutTheGone(p Progress) {
	f.t.Helper()
	for _, name := range p.Waiting {
		if f.nodes[name].gone {
			f.do("without", func() error { _, err := f.issuer.GoOnWithout(name, f.later()); return err })
		}
	}
}

// comeBack restores an older copy of the CA's directory and lets the issuer hear the nodes first. If the CA
// was replaced since, that must be said, and the operator takes the newer copy.
func (f *issuerFarm) comeBack(kept string) (restored bool) {
	f.t.Helper()
	newest := copyDir(f.t, f.dir)
	for _, n := range f.nodes { // what the issuer has said has been heard, by some
		if n.name == "web1" {
			f.tell(n, f.issuer.Document())
		}
	}
	err := f.restore(kept)
	if err != nil {
		f.t.Fatal(err)
	}
	err = f.issuer.Belongs(f.nodes["web1"].s)
	for _, name := range f.names() {
		if d := f.nodes[name].s.Document(); err == nil && d != nil {
			_, err = f.issuer.Learn(d.Bytes(), f.later())
			if errors.Is(err, ErrOldDocument) {
				err = nil
			}
		}
	}
	_, to := f.issuer.ca.issuing(f.issuer.ca.rotation())
	if err != nil || to == nil || f.issuer.ca.rotation().Stage == Trust && len(f.issuer.ca.keys) < 2 {
		if err := f.restore(newest); err != nil {
			f.t.Fatal(err)
		}
		return false
	}
	f.check("restored")
	return true
}
