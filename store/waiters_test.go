package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// waiting makes a store in which requests wait 400 ms for a lock.
func waiting(t *testing.T) *Store {
	st := New(Options{Node: "a", Instance: 1, FetchTimeout: 2500 * time.Millisecond, LockWait: 400 * time.Millisecond})
	t.Cleanup(st.Close)
	return st
}

func ask(ctx context.Context, st *Store, op Op, key string, cookie int32) Answer {
	r := &Request{Op: op, Key: []byte(key), Cookie: cookie, Timeout: 20, Body: []byte("x")}
	if a, ok := st.Try(r); ok {
		return a
	}
	return st.Do(ctx, r)
}

func TestARequestIsServedTheMomentTheLockIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		ctx := t.Context()
		ask(ctx, st, Put, "k", 0)
		lock := ask(ctx, st, Acquire, "k", NoCookie)
		go func() {
			time.Sleep(100 * time.Millisecond)
			ask(ctx, st, Release, "k", lock.Cookie)
		}()
		begun := time.Now()
		a := ask(ctx, st, Acquire, "k", NoCookie)
		if a.Status != OK || a.Cookie != lock.Cookie+1 || time.Since(begun) != 100*time.Millisecond {
			t.Errorf("status %d, cookie %d after %v", a.Status, a.Cookie, time.Since(begun))
		}
		if got := ask(ctx, st, Get, "k", NoCookie); got.Status != Locked || got.Cookie != a.Cookie || got.LockAge != 400*time.Millisecond {
			t.Errorf("a get while it is locked: %+v", got)
		}
	})
}

func TestFourRequestsAtOnceAreDoneOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		ctx := t.Context()
		ask(ctx, st, Put, "k", 0)
		begun := time.Now()
		var pages sync.WaitGroup
		var order []int
		for i := range 4 {
			pages.Go(func() {
				time.Sleep(time.Duration(i) * time.Microsecond)
				a := ask(ctx, st, Acquire, "k", NoCookie)
				if a.Status != OK {
					t.Errorf("page %d: status %d", i, a.Status)
					return
				}
				order = append(order, i)
				time.Sleep(20 * time.Millisecond)
				ask(ctx, st, Put, "k", a.Cookie)
			})
		}
		pages.Wait()
		if took := time.Since(begun); took != 80*time.Millisecond {
			t.Errorf("they took %v", took)
		}
		if fmt.Sprint(order) != "[0 1 2 3]" {
			t.Errorf("they were served in the order %v", order)
		}
	})
}

func TestALockIsNotGrantedToARequestWhoseClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		ask(t.Context(), st, Put, "k", 0)
		lock := ask(t.Context(), st, Acquire, "k", NoCookie)
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan Answer)
		go func() { gone <- ask(ctx, st, Acquire, "k", NoCookie) }()
		synctest.Wait()
		leave()
		if a := <-gone; a.Status != Unknown {
			t.Errorf("it was told %d", a.Status)
		}
		ask(t.Context(), st, Release, "k", lock.Cookie)
		if a := ask(t.Context(), st, Acquire, "k", NoCookie); a.Status != OK {
			t.Errorf("the next one was told %d", a.Status)
		}
		if n := st.Stats().Waiting; n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

func TestPastTheLimitARequestIsToldAtOnceThatTheSessionIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		ctx := t.Context()
		ask(ctx, st, Put, "k", 0)
		lock := ask(ctx, st, Acquire, "k", NoCookie)
		var all sync.WaitGroup
		for range maxTurns {
			all.Go(func() { ask(ctx, st, Get, "k", NoCookie) })
		}
		synctest.Wait()
		begun := time.Now()
		if a := ask(ctx, st, Get, "k", NoCookie); a.Status != Locked || a.Cookie != lock.Cookie || time.Since(begun) != 0 {
			t.Errorf("status %d after %v", a.Status, time.Since(begun))
		}
		ask(ctx, st, Delete, "k", lock.Cookie)
		all.Wait()
		if n := st.Stats().Waiting; n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

func TestAnotherNodeWaitsForALockInItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		ctx := t.Context()
		ask(ctx, st, Put, "k", 0)
		lock := ask(ctx, st, Acquire, "k", NoCookie)
		b, c := Peer{"b", 2}, Peer{"c", 3}
		question := Question{Key: "k", Want: Move, Wait: 400 * time.Millisecond}
		got := make(chan Reply)
		go func() { got <- st.Asked(ctx, b, question) }()
		synctest.Wait()
		early := make(chan Answer)
		go func() { early <- ask(ctx, st, Acquire, "k", NoCookie) }()
		synctest.Wait()
		time.Sleep(50 * time.Millisecond)
		ask(ctx, st, Release, "k", lock.Cookie)
		r := <-got
		if r.Kind != ReplyFound {
			t.Fatalf("b was told %d", r.Kind)
		}
		go func() { got <- st.Asked(ctx, c, question) }()
		synctest.Wait()
		// b has no room for it: those who waited behind b have their turn.
		r.Handover.Declined(Version{})
		a := <-early
		if a.Status != OK {
			t.Errorf("the request behind b was told %d", a.Status)
		}
		if r = <-got; r.Kind != ReplyHeld || !r.Locked || r.Cookie != a.Cookie {
			t.Errorf("c was told %+v", r)
		}
	})
}

func TestASessionFetchedForNobodyStaysForTheNextPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		rec := Record{Key: "k", Stamp: 5, Cookie: 1, Timeout: 20, Left: time.Minute, Body: []byte("x")}
		if got := st.Receive(Peer{"b", 2}, HandoverID{2, 1}, rec); !got.Accepted {
			t.Fatal("not taken")
		}
		begun := time.Now()
		r := st.Asked(t.Context(), Peer{"c", 3}, Question{Key: "k", Want: Move})
		if r.Kind != ReplyFound || time.Since(begun) != pollEvery {
			t.Errorf("it went on after %v (%d)", time.Since(begun), r.Kind)
		}
		r.Handover.Declined(Version{})
	})
}
