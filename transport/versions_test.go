package transport

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/store"
)

// kindLater is a kind of frame that only a later version knows.
const kindLater kind = 200

// later is the hello of a peer that also speaks later versions, with fields that nobody knows here.
func later(first, last int, instance uint64) map[int]any {
	return map[int]any{1: first, 2: last, 3: instance, 5: time.Now().UnixNano(), 60: "new", 61: map[int]any{1: []int{1, 2}}}
}

// joinAs says hello as a node that speaks some versions, and gives the one that was chosen.
func (f *farm) joinAs(host string, to *testNode, first, last int) (r *raw, chosen int) {
	f.t.Helper()
	r = f.connect(host, to)
	r.control = r.open()
	r.write(r.control, kindHello, later(first, last, r.instance))
	var w welcome
	if err := expect(r.control, kindWelcome, &w); err != nil {
		f.t.Fatal(err)
	}
	return r, w.Version
}

// hasNothing answers all questions with "missing".
func (r *raw) hasNothing() {
	r.serve(func(s *quic.Stream, k kind, _ []byte) {
		if k == kindQuestion {
			r.write(s, kindReply, reply{Kind: store.ReplyMissing})
		}
		_ = s.Close() // the link may have ended
	})
}

// refusedAs checks that a stream was refused as one of a later version.
func refusedAs(t *testing.T, s *quic.Stream) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Read(make([]byte, 1))
	if !errors.Is(unsupported(err), errNotSupported) {
		t.Errorf("the answer is %v", err)
	}
}

// linkedWith checks that the peer's link stands, answers pings, and that nothing was counted.
func (u *unharmed) linkedWith(r *raw) {
	t := u.f.t
	t.Helper()
	if l := u.a.mesh.direct("b"); l == nil || r.conn.Context().Err() != nil {
		t.Error("the link has been closed")
	} else if n := l.streams.Load(); n > 2 { // one for backups, and one for lists
		t.Errorf("%d streams are open", n)
	}
	if n := value(t, u.a.mesh.metrics.misbehaved); n != 0 {
		t.Errorf("misbehaviour was counted %v times", n)
	}
	r.write(r.control, kindPing, ping{N: 4711, Clock: time.Now().UnixNano()})
	for {
		k, data, err := readFrame(r.control)
		if err != nil {
			t.Fatal(err)
		}
		var p ping
		if k == kindPong && decode(data, &p) == nil && p.N == 4711 {
			break
		}
	}
	u.check()
}

func TestANodeOneVersionNewerOrOlderIsLinked(t *testing.T) {
	for what, tt := range map[string]struct{ first, last, chosen int }{
		"older":                         {1, maxVersion - 1, maxVersion - 1},
		"newer":                         {1, maxVersion + 1, maxVersion},
		"newer, which has dropped ours": {maxVersion, maxVersion + 1, maxVersion},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r, chosen := f.joinAs("b", u.a, tt.first, tt.last)
				if chosen != tt.chosen {
					t.Errorf("version %d was chosen, want %d", chosen, tt.chosen)
				}
				// It answers as any node, with a field more.
				r.serve(func(s *quic.Stream, k kind, _ []byte) {
					if k == kindQuestion {
						r.write(s, kindReply, map[int]any{1: store.ReplyMissing, 50: "new"})
					}
					_ = s.Close() // the link may have ended
				})
				f.wantAnswer("a session that is nowhere", u.a.get("/nowhere"), store.NotFound, "")
				s := r.open()
				r.write(s, kindQuestion, map[int]any{1: store.Move, 2: keyOf(100), 3: time.Second, 40: true, 41: []string{"new"}})
				var rep reply
				if err := expect(s, kindReply, &rep); err != nil || rep.Kind != store.ReplyFound {
					t.Fatalf("%+v, %v", rep, err)
				}
				if _, err := io.ReadFull(s, make([]byte, rep.Record.Size)); err != nil {
					t.Fatal(err)
				}
				r.write(s, kindReceipt, map[int]any{2: version{Stamp: 1}, 30: "it is not wanted here for a new reason"})
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				u.linkedWith(r)
			})
		})
	}
}

