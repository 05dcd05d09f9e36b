package transport

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"peerstate/store"
)

func TestANodeThatStopsHandsItsSessionsOverAndIsNotWaitedFor(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		c := f.start("c", "a", "b")
		f.linked(a, b, c)
		const many = 500
		for i := range many {
			f.wantAnswer("put", a.put(keyOf(i), fmt.Sprint("cart ", i), 0), store.OK, "")
		}
		lock := a.acquire(keyOf(7))
		time.Sleep(3 * time.Second)
		var last DrainProgress
		if err := a.mesh.Drain(t.Context(), func(p DrainProgress) { last = p }); err != nil {
			t.Fatal(err)
		}
		if last.Given != many || last.Left != 0 {
			t.Errorf("the last report was %+v", last)
		}
		// The page that holds the lock is served through its own node while that still answers.
		f.wantAnswer("put with the lock", a.put(keyOf(7), "fuller cart", lock.Cookie), store.OK, "")
		f.wantAnswer("a get through the node that leaves", a.get(keyOf(1)), store.Unknown, "")
		if err := a.mesh.GoodBye(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.stop()
		time.Sleep(time.Second)
		for _, n := range []*testNode{b, c} {
			if n.store.Stats().Active < many/10 {
				t.Errorf("%s got %d sessions", n.name, n.store.Stats().Active)
			}
			for _, p := range n.mesh.Peers() {
				if p.Node == "a" && p.State != Drained {
					t.Errorf("%s says that a is %s", n.name, p.State)
				}
			}
		}
		if d := took(func() { f.wantAnswer("a miss", b.get("nowhere/1"), store.NotFound, "") }); d != 2*f.delay {
			t.Errorf("a miss took %v", d)
		}
		for i := range many {
			want := fmt.Sprint("cart ", i)
			if i == 7 {
				want = "fuller cart"
			}
			f.wantAnswer("get", b.get(keyOf(i)), store.OK, want)
		}
	})
}

func TestALockTravelsWithASessionWhoseNodeStops(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "cart", 0)
		lock := a.acquire(keyOf(1))
		time.Sleep(5 * time.Second)
		if err := a.mesh.Drain(t.Context(), func(DrainProgress) {}); err != nil {
			t.Fatal(err)
		}
		got := b.get(keyOf(1))
		f.wantAnswer("get on b", got, store.Locked, "")
		if got.Cookie != lock.Cookie || got.LockAge.Round(time.Second) != 5*time.Second {
			t.Errorf("cookie %d, age %v; want %d, 5 s", got.Cookie, got.LockAge, lock.Cookie)
		}
		a.stop()
		f.wantAnswer("release on b", b.release(keyOf(1), lock.Cookie), store.OK, "")
		f.wantAnswer("get on b", b.get(keyOf(1)), store.OK, "cart")
	})
}

func TestRequestsAreServedWhileTheirNodeStops(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		v := &visitor{key: keyOf(0)}
		a.put(v.key, "0", 0)
		for i := 1; i < 300; i++ {
			a.put(keyOf(i), "x", 0)
		}
		ctx, stop := context.WithCancel(t.Context())
		var pages sync.WaitGroup
		for range 3 {
			pages.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					n := a
					if i%2 == 1 {
						n = b
					}
					v.page(t, n)
					time.Sleep(7 * time.Millisecond)
				}
			})
		}
		time.Sleep(time.Second)
		if err := a.mesh.Drain(t.Context(), func(DrainProgress) {}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		stop()
		pages.Wait()
		if v.lost != 0 {
			t.Errorf("%d pages ended in an error", v.lost)
		}
		if got := f.wantOneHolder(v.key); got != fmt.Sprint(len(v.acked)) {
			t.Errorf("the counter is %s after %d pages", got, len(v.acked))
		}
	})
}

func TestANodeThatStopsAloneSaysHowManySessionsAreLost(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		a.put(keyOf(1), "x", 0)
		err := a.mesh.Drain(t.Context(), func(DrainProgress) {})
		if err == nil || !strings.Contains(err.Error(), "1 session") {
			t.Errorf("it said %v", err)
		}
	})
}

