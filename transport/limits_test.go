package transport

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"peerstate/store"
)

// refusals is how often something was refused.
func (n *testNode) refusals(what string) float64 {
	return value(n.farm.t, n.mesh.metrics.refused.WithLabelValues(what))
}

func TestQuestionsPastTheLimitAreNotKnownAndNeverMissing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		b := f.start("b", "a", "c")
		f.linked(u.a, b, u.c)
		u.a.mesh.quota("b").questions = rate.NewLimiter(1, 5)
		missing, unknown := 0, 0
		for i := range 20 {
			switch got := b.get(keyOf(1000 + i)); got.Status {
			case store.NotFound:
				missing++
			case store.Unknown:
				unknown++
			default:
				t.Errorf("answer %d", got.Status)
			}
		}
		if missing != 5 || unknown != 15 {
			t.Errorf("%d missing, %d not known; want 5 and 15", missing, unknown)
		}
		if n := u.a.refusals(refusedQuestion); n != 15 {
			t.Errorf("%v counted", n)
		}
		f.wantLogged("a", "level=WARN", "sends more than any node", "peer=b")
		if u.a.mesh.direct("b") == nil {
			t.Error("its link is closed for it")
		}
		u.check()
	})
}

func TestQuestionsThatAreNotPassedOnAreNotKnown(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.Manual = true }
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "b")
		time.Sleep(3 * time.Second)
		c.put(keyOf(1), "on c", 0)
		b.mesh.quota("a").onward = rate.NewLimiter(1, 1)
		if got := a.get(keyOf(2)); got.Status != store.NotFound {
			t.Errorf("within the limit: %d", got.Status)
		}
		if got := a.get(keyOf(3)); got.Status != store.Unknown {
			t.Errorf("past it: %d", got.Status)
		}
		if n := b.refusals(refusedOnward); n != 1 {
			t.Errorf("%v counted", n)
		}
		time.Sleep(time.Second)
		f.wantAnswer("later", a.get(keyOf(1)), store.OK, "on c")
	})
}

func TestBodiesOfAPeerThatArriveAtATimeAreBoundedInBytes(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		q := u.a.mesh.quota("b")
		q.most, q.bodies = 1<<20, semaphore.NewWeighted(1<<20)
		for range 8 { // of 256 KiB each, of which hardly anything comes
			s := r.open()
			b := frame(kindForward, forward{Op: store.Put, Key: keyOf(1), Timeout: 20, Size: 256 << 10, Within: time.Second})
			if _, err := s.Write(append(b, "0123456789"...)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(bodyWait + time.Second)
		if n := u.a.refusals(refusedBody); n != 4 {
			t.Errorf("%v were refused, want 4", n)
		}
		u.check()
		time.Sleep(stall)
		if !q.bodies.TryAcquire(q.most) {
			t.Error("what has ended is counted on")
		}
	})
}

func TestMadeUpNodesAreWaitedForOnceAndFillNoLog(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		say := func(k kind, header any) { r.write(r.control, k, header) }
		name := func(i int) string { return fmt.Sprintf("nobody%d", i) }
		for i := range 3000 {
			say(kindNodes, nodeList{Nodes: []nodeInfo{{Name: name(i % 100), Addr: "10.9.9.9:1", Up: true}}})
			say(kindForget, forget{Node: name(i % 100)})
		}
		time.Sleep(10 * time.Second)
		if n := len(f.log.lines("a", "level=WARN")) + len(f.log.lines("a", "level=INFO")); n > hearsayBurst+100 {
			t.Errorf("%d lines in the log", n)
		}
		if u.a.refusals(refusedHearsay) == 0 {
			t.Error("nothing was refused")
		}
		time.Sleep(10 * time.Minute) // it may name some again, and they are waited for, once
		for i := range 20 {
			say(kindNodes, nodeList{Nodes: []nodeInfo{{Name: name(200 + i), Addr: "10.9.9.9:1", Up: true}}})
		}
		time.Sleep(2 * time.Minute)
		for i := range 20 {
			say(kindNodes, nodeList{Nodes: []nodeInfo{{Name: name(200 + i), Addr: "10.9.9.9:1", Up: true}}})
		}
		time.Sleep(time.Second)
		if got := u.a.get(keyOf(7)); got.Status != store.NotFound {
			t.Errorf("a miss is answered with %d", got.Status)
		}
		u.check()
	})
}

func TestAPeerWithTooManyDoubtsIsToAskAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		n := uint64(0)
		for u.a.store.FateOf(store.HandoverID{Giver: r.instance, N: n}, keyOf(1)).Kind == store.NotReceived {
			n++
		}
		s := r.open()
		r.write(s, kindDoubt, doubt{Giver: r.instance, Number: n + 1, Key: keyOf(1)})
		var back fate
		if err := expect(s, kindFate, &back); err == nil {
			t.Errorf("it is told %d", back.Kind)
		}
		if u.a.refusals(refusedDoubt) != 1 || r.conn.Context().Err() != nil {
			t.Error("it was not counted, or the link is closed")
		}
		u.check()
	})
}

func TestDocumentsArePassedOutAndLookedAtAFewASecond(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		for range 3 * documentBurst {
			s := r.open()
			r.write(s, kindWant, want{})
			_ = s.Close() // the other side may have given it up
		}
		time.Sleep(time.Second)
		if n := u.a.refusals(refusedDocument); n < documentBurst || n > 2*documentBurst {
			t.Errorf("%v were refused", n)
		}
		u.check()
	})
}