// What a later version may ask is refused, and costs nobody a link.
func TestAStreamOfALaterVersionIsRefusedAndTheLinkStays(t *testing.T) {
	for what, b := range map[string][]byte{
		"a frame":            frame(kindLater, map[int]any{1: "x"}, []byte("a body")...),
		"the next kind":      frame(kindEnd, map[int]any{}),
		"another question":   frame(kindQuestion, question{Want: store.Create + 1, Key: keyOf(100), Within: time.Second}),
		"a question of 2036": frame(kindQuestion, question{Want: 99, Key: keyOf(100), Number: 5, Hops: 3, Within: time.Second}),
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				r.hasNothing()
				for range 300 { // more than there may be open at a time: none stays open
					s := r.open()
					if _, err := s.Write(b); err != nil {
						t.Fatal(err)
					}
					refusedAs(t, s)
				}
				u.linkedWith(r)
			})
		})
		t.Run(what+" through others", func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("z", u.c)
				s := r.open()
				r.write(s, kindVia, via{To: "a", ToRun: u.a.mesh.config.Instance, From: "z", Instance: r.instance, Hops: 5})
				if _, err := s.Write(b); err != nil {
					t.Fatal(err)
				}
				refusedAs(t, s)
				for _, n := range []*testNode{u.a, u.c} {
					if v := value(t, n.mesh.metrics.misbehaved); v != 0 {
						t.Errorf("%s has counted it as misbehaviour", n.name)
					}
				}
				u.check()
			})
		})
	}
}

func TestWhatALaterVersionSaysOnTheControlStreamIsPassedOver(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.hasNothing()
		r.write(r.control, kindLater, map[int]any{1: "x"})
		if _, err := r.control.Write(rawFrame(kindEnd, []byte("no CBOR at all"))); err != nil {
			t.Fatal(err)
		}
		u.linkedWith(r)
	})
}

// asksLater has a node ask another something that only a later version knows.
func asksLater(n *testNode, l *link) error {
	var back struct{}
	return n.mesh.converse(n.farm.t.Context(), l, kindLater, map[int]any{1: "x"}, kindLater, &back)
}

func TestANodeOfAnEarlierVersionIsNotAskedWhatItDoesNotKnow(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r, _ := f.joinAs("b", u.a, 1, 1)
		opened := make(chan kind, 10)
		r.serve(func(_ *quic.Stream, k kind, _ []byte) { opened <- k })
		if err := asksLater(u.a, u.a.mesh.direct("b")); !errors.Is(err, errNotSupported) {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if len(opened) != 0 {
			t.Errorf("a stream of kind %d came", <-opened)
		}
		// And one further on, whose list of links says what it speaks, or nothing.
		z := f.join("z", u.c)
		z.serve(func(s *quic.Stream, k kind, _ []byte) {
			if k == kindVia {
				k, _, _ = readFrame(s) // kind 0 if there is none
			}
			if k == kindLater {
				opened <- k
			}
		})
		for i, tt := range []struct {
			speaks int
			want   error
		}{{0, errNotSupported}, {1, errNotSupported}, {-5, errNotSupported}, {1 << 40, nil}} {
			z.links(linkList{Node: "z", Instance: z.instance, Version: uint64(time.Now().UnixNano()) + uint64(i), Links: []string{"c"}, Speaks: tt.speaks})
			time.Sleep(time.Second)
			far := u.a.mesh.linkTo("z")
			if far == nil || !far.far {
				t.Fatal("z is not reached through c")
			}
			if err := asksLater(u.a, far); errors.Is(err, errNotSupported) != (tt.want != nil) {
				t.Errorf("speaks %d: %v", tt.speaks, err)
			}
		}
		if len(opened) != 1 {
			t.Error("the one that knows it was not asked")
		}
	})
}

func TestWhoIsRefusedForItsVersionIsToldSo(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.Manual = true }
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "b")
		f.linked(a, b)
		f.linked(b, c)
		time.Sleep(time.Second)
		for _, to := range []string{"b", "c"} {
			l := a.mesh.linkTo(to)
			if l == nil || l.far != (to == "c") {
				t.Fatalf("no way to %s: %v", to, l)
			}
			if l.speaks() != maxVersion {
				t.Errorf("%s speaks %d", to, l.speaks())
			}
			if err := asksLater(a, l); !errors.Is(err, errNotSupported) {
				t.Errorf("%s: %v", to, err)
			}
		}
		for _, n := range []*testNode{a, b, c} {
			if v := value(t, n.mesh.metrics.misbehaved); v != 0 {
				t.Errorf("%s has counted misbehaviour", n.name)
			}
		}
	})
}
