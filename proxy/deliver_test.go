package proxy

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store"
)

// accepted is a listener that passes on the connections which it hands to the server.
type accepted struct {
	net.Listener
	conns chan net.Conn
}

func listenAccepted(t *testing.T) *accepted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &accepted{l, make(chan net.Conn, 10)}
}

func (a *accepted) Accept() (net.Conn, error) {
	nc, err := a.Listener.Accept()
	if err == nil {
		a.conns <- nc
	}
	return nc, err
}

// awaitEnd waits until the system has told the server's side that the client has closed.
func awaitEnd(nc net.Conn) {
	for g := newGoneCheck(nc); !g.check(); {
		time.Sleep(time.Millisecond)
	}
}

// isLocked says whether the session that the tests use is locked.
func isLocked(t *testing.T, st *store.Store) bool {
	t.Helper()
	return mustTry(t, st, store.Request{Op: store.Get}).Status == store.Locked
}

// TestALockIsUndoneWhenItsClientWasGoneBeforeTheAnswer covers a client that closes and one that dies.
func TestALockIsUndoneWhenItsClientWasGoneBeforeTheAnswer(t *testing.T) {
	for name, leave := range map[string]func(c *client){
		"closed": func(c *client) { closeQuietly(c.nc) },
		"reset": func(c *client) {
			if err := c.nc.(*net.TCPConn).SetLinger(0); err != nil {
				c.t.Error(err)
			}
			closeQuietly(c.nc)
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStore(t)
			l := listenAccepted(t)
			var c *client
			undone := make(chan store.Answer, 1)
			s, addr := serve(t, Config{Store: hooked{Store: st,
				try: func(r *store.Request) (store.Answer, bool) {
					a, ok := st.Try(r)
					leave(c)
					awaitEnd(<-l.conns)
					return a, ok
				},
				undo: func(k []byte, a store.Answer) {
					if string(k) != key {
						t.Errorf("undone for %q", k)
					}
					undone <- a
				},
			}}, l)
			mustTry(t, st, store.Request{Op: store.Put, Timeout: 20, Flags: store.FlagUninitialized})
			c = dial(t, addr)
			c.send(acquire())
			if a := <-undone; a.Cookie != 2 || !a.Init {
				t.Errorf("undone: %+v", a)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			a := mustTry(t, st, store.Request{Op: store.Get})
			if a.Status != store.OK || !a.Init {
				t.Errorf("found %+v, want the session unlocked and its flag set again", a)
			}
			if n := s.Metrics().Undone; n != 1 {
				t.Errorf("%d undone, want 1", n)
			}
		})
	}
}

func TestALockStaysWhenItsClientClosesAfterTheAnswerWasWritten(t *testing.T) {
	st := newStore(t)
	s, addr := serve(t, Config{Store: st}, nil)
	c := dial(t, addr)
	c.ask(200, put("x"))
	c.ask(200, acquire())
	closeQuietly(c.nc)
	for s.Metrics().Open > 0 {
		time.Sleep(time.Millisecond)
	}
	if !isLocked(t, st) {
		t.Error("the lock is gone")
	}
	if n := s.Metrics().Undone; n != 0 {
		t.Errorf("%d undone, want none", n)
	}
}

func TestALockIsUndoneWhenItsAnswerCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		l := newPipes()
		var c *client
		s, _ := serve(t, Config{Store: hooked{Store: st, try: func(r *store.Request) (store.Answer, bool) {
			closeQuietly(c.nc)
			return st.Try(r)
		}}}, l)
		mustTry(t, st, store.Request{Op: store.Put, Timeout: 20})
		c = l.dial(t)
		c.send(acquire())
		synctest.Wait()
		if isLocked(t, st) {
			t.Error("the session is locked")
		}
		if n := s.Metrics().Undone; n != 1 {
			t.Errorf("%d undone, want 1", n)
		}
	})
}

func TestAClientThatNeverReadsItsAnswerIsCut(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "large": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore(t)
				l := newPipes()
				s, _ := serve(t, Config{Store: st}, l)
				mustTry(t, st, store.Request{Op: store.Put, Timeout: 20, Body: make([]byte, size)})
				c := l.dial(t)
				c.send(acquire())
				time.Sleep(answerTime - answerSlack - time.Second)
				if n := s.Metrics().Slow; n != 0 {
					t.Errorf("cut too early")
				}
				time.Sleep(answerSlack + time.Second + time.Millisecond)
				if n := s.Metrics().Slow; n != 1 {
					t.Errorf("%d slow clients were cut, want 1", n)
				}
				if isLocked(t, st) {
					t.Error("it holds a lock")
				}
			})
		})
	}
}

