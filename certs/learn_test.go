package certs

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// revoke has the farm's issuer revoke a name that no node has.
func (f *issuerFarm) revoke(node string) *Document {
	f.t.Helper()
	f.do("revoke", func() error { _, err := f.issuer.Revoke(node, nil, f.later()); return err })
	return f.issuer.Document()
}

func (f *issuerFarm) learn(d *Document) *Document {
	f.t.Helper()
	said, err := f.issuer.Learn(d.Bytes(), f.later())
	if err != nil {
		f.t.Fatal(err)
	}
	f.check("learned")
	return said
}

func (f *issuerFarm) mustRestore(from string) {
	f.t.Helper()
	if err := f.restore(from); err != nil {
		f.t.Fatal(err)
	}
}

func TestARestoredIssuerGoesOnFromWhatTheFarmHas(t *testing.T) {
	f := newIssuerFarm(t, "web1")
	f.revoke("bad1")
	kept := copyDir(t, f.dir)
	newest := f.revoke("bad2")
	f.mustRestore(kept)
	if said := f.learn(newest); said != nil || !f.issuer.Document().Equal(newest) {
		t.Errorf("says %v, and has %v", said, f.issuer.Document())
	}
	if said := f.learn(newest); said != nil {
		t.Errorf("says %v", said)
	}
	f.reopen("restart")
	if !f.issuer.Document().Equal(newest) {
		t.Error("it has forgotten")
	}
}

func TestRevocationsOfBothSidesOfAForkAreKept(t *testing.T) {
	f := newIssuerFarm(t, "web1")
	f.revoke("bad1")
	kept := copyDir(t, f.dir)
	f.revoke("bad2")
	f.do("unrevoke", func() error { _, err := f.issuer.Unrevoke("bad1", f.later()); return err })
	one := f.issuer.Document()
	newer := copyDir(t, f.dir)
	f.mustRestore(kept)
	two := f.revoke("bad3") // before it has heard of the first
	if two.Number <= one.Number {
		t.Fatalf("the number %d was not higher than %d", two.Number, one.Number)
	}
	check := func(when string, said, than *Document) {
		t.Helper()
		if said == nil || said.Number <= max(one.Number, two.Number) || !said.Equal(f.issuer.Document()) || !slices.Equal(said.RevokedNodes(), []string{"bad2", "bad3"}) {
			t.Fatalf("%s: %+v", when, said)
		}
		if again := f.learn(than); again != nil {
			t.Errorf("%s: learned twice: %+v", when, again)
		}
	}
	check("from the older", f.learn(one), one)
	f.mustRestore(newer)
	check("from the newer", f.learn(two), two)
}

func TestTwoDocumentsOfOneNumberBecomeOneOfAHigher(t *testing.T) {
	f := newIssuerFarm(t, "web1")
	kept := copyDir(t, f.dir)
	at := f.now.Add(time.Hour)
	one, err := f.issuer.Revoke("bad1", nil, at)
	if err != nil {
		t.Fatal(err)
	}
	f.mustRestore(kept)
	two, err := f.issuer.Revoke("bad2", nil, at)
	if err != nil || one.Number != two.Number {
		t.Fatal(one.Number, two.Number, err)
	}
	if said := f.learn(one); said == nil || said.Number <= two.Number || !slices.Equal(said.RevokedNodes(), []string{"bad1", "bad2"}) {
		t.Errorf("%+v", said)
	}
}

func TestWhatIsForgedOrOldTeachesNothing(t *testing.T) {
	f := newIssuerFarm(t, "web1")
	first := f.revoke("bad1")
	before := f.issuer.Document()
	stranger := newCA(t, "farm", f.now)
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"forged":         {newDocument(t, stranger, before.Number+9).Bytes(), "Either it is forged, or this CA directory is outdated"},
		"forged and old": {newDocument(t, stranger, 1).Bytes(), ErrOldDocument.Error()},
		"another farm":   {newDocument(t, newCA(t, "other", f.now), 1).Bytes(), "of the farm \"other\""},
		"junk":           {[]byte("junk"), "not a farm's document"},
	} {
		if said, err := f.issuer.Learn(c.data, f.now); said != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", name, said, err)
		}
	}
	f.do("unrevoke", func() error { _, err := f.issuer.Unrevoke("bad1", f.later()); return err })
	if said := f.learn(first); said != nil || len(f.issuer.Revoked()) != 0 {
		t.Errorf("an old statement came back: %+v", said)
	}
	f.revoke("bad2") // it still works
}