func TestTwoNodesThatStopAtOnceLoseNothingToEachOther(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		c := f.start("c", "a", "b")
		f.linked(a, b, c)
		for i := range 100 {
			a.put(keyOf(i), "x", 0)
			b.put(keyOf(100+i), "x", 0)
		}
		var both sync.WaitGroup
		for _, n := range []*testNode{a, b} {
			both.Go(func() {
				if err := n.mesh.Drain(t.Context(), func(DrainProgress) {}); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if n := c.store.Stats().Active; n != 200 {
			t.Errorf("c has %d sessions", n)
		}
	})
}

// A link is cut while a node hands its sessions over, in both directions or in one, for a moment or for so
// long that it ends: each session is there afterwards, once.
func TestALinkCutInTheMiddleOfADrainLosesNoSession(t *testing.T) {
	directions := map[string]func(from, a string) bool{
		"both":     func(from, a string) bool { return true },
		"giver":    func(from, a string) bool { return from == a },
		"receiver": func(from, a string) bool { return from != a },
	}
	for _, cut := range []time.Duration{2 * time.Second, 8 * time.Second} {
		for direction, hit := range directions {
			for _, step := range []int{5, 60, 400} {
				t.Run(fmt.Sprintf("%v/%s/%d", cut, direction, step), func(t *testing.T) {
					inFarm(t, func(t *testing.T, f *farm) { drainCutAt(t, f, cut, step, hit) })
				})
			}
		}
	}
}

func drainCutAt(t *testing.T, f *farm, cut time.Duration, step int, hit func(from, a string) bool) {
	a := f.start("a", "b")
	b := f.start("b", "a")
	f.linked(a, b)
	const many = 300
	contents := func(i int) string {
		if i%50 == 0 {
			return fmt.Sprint("large cart ", i, strings.Repeat("x", 70<<10))
		}
		return fmt.Sprint("cart ", i, strings.Repeat("x", 2<<10))
	}
	for i := range many {
		a.put(keyOf(i), contents(i), store.NoCookie)
	}
	seen := 0
	var mended sync.WaitGroup
	f.net.losing(func(from, to string) bool {
		if seen++; seen == step {
			mended.Go(func() {
				time.Sleep(cut)
				f.mend()
			})
		}
		return seen > step && hit(from, a.addr.String())
	})
	for tries := 0; ; tries++ {
		err := a.mesh.Drain(t.Context(), func(DrainProgress) {})
		if err == nil {
			break
		}
		if tries == 5 {
			t.Fatal(err)
		}
		f.linked(a, b)
	}
	if seen < step {
		t.Fatalf("the drain was over after %d packets", seen)
	}
	mended.Wait()
	f.linked(a, b)
	for i := range many {
		if got := f.wantOneHolder(keyOf(i)); got != contents(i) {
			t.Fatalf("session %d is %.20q of %d bytes", i, got, len(got))
		}
	}
	if n := b.store.Stats().Active; n != many {
		t.Errorf("b has %d sessions", n)
	}
}

// A node that reads nothing gets what its window lets in. Those sessions may have arrived; the others have not.
func TestOnlySessionsThatWereSentWholeMayHaveArrived(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		r := f.join("b", a)
		for i := range 200 {
			a.store.Try(&store.Request{Op: store.Put, Key: []byte(keyOf(i)), Timeout: 20, Body: make([]byte, 4<<10)})
		}
		for a.mesh.direct("b") == nil {
			time.Sleep(10 * time.Millisecond)
		}
		l := a.mesh.direct("b")
		batch := a.store.HandOut(store.Peer{Node: "b", Instance: r.instance}, 200, 1<<20, store.Unlocked)
		want, size := 0, 0
		for _, h := range batch {
			head, err := appendFrame(nil, kindGive, give{Key: h.Record.Key, Giver: h.ID.Giver, Number: h.ID.N, Record: headOf(&h.Record)})
			if err != nil {
				t.Fatal(err)
			}
			if size += len(head) + len(h.Record.Body); size <= int(quicConfig().InitialStreamReceiveWindow) {
				want++
			}
		}
		s, err := l.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.end()
		sent, err := sendGives(s, batch)
		if !timedOut(err) || sent != want || want == len(batch) {
			t.Errorf("%d of %d sent, want %d; %v", sent, len(batch), want, err)
		}
		for _, h := range batch {
			h.Declined(store.Version{})
		}
	})
}
