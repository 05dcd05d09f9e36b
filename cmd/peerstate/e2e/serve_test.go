package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestASessionStoredThroughOneSiteIsReadThroughTheOther(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.node("london"), f.node("tokyo")
	f.startBoth(london, tokyo)

	london.want(200, "", "PUT", "visitor", "cart")
	lock := london.want(200, "cart", "GET", "visitor", "", acquire)
	elsewhere := tokyo.want(423, "", "GET", "visitor", "", acquire)
	if elsewhere.header["LockCookie"] != lock.header["LockCookie"] {
		t.Errorf("tokyo says the lock has cookie %s, it has %s", elsewhere.header["LockCookie"], lock.header["LockCookie"])
	}
	tokyo.want(200, "", "PUT", "visitor", "fuller cart", cookie(lock))
	tokyo.want(200, "fuller cart", "GET", "visitor", "")
	s, err := tokyo.status()
	if err != nil || s.Sessions.Active != 1 {
		t.Errorf("tokyo holds %d sessions (%v), want 1", s.Sessions.Active, err)
	}
	london.want(404, "", "GET", "nobody", "")

	london.stop()
	tokyo.stop()
}

func TestABenchThatVisitsBothNodesSeesNoWrongValue(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.node("london"), f.node("tokyo")
	f.startBoth(london, tokyo)
	out := f.command("bench", "--to", london.web+","+tokyo.web, "--connections", "8", "--duration", "3s", "--size", "2048", "--json")
	if !strings.Contains(out, "cycles") {
		t.Errorf("bench printed %s", out)
	}
}

func TestANodeOfAnotherFarmGetsNothing(t *testing.T) {
	t.Parallel()
	f, other := newFarm(t), newFarm(t)
	london, stranger := f.node("london"), other.node("tokyo")
	london.start(stranger)
	stranger.start(london)
	london.want(200, "", "PUT", "visitor", "cart")
	for _, n := range []*node{london, stranger} {
		f.until("refused, and said so", func() bool { return strings.Contains(n.log.String(), "another CA") })
	}
	if a := stranger.do("GET", "visitor", ""); a.status == 200 {
		t.Errorf("the stranger got %q", a.body)
	}
	out, err := exec.Command(program, "cert", "status", "--dir", filepath.Join(f.dir, "london")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "london") {
		t.Errorf("cert status: %v\n%s", err, out)
	}
}
