package transport

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"peerstate/store"
)

// visitor adds one to a counter in a session, page by page, on whichever node, and remembers what
// was acknowledged.
type visitor struct {
	key   string
	mu    sync.Mutex
	acked []string // bodies that were stored, in the order of the answers
	lost  int      // pages that ended in an error: their write may or may not have been stored
}

// page is one page request: acquire, some work, PUT. It gives false when the node has no lock for it
// just now.
func (v *visitor) page(t *testing.T, n *testNode) bool {
	a := n.acquire(v.key)
	switch a.Status {
	case store.Locked, store.Unknown:
		return false
	case store.OK:
	default:
		t.Errorf("acquire on %s: status %d: the visitor's session has gone", n.name, a.Status)
		return false
	}
	count, err := strconv.Atoi(string(a.Body))
	if err != nil {
		t.Errorf("%s served %q", n.name, a.Body)
		return false
	}
	time.Sleep(5 * time.Millisecond)
	next := strconv.Itoa(count + 1)
	p := n.put(v.key, next, a.Cookie)
	v.mu.Lock()
	defer v.mu.Unlock()
	if p.Status == store.OK {
		v.acked = append(v.acked, next)
	} else {
		v.lost++
	}
	return true
}

// wantOneHolder waits until one node holds the session and gives its contents.
func (f *farm) wantOneHolder(key string) string {
	f.t.Helper()
	for range 100 {
		if h := f.holders(key); len(h) == 1 {
			if a := f.nodes[h[0]].get(key); a.Status == store.OK {
				return string(a.Body)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.t.Errorf("held by %v after 10 s", f.holders(key))
	return ""
}

// A link is cut after each packet of a hand-over in turn, in both directions or in one. If it comes
// back before the other side is out, nothing is lost and one node holds the session; after a longer
// cut both sides may have served it, and what the visitor did last is the session.
func TestALinkCutAtEveryStepOfAHandOverLeavesOneHolder(t *testing.T) {
	directions := map[string]func(from, to, a, b string) bool{
		"both":  func(from, to, a, b string) bool { return true },
		"giver": func(from, to, a, b string) bool { return from == a },
		"asker": func(from, to, a, b string) bool { return from == b },
	}
	for _, cut := range []time.Duration{time.Second, 4 * time.Second, 20 * time.Second} {
		for direction, hit := range directions {
			for step := range 10 {
				t.Run(fmt.Sprintf("%v/%s/%d", cut, direction, step), func(t *testing.T) {
					inFarm(t, func(t *testing.T, f *farm) { cutAt(t, f, cut, step, hit) })
				})
			}
		}
	}
}

func cutAt(t *testing.T, f *farm, cut time.Duration, step int, hit func(from, to, a, b string) bool) {
	a := f.start("a", "b")
	b := f.start("b", "a")
	f.linked(a, b)
	v := &visitor{key: keyOf(1)}
	a.put(v.key, "0", store.NoCookie)
	if !v.page(t, a) {
		t.Fatal("no first page")
	}
	seen := 0
	f.net.losing(func(from, to string) bool {
		seen++
		return seen > step && hit(from, to, a.addr.String(), b.addr.String())
	})
	end := time.Now().Add(cut)
	for time.Now().Before(end) {
		var both sync.WaitGroup
		both.Go(func() { v.page(t, b) })
		both.Go(func() { time.Sleep(3 * time.Millisecond); v.page(t, a) })
		both.Wait()
		time.Sleep(200 * time.Millisecond)
	}
	f.mend()
	f.linked(a, b)
	time.Sleep(3 * time.Second)
	got := f.wantOneHolder(v.key)
	last := v.acked[len(v.acked)-1]
	conflicts := a.store.Stats().Conflicts + b.store.Stats().Conflicts
	if cut < 5*time.Second {
		if n, _ := strconv.Atoi(got); n < len(v.acked) || n > len(v.acked)+v.lost {
			t.Errorf("the counter is %s after %d pages and %d with an error", got, len(v.acked), v.lost)
		}
		if conflicts != 0 {
			t.Errorf("%d conflicts", conflicts)
		}
		return
	}
	if got != last && v.lost == 0 {
		t.Errorf("the session is %s, the visitor's last write was %s", got, last)
	}
}
