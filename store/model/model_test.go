package model

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peerstate/store"
)

const (
	ok       = store.OK
	bad      = store.BadRequest
	notFound = store.NotFound
	locked   = store.Locked
)

// TestTheTableOfTheProtocol has one row an operation and one column a state of the session, as the
// protocol's own table has.
func TestTheTableOfTheProtocol(t *testing.T) {
	const right, wrong = 2, 7
	rows := []struct {
		op    store.Op
		flags int32
		want  [5]store.Status // unknown, unlocked, locked with the right, a wrong, no cookie
	}{
		{store.Get, 0, [5]store.Status{notFound, ok, locked, locked, locked}},
		{store.Acquire, 0, [5]store.Status{notFound, ok, locked, locked, locked}},
		{store.Release, 0, [5]store.Status{notFound, ok, ok, locked, bad}},
		{store.Put, 0, [5]store.Status{ok, ok, ok, locked, locked}},
		{store.Put, store.FlagUninitialized, [5]store.Status{ok, ok, ok, ok, ok}},
		{store.Delete, 0, [5]store.Status{notFound, ok, ok, locked, locked}},
		{store.Head, 0, [5]store.Status{notFound, ok, ok, ok, ok}},
	}
	for _, row := range rows {
		for state, want := range row.want {
			m := New()
			r := store.Request{Key: []byte("k"), Timeout: 20, Cookie: right}
			if state > 0 {
				r.Op = store.Put
				m.Do(r, 0)
			}
			if state > 1 {
				r.Op = store.Acquire
				m.Do(r, 0)
			}
			r.Op, r.Flags = row.op, row.flags
			r.Cookie = [5]int32{wrong, wrong, right, wrong, store.NoCookie}[state]
			if got := m.Do(r, 0).Status; got != want {
				t.Errorf("%v with flags %d, column %d: status %d, want %d", row.op, row.flags, state, got, want)
			}
		}
	}
}

func TestEachRequestThatFindsASessionRenewsIt(t *testing.T) {
	for op := range store.Op(store.Ops) {
		if op == store.Delete {
			continue
		}
		m := New()
		r := store.Request{Op: store.Put, Key: []byte("k"), Timeout: 1, Cookie: 7}
		m.Do(r, 0)
		r.Op = store.Acquire
		m.Do(r, 0)
		r.Op = op
		m.Do(r, 59*time.Second)
		r.Op = store.Head
		if got := m.Do(r, 118*time.Second).Status; got != ok {
			t.Errorf("after %v: status %d, want it renewed", op, got)
		}
		if got := m.Do(r, 178*time.Second).Status; got != notFound {
			t.Errorf("after %v and its timeout: status %d, want it expired", op, got)
		}
	}
}

func TestExactlyOneAnswerAsksForInitialisation(t *testing.T) {
	m := New()
	r := store.Request{Op: store.Put, Key: []byte("k"), Timeout: 20, Flags: 1, Body: []byte("b")}
	m.Do(r, 0)
	r.Op = store.Acquire
	want := store.Answer{Init: true, Cookie: 2, Timeout: 20, Body: []byte("b")}
	if diff := cmp.Diff(want, m.Do(r, 0)); diff != "" {
		t.Error(diff)
	}
	want = store.Answer{Status: locked, Cookie: 2, LockAge: time.Second}
	if diff := cmp.Diff(want, m.Do(r, time.Second)); diff != "" {
		t.Error(diff)
	}
}

func TestPendingFlagsStayUnlessTheTimeoutChanges(t *testing.T) {
	for timeout, want := range map[int32]bool{20: true, 30: false} {
		m := New()
		r := store.Request{Op: store.Put, Key: []byte("k"), Timeout: 20, Flags: 1}
		m.Do(r, 0)
		r.Flags, r.Timeout = 0, timeout
		m.Do(r, 0)
		r.Op = store.Get
		if got := m.Do(r, 0).Init; got != want {
			t.Errorf("put with timeout %d: pending flag %v, want %v", timeout, got, want)
		}
	}
}
