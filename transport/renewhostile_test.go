package transport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

func TestNoConnectionThatWasCheckedByOldCertificatesBecomesALink(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		next := f.newCA("ca2")
		for _, n := range []*testNode{u.a, u.c} {
			n.trust("ca", "ca2")
			n.certify(next)
		}
		f.renewed(2*time.Second, u.a, u.c)
		tr := f.socket("b")
		f.issue("b", time.Hour)
		f.bundle("b", "ca", "ca2")
		dial := func() *raw {
			conn, err := tr.Dial(t.Context(), u.a.addr, f.issue("b", time.Hour).DialTLS(alpn), quicConfig())
			if err != nil {
				t.Fatal(err)
			}
			return &raw{t: t, conn: conn, instance: NewInstance()}
		}
		silent := dial()
		looking := dial()
		looking.control = looking.open()
		looking.write(looking.control, kindPing, ping{N: 1})
		late := dial() // its hello is on its way
		time.Sleep(2 * f.delay)
		late.control = late.open()
		late.write(late.control, kindHello, hello{Min: 1, Max: 1, Instance: late.instance})
		time.Sleep(f.delay / 2)
		u.a.trust("ca2")
		for what, r := range map[string]*raw{"silent": silent, "looking": looking, "late": late} {
			if code := r.ended(f.delay + time.Millisecond); code != closeUnwanted {
				t.Errorf("the %s connection was closed with code %d", what, code)
			}
		}
		if len(f.log.lines("a", "linked", "peer=b")) > 0 {
			t.Error("b was linked")
		}
		if n := len(u.a.mesh.conns); n != 1 {
			t.Errorf("%d connections are known", n)
		}
	})
}

func TestALinkIsNotInstalledIfItsCertificateCeasedToBeAcceptedSince(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		next := f.newCA("ca2")
		conn := u.a.mesh.direct("c").conn
		l, err := u.a.mesh.admit(conn, u.a.mesh.Certs())
		if err != nil {
			t.Fatal(err)
		}
		u.a.trust("ca", "ca2")
		u.a.newFiles(next)
		u.a.trust("ca2")
		l.instance = 1
		if _, err := u.a.mesh.install(l); err == nil {
			t.Error("it was installed")
		} else if r, ok := certs.RefusalOf(err); !ok || r.Reason != certs.AnotherCA {
			t.Errorf("refused with %v", err)
		}
	})
}

func TestAPeerThatDialsNewLinksAndNeverUsesThemChangesNothing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		tr, instance := f.socket("b"), NewInstance()
		first := f.hello(tr, "b", u.a, instance, 0)
		first.welcomed()
		first.serve(func(*quic.Stream, kind, []byte) {})
		time.Sleep(time.Second)
		used := u.a.mesh.direct("b")
		var all []*raw
		for g := range uint64(40) {
			all = append(all, f.hello(tr, "b", u.a, instance, g+1))
		}
		time.Sleep(time.Second)
		u.a.mesh.mu.Lock()
		n := len(u.a.mesh.linksTo(used.node))
		u.a.mesh.mu.Unlock()
		if n > maxSpare+1 || u.a.mesh.direct("b") != used || used.conn.Context().Err() != nil {
			t.Errorf("%d links to it, and the first in use is %v", n, u.a.mesh.direct("b") == used)
		}
		u.check()
		time.Sleep(helloTimeout)
		for _, r := range all {
			if code := r.ended(time.Second); code != closeRefused {
				t.Errorf("closed with code %d", code)
			}
		}
		if u.a.mesh.direct("b") != used {
			t.Error("the first is not in use any more")
		}
		// One that waits takes the place of the one in use when that ends.
		next := f.hello(tr, "b", u.a, instance, 1)
		next.welcomed()
		next.serve(func(*quic.Stream, kind, []byte) {})
		_ = first.conn.CloseWithError(closeBye, "") // it gives none
		time.Sleep(2 * f.delay)
		synctest.Wait()
		if l := u.a.mesh.direct("b"); l == nil || l == used {
			t.Error("the new one is not in use though the old one has ended")
		}
		if p := u.a.peer("b"); p.State != Up {
			t.Errorf("b is %s", p.State)
		}
	})
}

func TestALinkOfAnImpossibleGenerationIsRefused(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.hello(f.socket("b"), "b", u.a, NewInstance(), maxGeneration+1)
		if code := r.ended(time.Second); code != closeRefused {
			t.Errorf("closed with code %d", code)
		}
		if n := value(t, u.a.mesh.metrics.misbehaved); n != 1 {
			t.Errorf("counted %v times", n)
		}
		u.check()
	})
}

func TestAPeerThatHasDialledAndAsksToBeDialledIsClosed(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.serve(func(*quic.Stream, kind, []byte) {})
		r.write(r.control, kindRenew, bye{})
		u.closed(r)
		u.check()
	})
}

func TestAPeerThatAsksForNewLinksAllTheTimeGetsAFewASecond(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		before := parted([]*testNode{a, b})
		for range 1000 {
			a.mesh.direct("b").say(kindRenew, bye{})
			time.Sleep(10 * time.Millisecond)
		}
		if g := b.mesh.direct("a").generation; g < 10 || g > 100 {
			t.Errorf("%d new links in 10 s", g)
		}
		if n := parted([]*testNode{a, b}); n != before {
			t.Error("the nodes have parted")
		}
		f.renewed(2*time.Second, a, b)
	})
}

// A link that has been replaced, and on which a peer lets a stream stand open, ends all the same.
func TestALinkThatWasReplacedEndsThoughThePeerLeavesAStreamOpen(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		tr, instance := f.socket("b"), NewInstance()
		first := f.hello(tr, "b", u.a, instance, 0)
		first.welcomed()
		first.serve(func(*quic.Stream, kind, []byte) {})
		s := first.open()
		if _, err := s.Write([]byte{byte(kindQuestion)}); err != nil {
			t.Fatal(err)
		}
		next := f.hello(tr, "b", u.a, instance, 1)
		next.welcomed()
		next.serve(func(*quic.Stream, kind, []byte) {})
		next.write(next.control, kindPing, ping{N: 1})
		begun := time.Now()
		if code := first.ended(retireIdle + 10*time.Second); code != closeReplaced {
			t.Errorf("closed with code %d after %v: %v", code, time.Since(begun), context.Cause(first.conn.Context()))
		}
		if l := u.a.mesh.direct("b"); l == nil || l.generation != 1 {
			t.Error("the new link is not in use")
		}
	})
}
