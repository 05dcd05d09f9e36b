package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peerstate/store"
)

func TestShutdownLetsRequestsEndAndClosesWhatIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		l := newPipes()
		s, _ := serve(t, Config{Store: hooked{Store: st,
			try: func(r *store.Request) (store.Answer, bool) {
				if r.Op == store.Acquire {
					return store.Answer{}, false
				}
				return st.Try(r)
			},
			do: func(_ context.Context, r *store.Request) store.Answer {
				time.Sleep(2 * time.Second)
				return mustTry(t, st, *r)
			},
		}}, l)
		mustTry(t, st, store.Request{Op: store.Put, Timeout: 20})
		idle, fresh, inHead, inBody, waiting := l.dial(t), l.dial(t), l.dial(t), l.dial(t), l.dial(t)
		idle.ask(200, get())
		all := put("hello")
		inHead.send(all[:20])
		inBody.send(all[:len(all)-2])
		waiting.send(acquire())
		synctest.Wait()

		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		idle.wantClosed()
		fresh.wantClosed()
		time.Sleep(time.Second)
		inBody.ask(200, all[len(all)-2:])
		inBody.wantClosed()
		inHead.ask(200, all[20:])
		inHead.wantClosed()
		waiting.want(200)
		waiting.wantClosed()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Serve(newPipes()); !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve after Shutdown returned %v", err)
		}
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		l := newPipes()
		s, _ := serve(t, Config{Store: slow(st, func(ctx context.Context, _ *store.Request) store.Answer {
			<-ctx.Done()
			return store.Answer{Status: store.Unknown}
		})}, l)
		writes, reads, half := l.dial(t), l.dial(t), l.dial(t)
		writes.send(put("x"))
		reads.send(get())
		half.send("GET ")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown returned %v", err)
		}
		for _, c := range []*client{writes, reads, half} {
			c.wantClosed()
		}
	})
}

func TestTheCountersSayWhatHappened(t *testing.T) {
	s, addr := serve(t, Config{}, nil)
	c := dial(t, addr)
	c.ask(200, put("x"))
	c.ask(200, acquire())
	c.ask(423, acquire())
	c.ask(423, get())
	c.ask(400, put("x", "LockCookie: x"))
	c.ask(200, get("Exclusive: release", "LockCookie: 2"))
	c.ask(200, head("HEAD")+"\r\n")
	c.ask(200, head("DELETE")+"\r\n")
	c.ask(404, get())
	want := [store.Ops][Statuses]uint64{
		store.Get:     {store.Locked: 1, store.NotFound: 1},
		store.Acquire: {store.OK: 1, store.Locked: 1},
		store.Release: {store.OK: 1},
		store.Put:     {store.OK: 1, store.BadRequest: 1},
		store.Delete:  {store.OK: 1},
		store.Head:    {store.OK: 1},
	}
	m := s.Metrics()
	if m.Requests != want {
		t.Errorf("counted %v, want %v", m.Requests, want)
	}
	for op, h := range m.Times {
		n := uint64(0)
		for _, x := range want[op] {
			n += x
		}
		if h.Count != n || len(h.Cumulative) != len(Bounds()) || h.Cumulative[len(h.Cumulative)-1] != n {
			t.Errorf("%v: %+v, want %d requests", store.Op(op), h, n)
		}
	}
	if m.Open != 1 {
		t.Errorf("%d connections are open, want 1", m.Open)
	}
	for status := range store.Status(Statuses) {
		if StatusName(status) == "" {
			t.Errorf("status %d has no name", status)
		}
	}
}

func TestATimeIsCountedUpToItsBound(t *testing.T) {
	bounds := Bounds()
	for _, d := range []time.Duration{0, 1, 1023, 1024, 1025, 2048, 2049, time.Millisecond, time.Second, 4 * time.Second, time.Hour} {
		b := bucket(d)
		if b < len(bounds) && d.Seconds() > bounds[b] {
			t.Errorf("%v is counted as at most %v s", d, bounds[b])
		}
		if b > 0 && d.Seconds() <= bounds[b-1] {
			t.Errorf("%v is counted as more than %v s", d, bounds[b-1])
		}
	}
}

func TestNothingIsLoggedPerRequestAtInfo(t *testing.T) {
	var log logBuffer
	_, addr := serve(t, Config{Log: log.logger(slog.LevelInfo)}, nil)
	c := dial(t, addr)
	c.ask(200, put("x"))
	c.ask(200, acquire())
	c.ask(423, get())
	if log.String() != "" {
		t.Errorf("logged %q", log.String())
	}
}

// TestOneBadClientDisturbsNobody has several kinds of them at once beside one that goes on working.
func TestOneBadClientDisturbsNobody(t *testing.T) {
	_, addr := serve(t, Config{MaxBody: 1 << 20}, nil)
	good := dial(t, addr)
	good.ask(200, put("0"))
	for i := range 50 {
		bad := dial(t, addr)
		_, _ = io.WriteString(bad.nc, []string{
			"\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\n", strings.Repeat("x", 10000), head("PUT", "Content-Length: 100000"), "",
		}[i%5])
		good.ask(200, acquire())
		good.ask(200, get("Exclusive: release", "LockCookie: 0", "LockCookie: "+good.ask(423, get()).header["LockCookie"]))
		if i%2 == 0 {
			closeQuietly(bad.nc)
		}
	}
}

// TestManyClientsAddingToOneSessionLoseNothing is what the lock is for: each adds one to a number
// in the same session, under acquire and PUT.
func TestManyClientsAddingToOneSessionLoseNothing(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	first := dial(t, addr)
	first.ask(200, put("0"))
	const clients, additions = 8, 40
	var wg sync.WaitGroup
	for range clients {
		c := dial(t, addr)
		wg.Go(func() {
			for done := 0; done < additions; {
				c.send(acquire())
				r, err := c.receive()
				if err != nil {
					t.Error(err)
					return
				}
				if r.status() == 423 {
					continue
				}
				n, err := strconv.Atoi(r.body)
				if err != nil {
					t.Error(err)
					return
				}
				c.send(put(strconv.Itoa(n+1), "LockCookie: "+r.header["LockCookie"]))
				if r, err := c.receive(); err != nil || r.status() != 200 {
					t.Errorf("answered %q, %v", r.line, err)
					return
				}
				done++
			}
		})
	}
	wg.Wait()
	if r := first.ask(200, get()); r.body != strconv.Itoa(clients*additions) {
		t.Errorf("the number is %s, want %d", r.body, clients*additions)
	}
}
