package transport

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
	"peerstate/store"
)

func TestALargeSessionArrivesOverALinkThatWasReplacedLongAgo(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := largeFarm(f)
		f.net.narrow(256 << 10)
		body := largeBody(25 << 20)
		a.do(store.Request{Op: store.Put, Key: []byte(keyOf(1)), Timeout: 20, Body: body})
		if got := b.get(keyOf(1)); got.Status != store.Unknown {
			t.Fatalf("the first get: status %d", got.Status)
		}
		old := a.mesh.direct("b")
		for _, n := range []*testNode{a, b} {
			n.certify(f.ca)
		}
		time.Sleep(5 * time.Second)
		renewed := time.Now()
		if l := a.mesh.direct("b"); l.generation == 0 || l.mine != a.mesh.Certs().Self().Serial {
			t.Errorf("the link was not replaced: generation %d", l.generation)
		}
		for !b.holds(keyOf(1)) {
			if old.conn.Context().Err() != nil {
				t.Fatalf("the replaced link was closed after %v, with a session on its way: %v", time.Since(renewed), context.Cause(old.conn.Context()))
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(renewed); d < 70*time.Second {
			t.Errorf("it took only %v after the link had been replaced: the network is too fast for this test", d)
		}
		wantBody(t, "get", b.get(keyOf(1)), body)
		f.renewed(5*time.Second, a, b)
		f.mend()
		a.mesh.mu.Lock()
		defer a.mesh.mu.Unlock()
		if got := len(a.store.Doubts("b")); got != 0 {
			t.Errorf("%d hand-overs in doubt", got)
		}
	})
}

func TestWhatComesThroughOthersGoesOnWhileTheNodeBetweenRenewsItsCertificate(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(ring(4))
		a, b, c := d.all[0], d.all[1], d.all[2]
		time.Sleep(2 * time.Second)
		before, since := parted(d.all), len(f.log.String())
		l := f.loaded(200*time.Millisecond, d.all...)
		for range 4 {
			for _, n := range []*testNode{b, d.all[3]} {
				time.Sleep(130 * time.Millisecond)
				n.certify(f.ca)
			}
		}
		f.renewed(3*time.Second, d.all...)
		l.end()
		f.quiet(since)
		if n := parted(d.all); n != before {
			t.Errorf("nodes have parted, or have not met: %d, %d before", n, before)
		}
		// One that is on its way through b when b's links are replaced, and long after.
		body := largeBody(20 << 20)
		a.do(store.Request{Op: store.Put, Key: []byte(keyOf(1)), Timeout: 20, Body: body})
		f.cut(a, d.all[3])
		time.Sleep(7 * time.Second)
		f.net.narrow(1 << 20)
		if got := c.get(keyOf(1)); got.Status != store.Unknown {
			t.Fatalf("the first get: status %d", got.Status)
		}
		b.certify(f.ca)
		for begun := time.Now(); !c.holds(keyOf(1)); time.Sleep(time.Second) {
			if time.Since(begun) > time.Minute {
				t.Fatal("it has not come in a minute")
			}
		}
		wantBody(t, "get", c.get(keyOf(1)), body)
		if n := counter(t, a.mesh.metrics.handovers, outgoing, "broken"); n != 0 {
			t.Errorf("%v hand-overs were broken", n)
		}
	})
}

func TestANodeThatCanOnlyDialRenewsItsLinksAndIsAskedTo(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		time.Sleep(2 * time.Second)
		// Nothing gets in to b but what answers it: a's own dialling would come from nowhere.
		dialled := false
		a.mesh.mu.Lock()
		for _, d := range a.mesh.diallers {
			dialled = dialled || d.node == "b"
		}
		a.mesh.mu.Unlock()
		if dialled || !b.mesh.direct("a").dialled {
			t.Fatal("a dials b")
		}
		l := f.loaded(42*time.Millisecond, a, b)
		for range 3 {
			a.certify(f.ca)
			f.renewed(2*time.Second, a, b)
			b.certify(f.ca)
			f.renewed(2*time.Second, a, b)
		}
		l.end()
		if got := b.mesh.direct("a"); !got.dialled || got.generation != 6 {
			t.Errorf("generation %d, dialled by b: %v", got.generation, got.dialled)
		}
	})
}

