package transport

import (
	"fmt"
	"testing"
	"time"

	"peerstate/store"
)

// inDoubt has a give a session to b, whose receipt is lost: b has it, and a does not know. The link is
// cut then.
func inDoubt(t *testing.T, f *farm, a, b *testNode, key string) {
	t.Helper()
	// After the question of b only packets from a arrive: b reads the session, and its receipt is lost.
	sent := false
	f.net.losing(func(from, to string) bool {
		if from == b.addr.String() && to == a.addr.String() {
			lost := sent
			sent = true
			return lost
		}
		return false
	})
	f.wantAnswer("get on the receiver", b.get(key), store.OK, "cart")
	if !b.holds(key) {
		t.Fatal("the receiver does not hold it")
	}
	f.cut(a, b)
}

func TestAGiverWhoseReceiverDiedServesTheSessionAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "cart", 0)
		before := a.acquire(keyOf(1))
		a.release(keyOf(1), before.Cookie)
		inDoubt(t, f, a, b, keyOf(1))
		dead := b.acquire(keyOf(1)) // a page on b has the lock
		f.wantAnswer("acquire on b", dead, store.OK, "cart")
		b.kill()
		f.cut(a, b)
		time.Sleep(4 * time.Second)
		f.wantAnswer("get before the receiver is out", a.get(keyOf(1)), store.Unknown, "")
		time.Sleep(9 * time.Second)
		f.wantAnswer("get when it is out", a.get(keyOf(1)), store.OK, "cart")
		lock := a.acquire(keyOf(1))
		f.wantAnswer("acquire", lock, store.OK, "cart")
		if lock.Cookie < dead.Cookie+1<<16 {
			t.Errorf("cookie %d after %d was given by the dead node", lock.Cookie, dead.Cookie)
		}
		// The page of the dead node ends now, on a web server that goes through a.
		f.wantAnswer("put with the dead lock", a.put(keyOf(1), "lost update", dead.Cookie), store.Unknown, "")
		f.wantAnswer("release with the dead lock", a.release(keyOf(1), dead.Cookie), store.Unknown, "")
		f.wantAnswer("delete with the dead lock", a.delete(keyOf(1), dead.Cookie), store.Unknown, "")
		f.wantAnswer("put with the lock", a.put(keyOf(1), "newer", lock.Cookie), store.OK, "")
		f.wantAnswer("put with the dead lock", a.put(keyOf(1), "lost update", dead.Cookie), store.Unknown, "")
		f.wantAnswer("get", a.get(keyOf(1)), store.OK, "newer")
	})
}

func TestALockThatDiedMayStillWriteIfNobodyHasBeenThereSince(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "cart", 0)
		inDoubt(t, f, a, b, keyOf(1))
		dead := b.acquire(keyOf(1))
		b.kill()
		f.cut(a, b)
		time.Sleep(15 * time.Second)
		f.wantAnswer("put with the lock that died", a.put(keyOf(1), "the page's work", dead.Cookie), store.OK, "")
		f.wantAnswer("get", a.get(keyOf(1)), store.OK, "the page's work")
	})
}

func TestAGiverWhoseReceiverComesBackEmptyServesTheSessionAgainAtOnce(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "cart", 0)
		inDoubt(t, f, a, b, keyOf(1))
		dead := b.acquire(keyOf(1))
		b.kill()
		f.mend()
		b = f.start("b", "a")
		f.linked(a, b)
		// b waits for nobody: a has the session, and says so.
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "cart")
		lock := b.acquire(keyOf(1))
		f.wantAnswer("acquire on b", lock, store.OK, "cart")
		if lock.Cookie < dead.Cookie+1<<16 {
			t.Errorf("cookie %d after %d was given by the dead run", lock.Cookie, dead.Cookie)
		}
		f.wantAnswer("put with the dead lock", b.put(keyOf(1), "lost update", dead.Cookie), store.Unknown, "")
	})
}

