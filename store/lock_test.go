package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// counted is a session whose contents are a number, and how often clients were told that they have
// added one to it.
type counted struct {
	key   []byte
	added atomic.Uint64
	owner atomic.Int32 // how many clients believe that they hold the lock
	last  atomic.Int32 // the highest cookie that was given
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// TestNoLockIsEverHeldTwice has many clients add to a few counters, each reading under the lock and
// writing with its cookie. An addition that another one overwrote would be missing at the end.
func TestNoLockIsEverHeldTwice(t *testing.T) {
	const clients, rounds = 16, 400
	st := alone(t)
	sessions := make([]*counted, 4)
	for i := range sessions {
		c := &counted{key: fmt.Appendf(nil, "counter %d", i)}
		c.last.Store(1)
		sessions[i] = c
		st.Try(&Request{Op: Put, Key: c.key, Cookie: NoCookie, Timeout: 20, Body: number(0)})
	}
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(id)))
			for range rounds {
				if err := sessions[rnd.IntN(len(sessions))].work(st, rnd); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, c := range sessions {
		a, _ := st.Try(&Request{Op: Get, Key: c.key})
		if a.Status != OK || binary.BigEndian.Uint64(a.Body) != c.added.Load() {
			t.Errorf("%s: status %d, body %x, after %d additions", c.key, a.Status, a.Body, c.added.Load())
		}
	}
}

// work is one page: it gets the lock, looks after that nobody else has it, and ends it in one of the
// ways in which a lock ends.
func (c *counted) work(st *Store, rnd *rand.Rand) error {
	a, _ := st.Try(&Request{Op: Acquire, Key: c.key})
	for a.Status == Locked {
		if rnd.IntN(8) == 0 { // a write without the lock, or with a cookie that is not the lock's
			b, _ := st.Try(&Request{Op: Put, Key: c.key, Cookie: NoCookie, Timeout: 20, Flags: 1, Body: number(1 << 60)})
			if b.Status != OK {
				return fmt.Errorf("an insert-only put of a session that is there: status %d", b.Status)
			}
		}
		runtime.Gosched()
		a, _ = st.Try(&Request{Op: Acquire, Key: c.key})
	}
	if a.Status != OK {
		return fmt.Errorf("acquire: status %d", a.Status)
	}
	if n := c.owner.Add(1); n != 1 {
		return fmt.Errorf("%d clients hold the lock of %s", n, c.key)
	}
	if last := c.last.Swap(a.Cookie); a.Cookie <= last {
		return fmt.Errorf("cookie %d was given after %d", a.Cookie, last)
	}
	for _, wrong := range []int32{NoCookie, 0, a.Cookie - 1} {
		b, _ := st.Try(&Request{Op: Put, Key: c.key, Cookie: wrong, Timeout: 20, Body: number(1 << 60)})
		if b.Status != Locked || b.Cookie != a.Cookie {
			return fmt.Errorf("put with cookie %d under the lock %d: status %d, cookie %d", wrong, a.Cookie, b.Status, b.Cookie)
		}
	}
	runtime.Gosched()
	c.owner.Add(-1) // before the end, or the next one might be there first
	switch rnd.IntN(4) {
	case 0:
		st.Undo(c.key, a)
	case 1:
		if b, _ := st.Try(&Request{Op: Release, Key: c.key, Cookie: a.Cookie}); b.Status != OK {
			return fmt.Errorf("release: status %d", b.Status)
		}
	default:
		n := binary.BigEndian.Uint64(a.Body) + 1
		if b, _ := st.Try(&Request{Op: Put, Key: c.key, Cookie: a.Cookie, Timeout: 20, Body: number(n)}); b.Status != OK {
			return fmt.Errorf("put with the lock's cookie: status %d", b.Status)
		}
		c.added.Add(1)
	}
	return nil
}

func TestAnAnswerThatWasNotDeliveredIsTakenBack(t *testing.T) {
	st := alone(t)
	key := []byte("k")
	put := func(flags int32, body string) {
		st.Try(&Request{Op: Put, Key: key, Cookie: NoCookie, Timeout: 20, Flags: flags, Body: []byte(body)})
	}
	do := func(op Op, cookie int32) Answer {
		a, _ := st.Try(&Request{Op: op, Key: key, Cookie: cookie, Timeout: 20})
		return a
	}
	put(FlagUninitialized, "new")

	a := do(Acquire, NoCookie)
	if !a.Init || a.Cookie != 2 {
		t.Fatalf("first acquire: %+v", a)
	}
	st.Undo(key, a)
	a = do(Acquire, NoCookie)
	if !a.Init || a.Cookie != 3 {
		t.Errorf("acquire after one that was taken back: %+v, want the flag again and a new cookie", a)
	}
	st.Undo(key, a)
	for _, op := range []Op{Get, Release} {
		a = do(op, NoCookie)
		st.Undo(key, a)
		if again := do(op, NoCookie); !a.Init || !again.Init {
			t.Errorf("%v: the flag was told %v at first, and after it was taken back %v", op, a.Init, again.Init)
		} else {
			st.Undo(key, again)
		}
	}

	a = do(Get, NoCookie)
	put(0, "written")
	st.Undo(key, a)
	if a = do(Get, NoCookie); a.Init {
		t.Error("a session that was written meanwhile is called uninitialised again")
	}

	mine := do(Acquire, NoCookie)
	do(Release, mine.Cookie)
	theirs := do(Acquire, NoCookie)
	st.Undo(key, mine)
	st.Undo(key, do(Get, NoCookie)) // 423: it names the lock, and does not hold it
	if a = do(Get, NoCookie); a.Status != Locked || a.Cookie != theirs.Cookie {
		t.Errorf("another one's lock was undone: %+v", a)
	}
}

func TestCookiesStartAgainAtTheBottomOnlyAfterTheLast(t *testing.T) {
	s := &session{cookie: 1<<31 - 2}
	s.raise(1)
	if s.cookie != 1<<31-1 {
		t.Errorf("cookie %d", s.cookie)
	}
	for by := int32(1); by < 1<<17; by += 1 << 15 {
		s.cookie = 1<<31 - 1
		if s.raise(by); s.cookie != 1+by {
			t.Errorf("cookie %d after the last and %d more", s.cookie, by)
		}
	}
}