// A node's certificate is in the wrong hands: connections are made with it without end, and nothing is said on them.
func TestConnectionsWithoutAHelloAreBoundedForEachNode(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		snap, socket := f.issue("b", time.Hour), f.socket("b")
		for range 3 * maxKnocking {
			if _, err := socket.Dial(t.Context(), u.a.addr, snap.DialTLS(alpn), quicConfig()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		u.a.mesh.mu.Lock()
		n := len(u.a.mesh.conns)
		u.a.mesh.mu.Unlock()
		if n > maxKnocking+2 {
			t.Errorf("%d connections", n)
		}
		if u.a.refusals(refusedHello) != 2*maxKnocking {
			t.Errorf("%v were refused", u.a.refusals(refusedHello))
		}
		d := f.start("d", "a", "c")
		f.linked(u.a, u.c, d)
		u.check()
		time.Sleep(2 * helloTimeout)
		if n := u.a.mesh.quota("b").knocking.Load(); n != 0 {
			t.Errorf("%d are counted on", n)
		}
	})
}

func TestAPeerThatTriesSessionIDsIsWarnedOfAndNotHindered(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		for range 3 { // minutes
			var all sync.WaitGroup
			for i := range alarmMisses + 10 {
				all.Go(func() {
					s := r.open()
					defer s.CancelRead(streamGivenUp)
					r.write(s, kindQuestion, question{Want: store.Locate, Key: keyOf(10_000 + i), Within: time.Second})
					var back reply
					if err := expect(s, kindReply, &back); err != nil || back.Kind != store.ReplyMissing || back.Unknown {
						t.Errorf("question %d: %+v, %v", i, back, err)
					}
					_ = s.Close() // the link may have ended
				})
			}
			all.Wait()
			time.Sleep(alarmEvery)
		}
		f.wantLogged("a", "level=WARN", "sessions that nobody has", "peer=b")
		if n := value(t, u.a.mesh.metrics.alarms); n < 1 {
			t.Errorf("%v alarms", n)
		}
		if n := value(t, u.a.mesh.metrics.peerQuestions.WithLabelValues("b", "missing")); n < 3*alarmMisses {
			t.Errorf("%v misses are counted", n)
		}
		for _, line := range f.log.lines("a", "sessions that nobody has") {
			if strings.Contains(line, "peer=c") {
				t.Error(line)
			}
		}
		u.check()
	})
}

// In a farm of many nodes most questions miss at each one of them, as the session is at another.
func TestTheAlarmKnowsThatSessionsAreElsewhere(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a", "b")
		f.linked(a, b, c)
		a.put(keyOf(1), "x", 0)
		for i := range 19 {
			c.put(keyOf(100+i), "x", 0)
		}
		time.Sleep(3 * time.Second)
		q := a.mesh.quota("b")
		for _, x := range []struct {
			asked, hits int64
			alarm       float64
		}{{4000, 200, 0}, {4000, 20, 0}, {4000, 19, 1}, {4000, 0, 1}, {alarmMisses - 1, 0, 0}} {
			before := value(t, a.mesh.metrics.alarms)
			q.asked.Store(x.asked)
			q.hits.Store(x.hits)
			a.mesh.watchQuestions()
			if n := value(t, a.mesh.metrics.alarms) - before; n != x.alarm {
				t.Errorf("%d questions, %d hits of some %d: %v alarms", x.asked, x.hits, x.asked/20, n)
			}
		}
		synctest.Wait()
	})
}

// The sessions of this node are idle, and others move to and fro among the other nodes: the questions of these hit there.
func TestTheAlarmKnowsThatQuestionsHitElsewhere(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c, d := f.start("a"), f.start("b", "a"), f.start("c", "a", "b"), f.start("d", "a", "b", "c")
		f.linked(a, b, c, d)
		for i := range 20 {
			a.put(keyOf(i), "idle", 0)
		}
		time.Sleep(2 * time.Second) // after the first look of each; the next is a minute later
		for _, x := range []struct {
			what          string
			atB, atC, atD int64 // hits that each says that it has given
			alarm         float64
		}{
			{"it hits at two others", 0, 2000, 1500, 0},
			{"it hits often enough", 0, 200, 200, 0},
			{"it hits at one", 0, 0, 3900, 0},
			{"it hits seldom", 0, 200, 199, 1},
			{"it hits nowhere", 0, 0, 0, 1},
			{"only the asker says so", 3900, 0, 0, 1},
		} {
			b.mesh.quota("b").hits.Store(x.atB)
			c.mesh.quota("b").hits.Store(x.atC)
			d.mesh.quota("b").hits.Store(x.atD)
			time.Sleep(3 * time.Second) // for their pongs
			before := value(t, a.mesh.metrics.alarms)
			q := a.mesh.quota("b")
			q.asked.Store(4000)
			q.hits.Store(0)
			a.mesh.watchQuestions()
			if n := value(t, a.mesh.metrics.alarms) - before; n != x.alarm {
				t.Errorf("%s: %v alarms", x.what, n)
			}
		}
		// Who has looked meanwhile, and begun to count anew, says of the time before that, too.
		c.mesh.quota("b").hits.Store(2000)
		c.mesh.watchQuestions()
		time.Sleep(3 * time.Second)
		if n := a.mesh.hitsElsewhere("b"); n != 2000 {
			t.Errorf("%v questions of b were answered elsewhere", n)
		}
		c.kill()
		time.Sleep(20 * time.Second)
		if n := a.mesh.hitsElsewhere("b"); n != 0 {
			t.Errorf("one that is gone says that it has answered %v", n)
		}
		synctest.Wait()
	})
}