func TestARenewalThatIsRefusedLeavesTheOldLinkInUseAndIsTriedAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		time.Sleep(time.Second)
		old := b.mesh.direct("a")
		next := f.newCA("ca2")
		b.trust("ca", "ca2")
		l := f.loaded(42*time.Millisecond, a, b)
		b.certify(next) // too early: a does not trust that CA yet
		time.Sleep(2 * time.Second)
		l.end()
		time.Sleep(time.Minute) // with some more tries
		if b.mesh.direct("a") != old || a.mesh.direct("b").peer.Serial == b.mesh.Certs().Self().Serial {
			t.Error("the old link is not in use any more")
		}
		f.wantLogged("b", "level=WARN", "a link could not be renewed", "peer=a", certs.AnotherCA.String())
		a.trust("ca", "ca2")
		f.renewed(time.Minute, a, b)
	})
}

func TestARenewalIsTriedAgainWhenItsPacketsWereLost(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		old := b.mesh.direct("a")
		b.certify(f.ca)
		time.Sleep(2*f.delay - time.Millisecond) // the dialler has said nothing but its first packets
		f.cut(a, b)
		time.Sleep(3500 * time.Millisecond)
		f.mend() // in time for the old link
		time.Sleep(100 * time.Millisecond)
		if a.mesh.direct("b") == nil || b.mesh.direct("a") == nil {
			t.Fatal("the node is not up")
		}
		f.renewed(15*time.Second, a, b)
		if b.mesh.direct("a") == old || b.mesh.direct("a").generation == 0 {
			t.Error("the link was not replaced")
		}
		if got := f.log.lines("a", "a link has ended"); len(got) > 0 {
			t.Errorf("%s", got)
		}
	})
}

func TestBackupsMoveToTheNewLinkAndNoneIsSentTwice(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b")
		a, b := nodes[0], nodes[1]
		f.net.narrow(1 << 20)
		since := len(f.log.String())
		const sessions = 400
		body := strings.Repeat("x", 20<<10)
		for i := range sessions {
			a.put(keyOf(i), body, 0)
			if i%100 == 50 {
				nodes[i/100%2].certify(f.ca) // with many on their way and unanswered
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := a.store.Stats().Unsafe; n == 0 {
			t.Error("all is backed up already: the network is too fast for this test")
		}
		f.safe()
		f.renewed(5*time.Second, a, b)
		if n := counter(t, a.mesh.metrics.backups, outgoing, "kept"); n != sessions {
			t.Errorf("%v answers for %d backups", n, sessions)
		}
		if n := counter(t, b.mesh.metrics.backups, incoming, "kept"); n != sessions {
			t.Errorf("%v of %d backups came", n, sessions)
		}
		if b.store.Stats().Backups != sessions {
			t.Errorf("%d backups, want %d", b.store.Stats().Backups, sessions)
		}
		if strings.Contains(f.log.String()[since:], "backups could not be sent") || strings.Contains(f.log.String()[since:], "could not be served") {
			t.Errorf("a stream has failed:\n%s", f.log.String()[since:])
		}
		// The stream for backups has left the old links, which have ended; the one in use carries it.
		time.Sleep(5 * time.Second)
		a.put(keyOf(0), "new", 0)
		f.safe()
	})
}