func TestACopyFromBeforeTheCAWasReplacedSignsNothing(t *testing.T) {
	for name, stage := range map[string]Stage{"the last that its CA has signed": Drop, "one that its CA has not signed": NoRotation} {
		f := newIssuerFarm(t, "web1")
		kept := copyDir(t, f.dir)
		f.rotate()
		f.reach(Drop)
		f.reach(stage)
		f.round()
		newest := copyDir(t, f.dir)
		f.mustRestore(kept)
		dropped := f.nodes["web1"].s
		if stage == Drop {
			// As a node has it that was told the last of both CAs.
			d := f.numbers[dropped.DocumentNumber()]
			for _, o := range f.numbers {
				if o.Rotation.Stage == Drop {
					d = o
				}
			}
			if said, err := f.issuer.Learn(d.Bytes(), f.now); said != nil || !errors.Is(err, ErrOutdated) {
				t.Errorf("%s: %v, %v", name, said, err)
			}
		} else {
			d := dropped.Document()
			if said, err := f.issuer.Learn(d.Bytes(), f.now); said != nil || err == nil || !strings.Contains(err.Error(), "outdated") {
				t.Errorf("%s: %v, %v", name, said, err)
			}
			if err := f.issuer.Belongs(dropped); !errors.Is(err, ErrOutdated) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for what, err := range map[string]error{
			"revoke": func() error { _, err := f.issuer.Revoke("bad", nil, f.now); return err }(),
			"rotate": func() error { _, err := f.issuer.Rotate(year, f.now); return err }(),
			"invite": second2(f.issuer.Invite("web2", day, "web1", []string{"a:1"}, f.now)),
			"renew":  func() error { _, _, err := f.issuer.Renew(newRequest(t, dropped, f.now).Bytes(), f.now); return err }(),
		} {
			if !errors.Is(err, ErrOutdated) || !strings.Contains(err.Error(), "restore a newer copy") {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		if stage == Drop { // and that is remembered
			f.stop()
			if _, err := OpenIssuer(f.dir, DefaultRenewedLife, f.now); !errors.Is(err, ErrOutdated) {
				t.Errorf("%s: opened again: %v", name, err)
			}
			if _, err := LoadCA(f.dir); !errors.Is(err, ErrOutdated) {
				t.Errorf("%s: by hand: %v", name, err)
			}
		}
		f.mustRestore(newest)
		f.revoke("bad")
	}
}

func TestACopyFromBeforeTheRotationCanAbandonIt(t *testing.T) {
	f := newIssuerFarm(t, "web1", "web2")
	kept := copyDir(t, f.dir)
	f.rotate()
	f.reach(Renew)
	n := f.nodes["web1"]
	f.tell(n, f.issuer.Document())
	f.ask(n)
	f.install(n, 0)
	newest := f.issuer.Document()
	f.mustRestore(kept)
	f.learn(newest)
	// The key of the new CA is not in the copy. The old one is still trusted by all.
	if _, _, err := f.issuer.Renew(newRequest(t, f.nodes["web2"].s, f.now).Bytes(), f.now); err == nil || !strings.Contains(err.Error(), "abandon") {
		t.Errorf("error %v", err)
	}
	f.abandon()
	f.reach(NoRotation)
	f.round()
	if a := f.issuer.Document().Authorities(); len(a) != 1 || n.s.Self().IssuerKey != a[0].KeyID {
		t.Errorf("the CAs are %v", a)
	}
}

func TestACADirectoryBelongsToItsOwnFarm(t *testing.T) {
	h := newHost(t)
	if err := h.i.Belongs(h.node); err != nil {
		t.Error(err)
	}
	for says, s := range map[string]*Snapshot{
		"is in the farm \"other\"":         newNode(t, newCA(t, "other", h.now), "web1", h.now),
		"this node trusts none of the CAs": newNode(t, newCA(t, "farm", h.now), "web1", h.now),
	} {
		if err := h.i.Belongs(s); err == nil || errors.Is(err, ErrOutdated) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
		}
	}
	if _, err := h.i.Revoke("bad", nil, h.now); err != nil {
		t.Errorf("it signs nothing any more: %v", err)
	}
}
