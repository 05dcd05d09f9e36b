package transport

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/store"
)

// manyNames gives n names of nodes, sorted.
func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("x%06d", i)
	}
	return names
}

// links tells a node whom the peer says that somebody is linked with.
func (r *raw) links(lists ...linkList) {
	r.t.Helper()
	s := r.open()
	for _, ll := range lists {
		r.write(s, kindLinks, ll)
	}
	if err := s.Close(); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		r.t.Errorf("the lists were not taken: %v", err)
	}
}

func TestAStreamInACircleIsTurnedBack(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.serve(func(s *quic.Stream, k kind, _ []byte) {
			if k != kindQuestion {
				t.Errorf("kind %d came back", k)
			}
			r.write(s, kindReply, reply{Kind: store.ReplyMissing})
			_ = s.Close() // the link may have ended
		})
		run := u.a.mesh.config.Instance
		for what, v := range map[string]via{
			"back to where it came from":     {To: "b", From: "x", Hops: 200},
			"from the node itself":           {To: "c", From: "a", Hops: 200},
			"to another run of the node":     {To: "a", ToRun: run + 1, From: "b", Hops: 200},
			"to a node that nobody knows":    {To: "y", From: "b", Hops: 200},
			"with no hops left":              {To: "c", From: "b", Hops: 0},
			"from the node to another of it": {To: "b", From: "a", Hops: mostHops},
		} {
			s := r.open()
			r.write(s, kindVia, v)
			_, err := s.Read(make([]byte, 1))
			if !noPath(err) {
				t.Errorf("%s: %v", what, err)
			}
			if e, ok := errors.AsType[*quic.StreamError](err); !ok || e.ErrorCode != streamNoPath {
				t.Errorf("%s: %v", what, err)
			}
		}
		time.Sleep(time.Second)
		if n := u.a.mesh.direct("b").streams.Load(); n != 0 {
			t.Errorf("%d streams are open", n)
		}
		if u.a.mesh.direct("b") == nil {
			t.Error("a stream that finds no way has cost the link")
		}
		u.check()
	})
}

func TestAStreamThroughOthersInsideAnotherIsNotServed(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		s := r.open()
		v := via{To: "a", ToRun: u.a.mesh.config.Instance, From: "b", Instance: r.instance, Hops: 9}
		r.write(s, kindVia, v)
		r.write(s, kindVia, v)
		if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("it was served: %v", err)
		}
		u.check()
	})
}

// What comes from further on is counted, and costs the honest relay nothing.
func TestNonsenseThroughARelayDoesNotCostTheRelayItsLink(t *testing.T) {
	for what, b := range badStreams() {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("z", u.c)
				s := r.open()
				head := frame(kindVia, via{To: "a", ToRun: u.a.mesh.config.Instance, From: "z", Instance: r.instance, Hops: 5})
				if _, err := s.Write(append(head, b...)); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if n := value(t, u.a.mesh.metrics.misbehaved); n != 1 {
					t.Errorf("counted %v times", n)
				}
				if u.c.mesh.direct("z") == nil {
					t.Error("the relay has judged what it only passes on")
				}
				u.check()
			})
		})
	}
}

func TestABadSessionFromFurtherOnDoesNotCostTheRelayItsLink(t *testing.T) {
	for what, answer := range map[string]func(r *raw) []byte{
		"it ends too soon":      func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Size = 100 }, []byte("short")...) },
		"in another's name":     func(r *raw) []byte { return found(r, func(p *reply) { p.Giver++ }, 'x') },
		"it is too large":       func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Size = 1 << 50 }) },
		"no session":            func(r *raw) []byte { return found(r, func(p *reply) { p.Record = nil }) },
		"bytes behind":          func(r *raw) []byte { return append(found(r, nil, 'x'), 'y') },
		"a held one of no name": func(*raw) []byte { return frame(kindReply, reply{Kind: store.ReplyHeld, Node: "../x"}) },
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("z", u.c)
				r.answer(answer(r), true)
				time.Sleep(time.Second)
				d := took(func() { u.a.get(keyOf(1)) })
				if d > u.a.mesh.config.FetchTimeout {
					t.Errorf("it took %v", d)
				}
				time.Sleep(10 * time.Second)
				if u.a.mesh.direct("c") != u.before {
					t.Error("the relay has lost its link")
				}
				if p := u.a.peer("c"); p.State != Up {
					t.Errorf("the relay is %s", p.State)
				}
			})
		})
	}
}

func TestForgedListsOfLinksTakeBoundedRoomAndCutNobodyOff(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		names := manyNames(5000)
		var lists []linkList
		for i, name := range names {
			j := i - i%200
			links := []string{"b"}
			for _, other := range names[j : j+200] {
				if other != name {
					links = append(links, other)
				}
			}
			lists = append(lists, linkList{Node: name, Version: 5, Links: links})
		}
		r.links(lists...)
		r.links(linkList{Node: "b", Instance: r.instance, Version: 7, Links: append([]string{"a"}, names[:200]...)})
		// The node's own list, and the honest peer's, as if neither were linked with the other.
		soon := uint64(time.Now().Add(listAhead / 2).UnixNano())
		r.links(linkList{Node: "a", Version: 1<<64 - 1}, linkList{Node: "a", Version: soon},
			linkList{Node: "c", Version: 1<<64 - 1}, linkList{Node: "c", Version: soon})
		time.Sleep(time.Second)
		u.a.mesh.mu.Lock()
		nodes, all := len(u.a.mesh.nodes), len(u.a.mesh.atlas.lists)
		u.a.mesh.mu.Unlock()
		if nodes > maxLearned || all > maxLearned {
			t.Errorf("%d nodes and %d lists are remembered", nodes, all)
		}
		u.check()
		synctest.Wait()
		if err := r.conn.CloseWithError(closeBye, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		wantTime(t, "a miss when the forger is gone", took(func() {
			f.wantAnswer("it", u.a.get(keyOf(1)), store.NotFound, "")
		}), 2*f.delay)
		u.check()
	})
}

// A relay keeps the number of streams that it passes on for one link within bounds.
func TestARelayPassesOnABoundedNumberOfStreams(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("z", u.c)
		turned := make(chan bool, 2*maxRelayed)
		for range cap(turned) {
			s := r.open()
			r.write(s, kindVia, via{To: "a", ToRun: u.a.mesh.config.Instance, From: "z", Instance: r.instance, Hops: 5})
			go func() {
				_, err := s.Read(make([]byte, 1))
				turned <- noPath(err)
			}()
		}
		time.Sleep(time.Second)
		if n := len(turned); n != maxRelayed {
			t.Errorf("%d of %d streams were turned back", n, cap(turned))
		}
		u.check()
		time.Sleep(2 * stall)
		if n := len(turned); n != cap(turned) {
			t.Errorf("%d streams are still open", cap(turned)-n)
		}
		if n := u.c.mesh.direct("z").relayed.Load(); n != 0 {
			t.Errorf("%d streams are still passed on", n)
		}
	})
}
