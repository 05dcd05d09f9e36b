package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAStoppedNodeHandsItsSessionsToTheOthers(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo, paris := f.node("london"), f.node("tokyo"), f.node("paris")
	london.start(tokyo, paris)
	tokyo.start(london, paris)
	paris.start(london, tokyo)
	f.linked(london, tokyo, paris)
	const many = 3000
	w := london.connect()
	for i := range many {
		if a, err := w.request("PUT", fmt.Sprint("visitor", i), fmt.Sprint("cart ", i)); err != nil || a.status != 200 {
			t.Fatalf("put: %d, %v", a.status, err)
		}
	}
	lock := london.want(200, "cart 5", "GET", "visitor5", "", acquire)
	london.stop()
	if !strings.Contains(london.log.String(), "handing over") {
		t.Errorf("it logged:\n%s", london.log)
	}
	tokyo.want(200, "", "PUT", "visitor5", "fuller cart", cookie(lock))
	w = tokyo.connect()
	for i := range many {
		want := fmt.Sprint("cart ", i)
		if i == 5 {
			want = "fuller cart"
		}
		if a, err := w.request("GET", fmt.Sprint("visitor", i), ""); err != nil || a.status != 200 || a.body != want {
			t.Fatalf("get: %d %q, %v", a.status, a.body, err)
		}
	}
	if s := tokyo.state("london"); s != "drained" {
		t.Errorf("tokyo says that london is %s", s)
	}
	begun := time.Now()
	tokyo.want(404, "", "GET", "nobody", "")
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("a miss took %v", took)
	}
}

func TestDrainAndForgetGoOverTheControlSocket(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo, nobody := f.node("london"), f.node("tokyo"), f.node("nobody")
	f.startBoth(london, tokyo)
	london.want(200, "", "PUT", "visitor", "cart")
	command := func(n *node, args ...string) (string, error) {
		out, err := n.commandFor(args...).CombinedOutput()
		return string(out), err
	}
	if out, err := command(nobody, "drain"); err == nil || !strings.Contains(out, "no sidecar is running") {
		t.Errorf("drain without a sidecar: %v\n%s", err, out)
	}
	if out, err := command(tokyo, "forget", "london"); err == nil || !strings.Contains(out, "is linked") {
		t.Errorf("forgetting a live node: %v\n%s", err, out)
	}
	out, err := command(london, "drain")
	if err != nil || !strings.Contains(out, "1 of 1 sessions handed over") {
		t.Errorf("drain: %v\n%s", err, out)
	}
	if err := <-london.ended; err != nil {
		t.Errorf("the sidecar ended with %v:\n%s", err, london.log)
	}
	london.ended <- nil
	tokyo.want(200, "cart", "GET", "visitor", "")
	if s, err := tokyo.status(); err != nil || len(s.Peers) != 1 || s.Peers[0].State != "drained" || s.Peers[0].Sessions != nil {
		t.Errorf("of the node that has left tokyo says %+v, %v", s.Peers, err)
	}
	if out, err := command(tokyo, "forget", "london"); err != nil || !strings.Contains(out, "forgotten") {
		t.Errorf("forget: %v\n%s", err, out)
	}
	if s := tokyo.state("london"); s != "" {
		t.Errorf("tokyo still says that london is %s", s)
	}
}

func TestFourPagesAtOnceOnOneSessionDoNotPoll(t *testing.T) {
	f := newFarm(t)
	london := f.node("london")
	london.start()
	london.want(200, "", "PUT", "visitor", "cart")
	begun := time.Now()
	done := make(chan error)
	for range 4 {
		w := london.connect()
		go func() {
			a, err := w.request("GET", "visitor", "", acquire)
			if err == nil && a.status != 200 {
				err = fmt.Errorf("acquire: %d", a.status)
			}
			time.Sleep(20 * time.Millisecond) // the page's work
			if err == nil {
				_, err = w.request("PUT", "visitor", "cart", cookie(a))
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// A client that polls needs 1.5 s; on a quiet machine these take 82 ms.
	if took := time.Since(begun); took > 400*time.Millisecond {
		t.Errorf("four pages of 20 ms took %v", took)
	}
}
