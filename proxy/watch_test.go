package proxy

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store"
)

// slow is a store on which every request but the test's own has to wait: Do is handed to the test.
func slow(st *store.Store, do func(ctx context.Context, r *store.Request) store.Answer) hooked {
	return hooked{Store: st, do: do, try: func(*store.Request) (store.Answer, bool) { return store.Answer{}, false }}
}

func TestARequestThatHasToWaitIsAnsweredWhenItsAnswerIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		for _, wait := range []time.Duration{0, watchAfter / 2, watchAfter, 2 * time.Second} {
			l := newPipes()
			serve(t, Config{Store: slow(st, func(_ context.Context, r *store.Request) store.Answer {
				time.Sleep(wait)
				return mustTry(t, st, *r)
			})}, l)
			c := l.dial(t)
			for range 3 {
				c.ask(200, put("x"))
				r := c.ask(200, acquire())
				c.ask(200, get("Exclusive: release", "LockCookie: "+r.header["LockCookie"]))
			}
			// Neither the watch nor its end has shortened anybody's time.
			time.Sleep(idleTime - idleSlack - time.Second)
			c.ask(200, get())
		}
	})
}

func TestRequestsSentAheadOfAWaitAreNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		l := newPipes()
		serve(t, Config{Store: slow(st, func(_ context.Context, r *store.Request) store.Answer {
			time.Sleep(time.Second)
			return mustTry(t, st, *r)
		})}, l)
		c := l.dial(t)
		mustTry(t, st, store.Request{Op: store.Put, Timeout: 20, Body: []byte("x")})
		const n = 200 // more than the buffer holds
		var wg sync.WaitGroup
		wg.Go(func() {
			for range n {
				c.send(get())
				time.Sleep(100 * time.Millisecond)
			}
		})
		for range n {
			if r := c.want(200); r.body != "x" {
				t.Errorf("got %q", r.body)
			}
		}
		wg.Wait()
	})
}

// TestAnAcquireThatWaitsEndsWhenItsClientIsGone also has the lock come in the very moment.
func TestAnAcquireThatWaitsEndsWhenItsClientIsGone(t *testing.T) {
	st := newStore(t)
	l := listenAccepted(t)
	ended := make(chan error, 1)
	s, addr := serve(t, Config{Store: slow(st, func(ctx context.Context, r *store.Request) store.Answer {
		<-ctx.Done()
		ended <- ctx.Err()
		return mustTry(t, st, *r)
	})}, l)
	mustTry(t, st, store.Request{Op: store.Put, Timeout: 20})
	c := dial(t, addr)
	c.send(acquire())
	closeQuietly(c.nc)
	<-ended
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if isLocked(t, st) {
		t.Error("the session is locked for somebody who has left")
	}
	if n := s.Metrics().Undone; n != 1 {
		t.Errorf("%d undone, want 1", n)
	}
}

func TestAReadThatWaitsGoesOnForAHalfClosedClientAndEndsForADeadOne(t *testing.T) {
	st := newStore(t)
	begun, proceed, ended := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	l := listenAccepted(t)
	_, addr := serve(t, Config{Store: slow(st, func(ctx context.Context, r *store.Request) store.Answer {
		begun <- struct{}{}
		select {
		case <-ctx.Done():
			ended <- struct{}{}
		case <-proceed:
		}
		return mustTry(t, st, *r)
	})}, l)
	mustTry(t, st, store.Request{Op: store.Put, Timeout: 20, Body: []byte("x")})

	half := dial(t, addr)
	half.send(get())
	if err := half.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-begun
	awaitEnd(<-l.conns)
	time.Sleep(2 * watchAfter) // time enough for a watch to end it wrongly; no more can go wrong by chance
	proceed <- struct{}{}
	if r := half.want(200); r.body != "x" {
		t.Errorf("got %q", r.body)
	}

	dead := dial(t, addr)
	dead.send(get())
	<-begun // on Windows a request is lost that was not read before its connection breaks
	if err := dead.nc.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	closeQuietly(dead.nc)
	<-ended
}

func TestAWriteThatWaitsIsCarriedOutThoughItsClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		l := newPipes()
		serve(t, Config{Store: slow(st, func(ctx context.Context, r *store.Request) store.Answer {
			time.Sleep(time.Second)
			if err := ctx.Err(); err != nil {
				t.Errorf("%v was given up: %v", r.Op, err)
			}
			return mustTry(t, st, *r)
		})}, l)
		for _, request := range []string{put("x"), get("Exclusive: release", "LockCookie: 1"), head("DELETE") + "\r\n"} {
			c := l.dial(t)
			c.send(request)
			closeQuietly(c.nc)
			time.Sleep(2 * time.Second)
		}
		if x := st.Stats(); x.Total != 1 || x.Abandoned != 1 {
			t.Errorf("%d stored, %d deleted, want 1 and 1", x.Total, x.Abandoned)
		}
	})
}
