package transport

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"peerstate/store"
)

func TestALockedSessionStaysWhereItIsAndTheAskerIsToldByWhom(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "x", 0)
		lock := a.acquire(keyOf(1))
		time.Sleep(7 * time.Second)
		for what, got := range map[string]store.Answer{"get": b.get(keyOf(1)), "acquire": b.acquire(keyOf(1))} {
			f.wantAnswer(what, got, store.Locked, "")
			if got.Cookie != lock.Cookie || got.LockAge.Truncate(time.Second) != 7*time.Second {
				t.Errorf("%s: cookie %d, age %v; want cookie %d, age 7s", what, got.Cookie, got.LockAge, lock.Cookie)
			}
		}
		f.wantAnswer("head", b.head(keyOf(1)), store.OK, "")
		if !a.holds(keyOf(1)) {
			t.Error("the locked session has moved")
		}
	})
}

func TestAReleaseAPutAndADeleteArePassedToTheHolder(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "x", 0)

		lock := a.acquire(keyOf(1))
		f.wantAnswer("release with another cookie", b.release(keyOf(1), lock.Cookie+1), store.Locked, "")
		f.wantAnswer("release", b.release(keyOf(1), lock.Cookie), store.OK, "")

		lock = a.acquire(keyOf(1))
		f.wantAnswer("put with another cookie", b.put(keyOf(1), "y", lock.Cookie+1), store.Locked, "")
		f.wantAnswer("put without a cookie", b.put(keyOf(1), "y", store.NoCookie), store.Locked, "")
		f.wantAnswer("put with a bad cookie", b.put(keyOf(1), "y", store.BadCookie), store.BadRequest, "")
		f.wantAnswer("put", b.put(keyOf(1), "z", lock.Cookie), store.OK, "")
		f.wantAnswer("get on the holder", a.get(keyOf(1)), store.OK, "z")

		insert := store.Request{Op: store.Put, Key: []byte(keyOf(1)), Cookie: store.NoCookie, Timeout: 20,
			Flags: store.FlagUninitialized, Body: []byte("empty")}
		f.wantAnswer("an insert-only put", b.do(insert), store.OK, "")
		f.wantAnswer("get on the holder", a.get(keyOf(1)), store.OK, "z")

		lock = a.acquire(keyOf(1))
		f.wantAnswer("delete with another cookie", b.delete(keyOf(1), lock.Cookie+1), store.Locked, "")
		f.wantAnswer("delete", b.delete(keyOf(1), lock.Cookie), store.OK, "")
		f.wantAnswer("get after it", a.get(keyOf(1)), store.NotFound, "")
		f.wantAnswer("get after it", b.get(keyOf(1)), store.NotFound, "")
	})
}

func TestAWriteWhoseAnswerIsLostIsNeverSentAgain(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		b := f.start("b", "a")
		f.linked(a, b)
		a.put(keyOf(1), "0", 0)
		lock := a.acquire(keyOf(1))
		// The question and its reply pass, then the write goes out and its answer does not come back.
		answered := time.Now().Add(3 * f.delay)
		f.net.losing(func(from, to string) bool {
			return from == a.addr.String() && !time.Now().Before(answered)
		})
		f.wantAnswer("put through b", b.put(keyOf(1), "1", lock.Cookie), store.Unknown, "")
		f.mend()
		time.Sleep(30 * time.Second)
		if got := a.get(keyOf(1)); got.Status == store.OK && string(got.Body) != "1" {
			t.Errorf("the session is %q", got.Body)
		}
	})
}

// Many clients on both nodes add one to a few counters under acquire and PUT, on a network that
// delays, reorders and loses.
func TestNoLockIsHeldTwiceAndNoWriteIsLostBetweenNodes(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.delay = 2 * time.Millisecond
		a := f.start("a", "b", "c")
		b := f.start("b", "c")
		c := f.start("c", "a")
		f.linked(a, b, c)
		packets := time.Duration(0)
		f.net.delaying(func(from, to string) time.Duration { // some overtake others
			packets++
			return f.delay + packets*7%5*time.Millisecond
		})
		n := 0
		f.net.losing(func(from, to string) bool { n++; return n%29 == 0 })
		nodes := []*testNode{a, b, c}
		visitors := make([]*visitor, 4)
		var all sync.WaitGroup
		for i := range visitors {
			v := &visitor{key: keyOf(i)}
			visitors[i] = v
			nodes[i%3].put(v.key, "0", store.NoCookie)
			for k := range 6 {
				all.Go(func() {
					for pages := 0; pages < 10; {
						if v.page(t, nodes[(k+pages)%3]) {
							pages++
						}
						time.Sleep(time.Duration(20+7*k) * time.Millisecond)
					}
				})
			}
		}
		all.Wait()
		f.mend()
		time.Sleep(5 * time.Second)
		for _, v := range visitors {
			got, err := strconv.Atoi(f.wantOneHolder(v.key))
			if err != nil || got < len(v.acked) || got > len(v.acked)+v.lost {
				t.Errorf("a counter is %d after %d pages and %d with an error", got, len(v.acked), v.lost)
			}
			seen := map[string]bool{}
			for _, body := range v.acked {
				if seen[body] {
					t.Errorf("%s was written twice", body)
				}
				seen[body] = true
			}
		}
	})
}
