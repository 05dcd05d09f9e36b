package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheSessionsWhoseLocksAreMetMostAreNamedByHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := waiting(t)
		ctx := t.Context()
		if most, over := st.Contended(); len(most) != 0 || over != 0 {
			t.Fatalf("a store that has just begun names %v over %v", most, over)
		}
		for _, key := range []string{"calm", "met", "met most"} {
			ask(ctx, st, Put, key, 0)
			ask(ctx, st, Acquire, key, NoCookie)
		}
		for _, key := range []string{"met", "met most", "met most"} {
			ask(ctx, st, Acquire, key, NoCookie) // waits for 400 ms
		}
		go ask(ctx, st, Get, "met", NoCookie)
		time.Sleep(100 * time.Millisecond)
		most, over := st.Contended()
		want := []Contended{
			{Hash: KeyHash("met most"), Met: 2, Waited: 800 * time.Millisecond, Longest: 400 * time.Millisecond, Locked: 1300 * time.Millisecond},
			{Hash: KeyHash("met"), Met: 1, Waited: 400 * time.Millisecond, Longest: 400 * time.Millisecond, Locked: 1300 * time.Millisecond, Waiting: 1},
		}
		if over != 1300*time.Millisecond || len(most) != 2 || most[0] != want[0] || most[1] != want[1] {
			t.Errorf("over %v: %+v, want %+v", over, most, want)
		}
	})
}

func TestWhoIsToldAtOnceThatItIsLockedHasMetALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := New(Options{Node: "a", Instance: 1, FetchTimeout: time.Second}) // LockWait is 0
		defer st.Close()
		ask(t.Context(), st, Put, "k", 0)
		ask(t.Context(), st, Acquire, "k", NoCookie)
		ask(t.Context(), st, Acquire, "k", NoCookie)
		if most, _ := st.Contended(); len(most) != 1 || most[0].Met != 1 {
			t.Errorf("%+v", most)
		}

		st = waiting(t)
		ask(t.Context(), st, Put, "k", 0)
		ask(t.Context(), st, Acquire, "k", NoCookie)
		for range maxTurns + 1 {
			go ask(t.Context(), st, Acquire, "k", NoCookie)
		}
		synctest.Wait()
		if most, _ := st.Contended(); len(most) != 1 || most[0].Met != 1 || most[0].Waiting != maxTurns {
			t.Errorf("with a full queue: %+v", most)
		}
		time.Sleep(time.Second)
	})
}

func TestContentionsOfLongAgoAreForgotten(t *testing.T) {
	at := func(d time.Duration) int64 { return int64(d) }
	c := newContentions(0)
	c.met("old", time.Second, 0)
	c.met("new", time.Second, at(6*time.Minute))
	for _, x := range []struct {
		now  time.Duration
		keys int
		over time.Duration
	}{{6 * time.Minute, 2, 6 * time.Minute}, {9 * time.Minute, 2, 9 * time.Minute}, {11 * time.Minute, 1, 6 * time.Minute},
		{16 * time.Minute, 0, 6 * time.Minute}, {time.Hour, 0, 5 * time.Minute}} {
		if keys, _, over := c.top(at(x.now)); len(keys) != x.keys || over != x.over {
			t.Errorf("after %v: %q over %v", x.now, keys, over)
		}
	}
}

func TestManyContendedSessionsTakeBoundedRoomAndTheWorstRemain(t *testing.T) {
	c := newContentions(0)
	for i := range 100_000 {
		c.met(fmt.Sprint(i), time.Millisecond, 0)
		if i%100 == 0 {
			c.met("worst", time.Second, 0)
		}
		if len(c.now) > maxContended {
			t.Fatalf("%d sessions are remembered", len(c.now))
		}
	}
	if keys, by, _ := c.top(0); len(keys) != topContended || keys[0] != "worst" || by["worst"].met < 900 {
		t.Errorf("%q, met %d times", keys, by["worst"].met)
	}
}
