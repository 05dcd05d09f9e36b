package transport

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"peerstate/certs"
)

// openIssuer opens the farm's CA directory for a node that is started next.
func (f *farm) openIssuer() *certs.Issuer {
	f.t.Helper()
	i, err := certs.OpenIssuer(filepath.Join(f.dir, "ca"), certs.DefaultRenewedLife, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	f.config = func(c *Config) { c.Issuer = i }
	return i
}

// startIssuer starts a node with the farm's CA directory.
func (f *farm) startIssuer(name string, peers ...string) (*testNode, *certs.Issuer) {
	f.t.Helper()
	i := f.openIssuer()
	n := f.start(name, peers...)
	f.config = nil
	return n, i
}

func (n *testNode) stopIssuer(i *certs.Issuer) {
	n.farm.t.Helper()
	n.stop()
	if err := i.Close(); err != nil {
		n.farm.t.Error(err)
	}
}

// revoke has the issuer revoke a node, and publishes that.
func (n *testNode) revoke(i *certs.Issuer, node string) *certs.Document {
	n.farm.t.Helper()
	d, err := i.Revoke(node, nil, time.Now())
	if err != nil {
		n.farm.t.Fatal(err)
	}
	// The issuer's node publishes by itself what was said, and may be quicker.
	if err := n.mesh.Publish(d); err != nil && (!errors.Is(err, certs.ErrOldDocument) || n.mesh.Certs().DocumentNumber() != d.Number) {
		n.farm.t.Fatal(err)
	}
	return d
}

func revokedIn(n *testNode) (names []string) {
	if d := n.mesh.Certs().Document(); d != nil {
		for _, r := range d.Revoked {
			names = append(names, r.Node)
		}
	}
	return names
}

// copyOf copies a directory as it is now, and gives what puts it back.
func (f *farm) copyOf(dir string) (restore func()) {
	f.t.Helper()
	kept := filepath.Join(f.t.TempDir(), "copy")
	if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		f.t.Helper()
		err := os.RemoveAll(dir)
		if err == nil {
			err = os.CopyFS(dir, os.DirFS(kept))
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

func TestAllKnowWhichNodeIsTheIssuer(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, i := f.startIssuer("a")
		b := f.start("b", "a")
		f.linked(a, b)
		b.mesh.mu.Lock()
		if ll := b.mesh.atlas.lists["a"]; ll == nil || !ll.Issuer {
			t.Error("it is not known")
		}
		b.mesh.mu.Unlock()
		a.stopIssuer(i)
	})
}

func TestWhatTheIssuerSaidBeforeItStoppedIsPublishedWhenItStarts(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, i := f.startIssuer("a")
		b := f.start("b", "a")
		f.linked(a, b)
		d, err := i.Revoke("x", nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		a.stopIssuer(i)
		a, i = f.startIssuer("a", "b")
		f.inForce(d.Number, 3*time.Second, a, b)
		a.stopIssuer(i)
	})
}

func TestAnIssuerThatWasRestoredGoesOnFromWhatTheFarmHas(t *testing.T) {
	for what, both := range map[string]bool{"the CA's directory": false, "that and the node's": true} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				a, i := f.startIssuer("a")
				b := f.start("b", "a")
				f.linked(a, b)
				a.revoke(i, "x")
				restoreCA, restoreNode := f.copyOf(filepath.Join(f.dir, "ca")), f.copyOf(a.files())
				newest := a.revoke(i, "y")
				f.inForce(newest.Number, time.Second, a, b)
				a.stopIssuer(i)
				restoreCA()
				if both {
					restoreNode()
				}
				a, i = f.startIssuer("a", "b")
				consult(t, a)
				if !i.Document().Equal(newest) || !a.mesh.Certs().Document().Equal(newest) {
					t.Errorf("the issuer goes on from %d, and the newest is %d", i.Document().Number, newest.Number)
				}
				a.stopIssuer(i)
			})
		})
	}
}

// The issuer's machine is set back while it is alone, and says something else than it has said before.
func TestWhatARestoredIssuerHasForgottenIsSaidAgain(t *testing.T) {
	for _, dialler := range []string{"a", "b", "a, and b only looks"} {
		t.Run(dialler+" dials", func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				a, i := f.startIssuer("a")
				b := f.start("b", "a")
				f.linked(a, b)
				a.revoke(i, "x")
				f.inForce(a.mesh.Certs().DocumentNumber(), time.Second, b)
				restoreCA, restoreNode := f.copyOf(filepath.Join(f.dir, "ca")), f.copyOf(a.files())
				a.revoke(i, "y")
				f.inForce(a.mesh.Certs().DocumentNumber(), time.Second, b)
				a.stopIssuer(i)
				b.stop()
				restoreCA()
				restoreNode()
				a, i = f.startIssuer("a")
				time.Sleep(3 * time.Second)
				a.revoke(i, "z")
				if dialler == "b" {
					b = f.start("b", "a")
				} else {
					a.stopIssuer(i)
					if dialler == "a" { // it does not know whom it was linked with
						if err := os.Remove(filepath.Join(b.files(), "state", nodesFile)); err != nil {
							t.Fatal(err)
						}
					}
					f.config = func(c *Config) { c.Manual = true }
					b = f.start("b")
					a, i = f.startIssuer("a", "b")
				}
				f.linked(a, b)
				for _, n := range []*testNode{a, b} {
					if got := revokedIn(n); !slices.Equal(got, []string{"x", "y", "z"}) {
						t.Errorf("%s has %v as revoked", n.name, got)
					}
				}
				a.stopIssuer(i)
			})
		})
	}
}