func TestAClientThatNeverReadsHoldsUpNobodyElse(t *testing.T) {
	st := newStore(t)
	_, addr := serve(t, Config{Store: st}, nil)
	mustTry(t, st, store.Request{Op: store.Put, Timeout: 20, Body: make([]byte, 1<<20)})
	deaf := dial(t, addr)
	deaf.send(strings.Repeat(get(), 20))
	c := dial(t, addr)
	for range 20 {
		c.ask(200, get())
	}
}

func TestAHalfClosedClientGetsItsAnswers(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	c.send(put("hello") + get() + head("HEAD") + "\r\n")
	if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.want(200)
	if r := c.want(200); r.body != "hello" {
		t.Errorf("got %q", r.body)
	}
	c.want(200)
	c.wantClosed()
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	var all strings.Builder
	const n = 300
	for i := range n {
		all.WriteString(put(strings.Repeat("x", i*37)))
		all.WriteString(get())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.WriteString(c.nc, all.String()); err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		c.want(200)
		if r := c.want(200); len(r.body) != i*37 {
			t.Fatalf("answer %d has %d bytes, want %d", i, len(r.body), i*37)
		}
	}
	wg.Wait()
}

func TestWhereTheTruthIsNotKnownAReadIsToldToComeBack(t *testing.T) {
	st := newStore(t)
	s, addr := serve(t, Config{Store: hooked{Store: st, try: func(*store.Request) (store.Answer, bool) {
		return store.Answer{Status: store.Unknown}, true
	}}}, nil)
	c := dial(t, addr)
	before := ticks(time.Now())
	for _, request := range []string{get(), acquire(), head("HEAD") + "\r\n"} {
		r := c.ask(423, request)
		if r.header["LockAge"] != "0" || r.header["LockCookie"] != "0" || r.header["Content-Length"] != "0" {
			t.Errorf("answered %v", r.header)
		}
		var date int64
		for _, d := range r.header["LockDate"] {
			date = 10*date + int64(d-'0')
		}
		if after := ticks(time.Now()); date < before || date > after {
			t.Errorf("LockDate %d, want one between %d and %d", date, before, after)
		}
	}
	m := s.Metrics()
	if m.Requests[store.Acquire][store.Unknown] != 1 || m.Requests[store.Acquire][store.Locked] != 0 {
		t.Errorf("counted %v", m.Requests[store.Acquire])
	}
}

func TestWhereTheTruthIsNotKnownAWriteGetsNoAnswer(t *testing.T) {
	st := newStore(t)
	_, addr := serve(t, Config{Store: hooked{Store: st, try: func(*store.Request) (store.Answer, bool) {
		return store.Answer{Status: store.Unknown}, true
	}}}, nil)
	for _, request := range []string{put("x"), get("Exclusive: release", "LockCookie: 2"), head("DELETE") + "\r\n"} {
		c := dial(t, addr)
		c.send(request)
		c.wantClosed()
	}
}

func TestConnectionCloseIsHonoured(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	c.ask(404, get())
	c.ask(404, get("Connection: close"))
	c.wantClosed()
}

func TestBodiesOfAllSizesComeBackUnchanged(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	for _, n := range []int{0, 1, firstBuf - 200, firstBuf, joinBelow - 1, joinBelow, eagerBody, eagerBody + 1, 3*eagerBody + 7, 2 << 20} {
		body := strings.Repeat("0123456789abcdef\x00\r\n\xff", n/20+1)[:n]
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := io.WriteString(c.nc, put(body)+get())
			if err != nil {
				t.Error(err)
			}
		}()
		c.want(200)
		if r := c.want(200); r.body != body {
			t.Errorf("a body of %d bytes came back changed", n)
		}
		<-done
	}
}

func TestAStoredBodyTakesItsOwnLengthInMemory(t *testing.T) {
	for _, chunk := range []int{0, 1000} {
		for _, n := range []int{1, 1000, eagerBody, eagerBody + 1, 5*eagerBody + 3} {
			b := bytes.Repeat([]byte{'x'}, n)
			in := newReader(&script{in: b, chunk: chunk}, new(atomic.Bool))
			if err := in.await(0); err != nil {
				t.Fatal(err)
			}
			got, err := in.body(n)
			if err != nil || !bytes.Equal(got, b) {
				t.Fatalf("%d bytes: got %d, %v", n, len(got), err)
			}
			if cap(got) != n {
				t.Errorf("%d bytes take %d", n, cap(got))
			}
		}
	}
}
