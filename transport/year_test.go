package transport

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"peerstate/certs"
)

// A farm that nobody looks after for a year keeps its certificates up. The issuer is down for four weeks of it, and later
// its directory comes back from a copy that is seven weeks old.
func TestAFarmLeftAloneForAYearRenewsItsCertificates(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.calm = 12 * time.Hour }
		const life = 90 * day
		i := f.issued("a", life)
		// The others learn of a, and dial it no more when it is lost.
		for at, name := range []string{"b", "c", "d", "e", "a"} {
			f.issue(name, life)
			f.startOn(name, []string{"b", "c", "d", "e"}[:min(at, 4)]...)
		}
		f.linked(all(f)...)
		started, least := time.Now(), life
		until := func(d int) {
			t.Helper()
			for time.Since(started) < time.Duration(d)*day {
				time.Sleep(day)
				for _, x := range all(f) {
					least = min(least, time.Until(x.mesh.Certs().Self().Expires))
					for _, y := range all(f) {
						if x != y && x.mesh.direct(y.name) == nil {
							t.Fatalf("on day %.1f %s and %s are not linked", time.Since(started).Hours()/24, x.name, y.name)
						}
					}
				}
			}
		}
		start := func() {
			t.Helper()
			f.startOn("a", "b", "c", "d", "e")
			f.linked(all(f)...)
		}
		until(55) // just before they want to renew
		f.nodes["a"].stop()
		i.close()
		until(55 + 28)
		start()
		until(150)
		if least < time.Hour || least > 20*day {
			t.Errorf("%v were left when it was least", least)
		}
		old := filepath.Join(f.dir, "copy")
		if err := os.CopyFS(old, os.DirFS(i.caDir())); err != nil {
			t.Fatal(err)
		}
		until(170)
		if _, err := f.nodes["a"].mesh.Sign(t.Context(), func(i *certs.Issuer, now time.Time) (*certs.Document, error) { return i.Revoke("z", nil, now) }); err != nil {
			t.Fatal(err)
		}
		until(200)
		f.nodes["a"].stop()
		i.close()
		if err := errors.Join(os.RemoveAll(i.caDir()), os.CopyFS(i.caDir(), os.DirFS(old))); err != nil {
			t.Fatal(err)
		}
		least = life
		start()
		until(365)
		if least < life/4 {
			t.Errorf("%v were left when it was least", least)
		}
		for _, n := range all(f) {
			if got := len(f.log.lines(n.host, "this node has a new certificate")); got < 5 || got > 8 {
				t.Errorf("%s has renewed %d times", n.name, got)
			}
			n.onDisk()
		}
		f.renewed(2*time.Second, all(f)...)
		if d := i.issuer.Document(); d == nil || len(d.Revoked) != 1 {
			t.Errorf("the issuer has not learned what it had said after the copy was made: %+v", d)
		}
		i.rotate()
		i.reach(certs.NoRotation)
	})
}