func TestANodeIsDrainedWhileItsLinksAreRenewed(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(1, "a", "b", "c")
		a, b, c := nodes[0], nodes[1], nodes[2]
		for i := range 300 {
			a.put(keyOf(i), strings.Repeat("x", 20<<10), 0)
		}
		f.safe()
		f.net.narrow(1 << 20)
		done := make(chan error)
		go func() { done <- a.mesh.Drain(t.Context(), func(DrainProgress) {}) }()
		for _, n := range nodes {
			time.Sleep(200 * time.Millisecond)
			n.certify(f.ca)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.renewed(5*time.Second, nodes...)
		for _, n := range []*testNode{b, c} {
			if !n.mesh.direct("a").leaving.Load() {
				t.Errorf("%s has forgotten that a leaves", n.name)
			}
			if n := counter(t, n.mesh.metrics.handovers, incoming, "refused"); n != 0 {
				t.Errorf("%v hand-overs were refused", n)
			}
		}
		if n := counter(t, a.mesh.metrics.handovers, outgoing, "received"); n != 300 {
			t.Errorf("%v of 300 sessions were received", n)
		}
		a.certify(f.ca)
		if err := a.mesh.GoodBye(t.Context()); err != nil {
			t.Error(err)
		}
		a.stop()
		time.Sleep(time.Second)
		if p := b.peer("a"); p.State != Drained {
			t.Errorf("a is %s", p.State)
		}
	})
}

func TestASuspectIsNoLessSuspectForANewLink(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		tr, instance := f.socket("b"), NewInstance()
		r := f.hello(tr, "b", a, instance, 0)
		r.welcomed()
		r.serve(func(*quic.Stream, kind, []byte) {})
		time.Sleep(time.Second)
		a.get(keyOf(1))
		if p := a.peer("b"); p.State != Suspect {
			t.Fatalf("b is %s", p.State)
		}
		next := f.hello(tr, "b", a, instance, 1)
		next.welcomed()
		next.serve(func(*quic.Stream, kind, []byte) {})
		next.write(next.control, kindPing, ping{N: 1})
		time.Sleep(time.Second)
		if l := a.mesh.direct("b"); l == nil || l.generation != 1 || !l.suspect.Load() {
			t.Errorf("%+v", l)
		}
		if p := a.peer("b"); p.State != Suspect {
			t.Errorf("b is %s after it has made another link", p.State)
		}
		// And it is closed in time, as if it had been on one link all the while.
		for range 4 {
			a.get(keyOf(2))
			time.Sleep(2 * time.Second)
		}
		if code := next.ended(time.Minute); code != closeSuspect {
			t.Errorf("closed with code %d, want %d", code, closeSuspect)
		}
	})
}

// hello makes a connection from a machine's socket with a proper hello, of a link of that generation.
func (f *farm) hello(tr *quic.Transport, host string, to *testNode, instance, generation uint64) *raw {
	f.t.Helper()
	conn, err := tr.Dial(f.t.Context(), to.addr, f.issue(host, time.Hour).DialTLS(alpn), quicConfig())
	if err != nil {
		f.t.Fatal(err)
	}
	r := &raw{t: f.t, conn: conn, instance: instance}
	r.control = r.open()
	r.write(r.control, kindHello, hello{Min: 1, Max: 1, Instance: instance, Clock: time.Now().UnixNano(), Generation: generation})
	return r
}

func (r *raw) welcomed() {
	r.t.Helper()
	var w welcome
	if err := expect(r.control, kindWelcome, &w); err != nil {
		r.t.Fatal(err)
	}
}

// The listener goes on using the old link until it has heard the dialler on the new one, and what it opens by then
// is long on its way.
func TestAReplacedLinkStaysUntilWhatWasOpenedOnItHasCome(t *testing.T) {
	for offset := range 10 {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				a, b := f.start("a"), f.start("b", "a")
				f.linked(a, b)
				b.put(keyOf(1), "cart", 0)
				slow(a, b, 1400*time.Millisecond)
				time.Sleep(10*time.Second + time.Duration(offset)*100*time.Millisecond)
				b.certify(f.ca)
				for b.mesh.direct("a").generation == 0 {
					time.Sleep(time.Millisecond)
				}
				if a.mesh.direct("b").generation != 0 {
					t.Fatal("a uses the new link already")
				}
				f.wantAnswer("get over the old link", a.get(keyOf(1)), store.OK, "cart")
				f.renewed(10*time.Second, a, b)
			})
		})
	}
}
