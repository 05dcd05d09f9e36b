package transport

import (
	"bytes"
	"testing"
	"time"

	"peerstate/store"
)

// largeFarm is two nodes that are 20 ms apart, with a megabyte a second between them, of which every
// 200th packet is lost.
func largeFarm(f *farm) (a, b *testNode) {
	f.delay = 20 * time.Millisecond
	a = f.start("a")
	b = f.start("b", "a")
	f.linked(a, b)
	f.net.narrow(1 << 20)
	packets := 0
	f.net.losing(func(_, _ string) bool { packets++; return packets%200 == 0 })
	return a, b
}

func largeBody(size int) []byte {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i * i >> 8)
	}
	return body
}

// wantBody compares large bodies without printing them.
func wantBody(t *testing.T, what string, got store.Answer, body []byte) {
	t.Helper()
	if got.Status != store.OK || !bytes.Equal(got.Body, body) {
		t.Fatalf("%s: status %d, %d bytes", what, got.Status, len(got.Body))
	}
}

func TestALargeSessionComesOverASlowAndLossyLinkThoughTheRequestGaveUp(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := largeFarm(f)
		body := largeBody(20 << 20)
		a.do(store.Request{Op: store.Put, Key: []byte(keyOf(1)), Timeout: 20, Body: body})
		begun := time.Now()
		for {
			got := b.get(keyOf(1))
			if got.Status != store.Unknown {
				wantBody(t, "get", got, body)
				break
			}
			if time.Since(begun) > 3*time.Minute {
				t.Fatal("it has not come in three minutes")
			}
			// Meanwhile the link carries what it should.
			b.put(keyOf(2), "small", 0)
			f.wantAnswer("a small one, the other way", a.get(keyOf(2)), store.OK, "small")
			f.wantAnswer("a miss", b.get(keyOf(3)), store.NotFound, "")
			a.delete(keyOf(2), store.NoCookie)
			time.Sleep(500 * time.Millisecond)
		}
		took := time.Since(begun)
		if took < 15*time.Second {
			t.Errorf("it took %v: the network is too fast for this test", took)
		}
		t.Logf("20 MB came in %v", took)
		time.Sleep(time.Second)
		if h := f.holders(keyOf(1)); len(h) != 1 || h[0] != "b" {
			t.Errorf("held by %v", h)
		}
		for _, text := range []string{"unanswered", "no receipt", "a link has ended", "level=ERROR"} {
			for _, host := range []string{"a", "b"} {
				if lines := f.log.lines(host, text); len(lines) > 0 {
					t.Error(lines)
				}
			}
		}
		if n := counter(t, b.mesh.metrics.handovers, incoming, "received"); n != 1 {
			t.Errorf("%v sessions were received", n)
		}
	})
}

func TestALargeWriteIsPassedToTheHolderOverASlowAndLossyLink(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := largeFarm(f)
		a.put(keyOf(1), "small", 0)
		lock := a.acquire(keyOf(1))
		body := largeBody(5 << 20)
		f.wantAnswer("put through b", b.do(store.Request{Op: store.Put, Key: []byte(keyOf(1)), Cookie: lock.Cookie, Timeout: 20, Body: body}),
			store.OK, "")
		wantBody(t, "get on the holder", a.get(keyOf(1)), body)
		if lines := f.log.lines("b", "unanswered"); len(lines) > 0 {
			t.Error(lines)
		}
	})
}

func TestALinkThatIsCutInTheMiddleOfALargeSessionLosesNothing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := largeFarm(f)
		body := largeBody(5 << 20)
		a.do(store.Request{Op: store.Put, Key: []byte(keyOf(1)), Timeout: 20, Body: body})
		f.wantAnswer("get on b", b.get(keyOf(1)), store.Unknown, "")
		f.cut(a, b)
		time.Sleep(7 * time.Second)
		// Not all of it was sent, so there is no doubt: b cannot have it.
		wantBody(t, "get on a when the link is dead", a.get(keyOf(1)), body)
		if n := a.store.Stats().Doubts; n != 0 {
			t.Errorf("%d doubts", n)
		}
		f.mend()
		f.linked(a, b)
		time.Sleep(2 * time.Second)
		for range 60 {
			got := b.get(keyOf(1))
			if got.Status == store.OK {
				wantBody(t, "get on b", got, body)
				return
			}
			time.Sleep(time.Second)
		}
		t.Error("it has not come in a minute")
	})
}
