package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// One node is killed and started again, over and over, while a visitor's pages run on the other and
// are tried on it as well: nobody ever says that the session has gone, and no page's write is lost.
func TestANodeThatIsKilledAndRestartedUnderLoadForgetsNoSessionOfTheOther(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, tokyo := f.node("london"), f.node("tokyo")
	f.startBoth(london, tokyo)
	london.want(200, "", "PUT", "visitor", "0")

	stop := make(chan struct{})
	var pages int
	var visitor sync.WaitGroup
	visitor.Go(func() {
		w := london.connect()
		for {
			select {
			case <-stop:
				return
			default:
			}
			a, err := w.request("GET", "visitor", "", acquire)
			if err != nil || a.status != 200 {
				t.Errorf("acquire on london: %d, %v", a.status, err)
				return
			}
			if a.body != strconv.Itoa(pages) {
				t.Errorf("the session is %s after %d pages", a.body, pages)
				return
			}
			pages++
			if p, err := w.request("PUT", "visitor", strconv.Itoa(pages), cookie(a)); err != nil || p.status != 200 {
				t.Errorf("put on london: %d, %v", p.status, err)
				return
			}
		}
	})
	for range 4 {
		tokyo.kill()
		tokyo.start(london)
		for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); {
			// HEAD, because a GET would bring the session to the node that is killed next.
			if a := tokyo.do("HEAD", "visitor", ""); a.status != 200 && a.status != 423 {
				t.Fatalf("tokyo says %d about a session that london holds", a.status)
			}
		}
	}
	close(stop)
	visitor.Wait()
	if pages == 0 {
		t.Error("no page was served")
	}
	london.want(200, strconv.Itoa(pages), "GET", "visitor", "")
}

func TestANodeThatWasNeverInstalledKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	london, absent := f.node("london", "PEERSTATE_MISSING_GRACE=1s"), f.node("tokyo")
	london.start(absent)
	f.until("sure that the session is missing", func() bool { return london.do("GET", "nobody", "").status == 404 })
	begun := time.Now()
	for i := range 100 {
		london.want(404, "", "GET", fmt.Sprintf("nobody%d", i), "")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("100 misses took %v", took)
	}
}

func TestSessionsOnAKilledNodeAreWaitedForAndThenMissing(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	short := []string{"PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_LOST_AFTER=2s", "PEERSTATE_BACKUPS=0"}
	london, tokyo := f.node("london", short...), f.node("tokyo", short...)
	f.startBoth(london, tokyo)
	tokyo.want(200, "", "PUT", "visitor", "cart")
	tokyo.kill()
	// The link's idle time-out, the grace time and the time until it is lost have to pass first.
	begun := time.Now()
	f.until("missing", func() bool {
		a := london.do("GET", "visitor", "")
		if a.status != 423 && a.status != 404 {
			t.Fatalf("london says %d", a.status)
		}
		if a.status == 423 && (a.header["LockAge"] != "0" || a.header["LockCookie"] != "0") {
			t.Fatalf("london says %v", a.header)
		}
		return a.status == 404
	})
	if waited := time.Since(begun); waited < 3*time.Second {
		t.Errorf("it was missing after %v already", waited)
	}
	london.want(200, "", "PUT", "new", "cart")
}
