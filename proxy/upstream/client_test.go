package upstream

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"peerstate/proxy/upstream/aspnetstate"
	"peerstate/proxy/wire"
	"peerstate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "LM/W3SVC/1/ROOT/shop (kZ9d+J0o8/cV=)/abc"

// start gives an old server and a client of it. At the end nothing may have come that the real client does not send.
func start(t *testing.T) (*aspnetstate.Server, *Client) {
	t.Helper()
	s, err := aspnetstate.Start()
	if err != nil {
		t.Fatal(err)
	}
	c := New(s.Addr(), 1<<20, nil)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string(nil), s.Wrong(), cmp.Transformer("len", func(x []string) string { return strings.Join(x, "\n") })); diff != "" {
			t.Error(diff)
		}
	})
	return s, c
}

func do(t *testing.T, c *Client, r store.Request) store.Answer {
	t.Helper()
	r.Key = []byte(key)
	if r.Cookie == 0 {
		r.Cookie = store.NoCookie
	}
	a, err := c.Do(t.Context(), &r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTheOldServerIsAskedAsTheRealClientAsksIt(t *testing.T) {
	s, c := start(t)
	want := func(what string, a store.Answer, status store.Status) {
		t.Helper()
		if a.Status != status {
			t.Errorf("%s: %+v", what, a)
		}
	}
	want("nothing", do(t, c, store.Request{Op: store.Get}), store.NotFound)
	want("nothing", do(t, c, store.Request{Op: store.Head}), store.NotFound)
	want("insert", do(t, c, store.Request{Op: store.Put, Timeout: 33, Flags: 1, Body: []byte("hello")}), store.OK)
	a := do(t, c, store.Request{Op: store.Acquire})
	if !a.Init || a.Cookie != 2 || a.Timeout != 33 || string(a.Body) != "hello" {
		t.Errorf("acquired %+v", a)
	}
	a = do(t, c, store.Request{Op: store.Get})
	if a.Status != store.Locked || a.Cookie != 2 || a.LockAge > time.Minute {
		t.Errorf("read %+v", a)
	}
	want("head", do(t, c, store.Request{Op: store.Head}), store.OK)
	want("release", do(t, c, store.Request{Op: store.Release, Cookie: 3}), store.Locked)
	want("release", do(t, c, store.Request{Op: store.Release}), store.BadRequest)
	want("release", do(t, c, store.Request{Op: store.Release, Cookie: 2}), store.OK)
	want("delete", do(t, c, store.Request{Op: store.Delete}), store.OK)
	if s.Dialled() != 1 {
		t.Errorf("%d connections for one request after the other", s.Dialled())
	}
	n := c.Counts()
	if n[store.Release][store.Locked] != 1 || n[store.Get][store.NotFound] != 1 || n[store.Head][store.OK] != 1 {
		t.Errorf("counted %v", n)
	}
}

func TestAKeyIsWrittenSoThatItIsReadAgain(t *testing.T) {
	for _, k := range []string{key, "a", "é\xff%/+ (x)", "a//b"} {
		target := appendTarget(nil, []byte(k))
		r := head(&store.Request{Op: store.Get, Key: []byte(k), Cookie: store.NoCookie})
		if !strings.HasPrefix(string(r), "GET "+string(target)+" HTTP/1.1\r\n") || strings.ContainsAny(string(target), "/+ =") {
			t.Errorf("%q is written as %q", k, r)
		}
	}
}

func TestManyAtOnceShareAFewConnections(t *testing.T) {
	s, c := start(t)
	s.On(func(store.Op) aspnetstate.Fate { return aspnetstate.Fate{Takes: time.Millisecond} })
	var all sync.WaitGroup
	for range 500 {
		all.Go(func() {
			if _, err := c.Do(t.Context(), &store.Request{Op: store.Get, Key: []byte(key), Cookie: store.NoCookie}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s.Dialled() > maxConns {
		t.Errorf("%d connections", s.Dialled())
	}
}

func TestWhatIsNoAnswerIsAnError(t *testing.T) {
	s, c := start(t)
	s.Do(store.Request{Op: store.Put, Key: []byte(key), Cookie: store.NoCookie, Timeout: 20, Body: []byte("x")})
	for _, f := range []aspnetstate.Fate{
		{Lost: true}, {Silent: true},
		{Answer: "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"},
		{Answer: "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"},
		{Answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{Answer: "HTTP/1.1 200 OK\r\nTimeout: 525601\r\nContent-Length: 0\r\n\r\n"},
		{Answer: "HTTP/1.1 423 Locked\r\nLockCookie: 9999999999\r\nLockAge: 1\r\nContent-Length: 0\r\n\r\n"},
		{Answer: "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n"},
		{Answer: "hello\r\n"},
	} {
		s.On(func(store.Op) aspnetstate.Fate { return f })
		if a, err := c.Do(t.Context(), &store.Request{Op: store.Get, Key: []byte(key), Cookie: store.NoCookie}); err == nil {
			t.Errorf("%+v gave %+v", f, a)
		}
		if since, err := c.Failing(); since.IsZero() || err == nil {
			t.Errorf("%+v: the server is not said to fail", f)
		}
	}
	s.On(nil)
	do(t, c, store.Request{Op: store.Get})
	if since, err := c.Failing(); !since.IsZero() || err != nil {
		t.Errorf("the server is said to fail since %v: %v", since, err)
	}
	if n := c.Counts()[store.Get][Failed]; n != 9 {
		t.Errorf("%d failures were counted", n)
	}
}

// full is a Room in which there is none.
type full struct{}

func (full) Reserve(context.Context, int64) bool { return false }
func (full) GiveBack(n int64) {
	if n != 0 {
		panic("nothing was counted")
	}
}

// Whoever asked has to know the lock that he has got, so that he can end it.
func TestASessionForWhichThereIsNoMemoryIsLockedAllTheSame(t *testing.T) {
	s, _ := start(t)
	c := New(s.Addr(), 1<<20, full{})
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	lockedAllTheSame(t, s, c, 100_000, nil)
}

func TestASessionThatIsTooLargeIsLockedAllTheSame(t *testing.T) {
	s, c := start(t)
	lockedAllTheSame(t, s, c, 2_000_000, store.ErrOutsized)
}

func lockedAllTheSame(t *testing.T, s *aspnetstate.Server, c *Client, size int64, want error) {
	t.Helper()
	s.Do(store.Request{Op: store.Put, Key: []byte(key), Cookie: store.NoCookie, Timeout: 33, Flags: 1, Body: make([]byte, size)})
	r := store.Request{Op: store.Acquire, Key: []byte(key), Cookie: store.NoCookie}
	a, err := c.Do(t.Context(), &r)
	if !errors.Is(err, want) || a.Status != store.Full || a.Cookie != 2 || !a.Init || a.Timeout != 33 || a.Body != nil || r.Counted != size {
		t.Errorf("%+v, %d bytes, %v", a, r.Counted, err)
	}
	if _, err := c.Failing(); err != nil {
		t.Errorf("the server is said to fail: %v", err)
	}
	if a := do(t, c, store.Request{Op: store.Release, Cookie: 2}); a.Status != store.OK {
		t.Errorf("release: %+v", a)
	}
	if n := c.Counts()[store.Acquire]; n[store.OK] != 1 || n[Failed] != 0 {
		t.Errorf("counted %v", n)
	}
}

func TestAServerThatIsNotThereIsLeftAloneForAMoment(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := New(l.Addr().String(), 1<<20, nil)
	if err := c.Probe(t.Context()); err == nil || errors.Is(err, errRests) {
		t.Errorf("%v", err)
	}
	if err := c.Probe(t.Context()); !errors.Is(err, errRests) {
		t.Errorf("%v", err)
	}
	if since, _ := c.Failing(); since.IsZero() {
		t.Error("it is not said to fail")
	}
}

func TestAServerThatIsSilentIsWaitedForAsLongAsTheContextSays(t *testing.T) {
	s, c := start(t)
	s.On(func(store.Op) aspnetstate.Fate { return aspnetstate.Fate{Takes: 300 * time.Millisecond} })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Do(ctx, &store.Request{Op: store.Get, Key: []byte(key), Cookie: store.NoCookie}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := c.Failing(); err == nil {
		t.Error("it is not said to fail")
	}
}

func TestACancelledRequestIsNotTheServersFault(t *testing.T) {
	_, c := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, &store.Request{Op: store.Get, Key: []byte(key), Cookie: store.NoCookie}); err == nil {
		t.Error("no error")
	}
	if _, err := c.Failing(); err != nil {
		t.Error(err)
	}
}

// ended is a context that ends when the answer is there, and is noticed after it.
type ended struct{ context.Context }

func (ended) Err() error { return context.Canceled }

func TestAConnectionIsNotUsedAgainThatMayYetBeInterrupted(t *testing.T) {
	s, c := start(t)
	a, err := c.Do(ended{context.WithoutCancel(t.Context())}, &store.Request{Op: store.Get, Key: []byte(key), Cookie: store.NoCookie})
	if err != nil || a.Status != store.NotFound {
		t.Fatalf("%+v, %v", a, err)
	}
	do(t, c, store.Request{Op: store.Get})
	do(t, c, store.Request{Op: store.Get})
	if n := s.Dialled(); n != 2 {
		t.Errorf("%d connections for three requests", n)
	}
}

func TestAWatchFindsOutByItself(t *testing.T) {
	s, c := start(t)
	s.On(func(store.Op) aspnetstate.Fate { return aspnetstate.Fate{Lost: true} })
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { c.Watch(ctx) })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := c.Failing(); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed")
		}
	}
	cancel()
	watching.Wait()
}

func TestAfterItsEndAClientAsksNobody(t *testing.T) {
	_, c := start(t)
	do(t, c, store.Request{Op: store.Get})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), &store.Request{Op: store.Get, Key: []byte(key)}); !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
}

// FuzzAnswer: whatever a server says is an answer of the protocol, or an error.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"200 OK\r\nTimeout: 20\r\nLockCookie: 3\r\n\r\n", "HTTP/1.1 423 Locked\r\nLockCookie: 3\r\nLockAge: 5\r\n\r\n", "404 Not Found\r\nActionFlags: 1\r\n\r\n"} {
		f.Add([]byte(seed), byte(store.Acquire))
	}
	f.Fuzz(func(t *testing.T, in []byte, op byte) {
		h, ok := wire.NewHead(in, true)
		if !ok {
			return
		}
		a, err := understand(store.Op(op%byte(store.Ops)), &wire.Answer{Head: h})
		if err == nil && (a.Timeout < 0 || a.Timeout > store.MaxTimeout || a.Cookie < 0 || a.LockAge < 0 || a.Status == store.Unknown) {
			t.Errorf("%q is understood as %+v", in, a)
		}
	})
}