func TestAGiverInDoubtThatReachesTheReceiverAgainLearnsWhatBecameOfTheSession(t *testing.T) {
	for what, tt := range map[string]struct {
		meanwhile func(b, c *testNode)
		holder    string
		body      string
	}{
		"it is there":    {func(*testNode, *testNode) {}, "b", "cart"},
		"it was written": {func(b, _ *testNode) { b.put(keyOf(1), "newer", store.NoCookie) }, "b", "newer"},
		"it went on":     {func(_, c *testNode) { c.get(keyOf(1)) }, "c", "cart"},
		"it went on and was written": {func(_, c *testNode) {
			c.get(keyOf(1))
			c.put(keyOf(1), "newer", store.NoCookie)
		}, "c", "newer"},
		"it was deleted":                 {func(b, _ *testNode) { b.delete(keyOf(1), store.NoCookie) }, "", ""},
		"it went on and was deleted":     {func(_, c *testNode) { c.get(keyOf(1)); c.delete(keyOf(1), store.NoCookie) }, "", ""},
		"it went on and came back to it": {func(b, c *testNode) { c.get(keyOf(1)); b.get(keyOf(1)) }, "b", "cart"},
	} {
		for _, cut := range []time.Duration{2 * time.Second, 30 * time.Second, 3 * time.Minute} {
			t.Run(fmt.Sprintf("%s/%v", what, cut), func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					a := f.start("a")
					b := f.start("b", "a")
					c := f.start("c", "a", "b")
					f.linked(a, b, c)
					a.put(keyOf(1), "cart", 0)
					inDoubt(t, f, a, b, keyOf(1))
					f.split(a)
					time.Sleep(8 * time.Second * time.Duration(min(cut/(3*time.Second), 1)))
					tt.meanwhile(b, c)
					time.Sleep(cut)
					f.mend()
					f.linked(a, b, c)
					time.Sleep(3 * time.Second)
					h := f.holders(keyOf(1))
					if tt.holder == "" {
						if len(h) > 0 {
							t.Errorf("a deleted session is held by %v", h)
						}
						return
					}
					if len(h) != 1 {
						t.Fatalf("held by %v", h)
					}
					f.wantAnswer("get on "+h[0], f.nodes[h[0]].get(keyOf(1)), store.OK, tt.body)
					if cut == 2*time.Second && h[0] != tt.holder {
						t.Errorf("held by %v, want %s", h, tt.holder)
					}
				})
			})
		}
	}
}

// Both copies went on while the link was cut: a's promoted one to d, b's to c.
func TestTwoCopiesThatBothMovedOnAreSettledIntoOne(t *testing.T) {
	for what, tt := range map[string]struct {
		write func(c, d *testNode) // c has the received copy, d the promoted one
		want  string
	}{
		"nobody wrote": {func(c, d *testNode) {}, "cart"},
		"the received is newer": {func(c, d *testNode) {
			d.put(keyOf(1), "on d", store.NoCookie)
			time.Sleep(time.Second)
			c.put(keyOf(1), "on c", store.NoCookie)
		}, "on c"},
		"the promoted is newer": {func(c, d *testNode) {
			c.put(keyOf(1), "on c", store.NoCookie)
			time.Sleep(time.Second)
			d.put(keyOf(1), "on d", store.NoCookie)
		}, "on d"},
	} {
		for _, later := range []time.Duration{time.Second, 2 * time.Minute} {
			t.Run(fmt.Sprintf("%s/%v", what, later), func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					a, b := f.start("a", "b"), f.start("b", "c")
					c, d := f.start("c", "a", "d"), f.start("d", "a", "b")
					f.linked(a, b, c, d)
					a.put(keyOf(1), "cart", 0)
					inDoubt(t, f, a, b, keyOf(1))
					f.split(a, d)
					time.Sleep(20 * time.Second)
					f.wantAnswer("get on c", c.get(keyOf(1)), store.OK, "cart")
					f.wantAnswer("get on d", d.get(keyOf(1)), store.OK, "cart")
					time.Sleep(100 * time.Millisecond)
					if h := f.holders(keyOf(1)); len(h) != 2 {
						t.Fatalf("held by %v", h)
					}
					tt.write(c, d)
					time.Sleep(later)
					f.mend()
					f.linked(a, b, c, d)
					time.Sleep(3 * time.Second)
					if h := f.holders(keyOf(1)); len(h) != 1 {
						t.Fatalf("held by %v", h)
					}
					for _, n := range []*testNode{b, a, d, c} {
						f.wantAnswer("get on "+n.name, n.get(keyOf(1)), store.OK, tt.want)
					}
				})
			})
		}
	}
}

// The settling of two copies is interrupted, and taken up again.
func TestTwoCopiesAreSettledThoughTheLinkBreaksAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "cart", 0)
		inDoubt(t, f, a, b, keyOf(1))
		time.Sleep(15 * time.Second)
		f.wantAnswer("get on a", a.get(keyOf(1)), store.OK, "cart")
		a.put(keyOf(1), "newer", store.NoCookie)
		for broken := range 12 {
			// The link stands for so many packets, and breaks.
			packets := 0
			f.net.losing(func(from, to string) bool { packets++; return packets > 6+broken })
			time.Sleep(12 * time.Second)
		}
		f.mend()
		f.linked(a, b)
		time.Sleep(3 * time.Second)
		h := f.holders(keyOf(1))
		if len(h) != 1 {
			t.Fatalf("held by %v", h)
		}
		f.wantAnswer("get", b.get(keyOf(1)), store.OK, "newer")
	})
}
