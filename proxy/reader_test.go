package proxy

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store"
)

// drip sends a text one byte a second until it has been cut, and gives the time that took.
func drip(c *client, text string) time.Duration {
	begun := time.Now()
	for i := range text {
		if _, err := io.WriteString(c.nc, text[i:i+1]); err != nil {
			break
		}
		time.Sleep(time.Second)
	}
	return time.Since(begun)
}

func TestAClientThatSendsAByteASecondIsCut(t *testing.T) {
	for _, test := range []struct {
		name, whole, slow string
		want              time.Duration
	}{
		{"in the request line", "", get(), headTime},
		{"in the headers", "GET /a HTTP/1.1\r\n", strings.Repeat("X", 100), headTime},
		{"behind another request", get() + "GE", "T /a HTTP/1.1\r\nHost: x\r\n", headTime},
		{"in a body", head("PUT", "Content-Length: 100") + "\r\n", strings.Repeat("x", 100), bodyTime},
		{"in a body that nobody wants", head("POST", "Content-Length: 100") + "\r\n", strings.Repeat("x", 100), bodyTime},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore(t)
				l := newPipes()
				s, _ := serve(t, Config{Store: st}, l)
				c := l.dial(t)
				go func() { _, _ = io.Copy(io.Discard, c.nc) }() // the answers before
				if test.whole != "" {
					c.send(test.whole)
				}
				// The byte after the end of its time is the first that cannot be sent.
				if got := drip(c, test.slow); got < test.want || got > test.want+time.Second {
					t.Errorf("cut after %v, want %v", got, test.want)
				}
				m := s.Metrics()
				if m.Slow != 1 || m.Open != 0 || st.Stats().Total != 0 {
					t.Errorf("%d slow, %d open, %d stored", m.Slow, m.Open, st.Stats().Total)
				}
			})
		})
	}
}

// TestABodyThatIsDeclaredAndNeverSentHoldsNothing is about the GETs in [MS-ASP]'s examples.
func TestABodyThatIsDeclaredAndNeverSentHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		l := newPipes()
		serve(t, Config{Store: st}, l)
		mustTry(t, st, store.Request{Op: store.Put, Timeout: 20})
		c := l.dial(t)
		c.send(acquire("Content-Length: 7"))
		time.Sleep(bodyTime - time.Second)
		if isLocked(t, st) {
			t.Error("the session is locked before the request is complete")
		}
		time.Sleep(time.Second)
		c.wantClosed()
		if isLocked(t, st) {
			t.Error("the session is locked")
		}
	})
}

func TestABodyThatAReadBringsAlongIsDropped(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	c.ask(200, put("x"))
	c.ask(200, acquire("Content-Length: 30000")+strings.Repeat("GET /x HTTP/1.1\r\n\r\n\n\x00", 30000/20+1)[:30000])
	c.ask(200, head("DELETE", "LockCookie: 2", "Content-Length: 3")+"\r\nabc")
	c.ask(404, get())
}

func TestAConnectionMayBeIdleForMinutesButNotForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s, _ := serve(t, Config{}, l)
		c := l.dial(t)
		for range 3 {
			time.Sleep(idleTime - idleSlack - time.Second)
			c.ask(404, get())
		}
		// A request that came in pieces leaves no shorter deadline behind.
		c.send("GET /a HT")
		time.Sleep(headTime - time.Second)
		c.ask(404, "TP/1.1\r\n\r\n")
		time.Sleep(idleTime - idleSlack - time.Second)
		c.ask(404, get())
		time.Sleep(idleTime + time.Second)
		c.wantClosed()
		if n := s.Metrics().Slow; n != 0 {
			t.Errorf("%d slow clients were counted, want none", n)
		}
	})
}

func TestARequestMayArriveInAnyPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		serve(t, Config{}, l)
		c := l.dial(t)
		all := put(strings.Repeat("x", 300), "Timeout: 20") + get()
		for size := 1; size < len(all); size += 1 + size/7 {
			go func() {
				for rest := all; rest != ""; {
					n := min(size, len(rest))
					c.send(rest[:n])
					rest = rest[n:]
				}
			}()
			c.want(200)
			if r := c.want(200); len(r.body) != 300 {
				t.Errorf("in pieces of %d: %d bytes", size, len(r.body))
			}
		}
	})
}

func TestADisconnectInABodyStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		l := newPipes()
		s, _ := serve(t, Config{Store: st}, l)
		for _, n := range []int{10, 100_000, 1 << 20} {
			c := l.dial(t)
			all := put(strings.Repeat("x", n))
			c.send(all[:len(all)-1])
			closeQuietly(c.nc)
		}
		synctest.Wait()
		if x := st.Stats(); x.Total != 0 || s.Metrics().Open != 0 {
			t.Errorf("%d sessions were stored, %d connections are open", x.Total, s.Metrics().Open)
		}
	})
}

func TestOneEmptyLineBeforeARequestIsSkipped(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	c.ask(404, get())
	c.ask(404, "\r\n"+get())
	c.ask(400, "\r\n\r\n"+get())
	c.wantClosed()
}

func TestExpectContinueIsAnsweredBeforeTheBodyIsRead(t *testing.T) {
	for bare, line := range map[bool]string{false: "HTTP/1.1 100 Continue", true: "100 Continue"} {
		_, addr := serve(t, Config{BareStatusLine: bare}, nil)
		c := dial(t, addr)
		all := put("hello", "Expect: 100-continue")
		c.send(strings.TrimSuffix(all, "hello"))
		if r := c.want(100); r.line != line {
			t.Errorf("answered %q", r.line)
		}
		c.ask(200, "hello")
		if r := c.ask(200, get()); r.body != "hello" {
			t.Errorf("stored %q", r.body)
		}
		// Whoever sends the body at once is not waiting.
		c.ask(200, all)
		// A refusal comes instead.
		c.ask(400, head("PUT", "Content-Length: 9999999999", "Expect: 100-continue")+"\r\n")
		c.wantClosed()
	}
}

func TestAConnectionThatWasIdleIsAnsweredLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		serve(t, Config{}, l)
		c := l.dial(t)
		for _, test := range []struct {
			status  int
			request string
		}{
			{404, get()},
			{100, head("PUT", "Content-Length: 1", "Expect: 100-continue") + "\r\n"},
			{200, "x"},
			{400, head("POST") + "\r\n"},
			{200, get()},
			{400, "GET / HTTP/1.1\r\n"},
		} {
			if test.request != "x" {
				time.Sleep(2 * answerTime)
			}
			c.ask(test.status, test.request)
		}
	})
}

// TestADeclaredLengthTakesNoMemory declares the largest body and sends next to nothing of it.
func TestADeclaredLengthTakesNoMemory(t *testing.T) {
	in := newReader(&script{in: []byte("xyz")}, new(atomic.Bool))
	if err := in.await(0); err != nil {
		t.Fatal(err)
	}
	got := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := in.body(DefaultMaxBody); err == nil {
				b.Fatal("a body of three bytes was taken for a larger one")
			}
		}
	})
	if n := got.AllocedBytesPerOp(); n > 2*eagerBody {
		t.Errorf("%d bytes were allocated", n)
	}
}

func TestALongLineLeavesNoLargeBufferBehind(t *testing.T) {
	s := &script{in: []byte("GET /" + strings.Repeat("a", maxLine/2) + " HTTP/1.1\r\n" + strings.Repeat("X: "+strings.Repeat("b", maxLine/2)+"\r\n", 3) + "\r\n"), repeat: true}
	srv := New(Config{Store: newStore(t)})
	c := newConn(srv, s)
	for range 3 {
		if !c.exchange() {
			t.Fatal("the connection has ended")
		}
		if err := c.in.await(0); err != nil {
			t.Fatal(err)
		}
		if len(c.in.buf) != firstBuf {
			t.Errorf("the buffer has %d bytes", len(c.in.buf))
		}
	}
}
