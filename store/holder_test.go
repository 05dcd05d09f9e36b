package store

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestNothingIsLostAndNoLockHeldTwiceWhateverTheNetworkDoes: messages are late or lost and links cut,
// at any step of a hand-over. Nobody is given up, so at the end each counter is in one place and
// shows every addition that a client was told of.
func TestNothingIsLostAndNoLockHeldTwiceWhateverTheNetworkDoes(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			s := newStorm(t, seed)
			s.blow(20 * time.Second)
			for _, c := range s.counters {
				n, ok := s.read(c)
				if !ok || n < c.acked || n > c.acked+c.unsure {
					t.Errorf("%s is %d (there: %v) after %d additions and %d of which nobody knows", c.key, n, ok, c.acked, c.unsure)
				}
				for value, times := range c.seen {
					if times > 1 {
						t.Errorf("%s was set to %d by %d clients", c.key, value, times)
					}
				}
			}
			if n := s.conflicts(); n != 0 {
				t.Errorf("%d conflicts", n)
			}
		})
	}
}

// TestWhenNodesAreGivenUpEveryMissingAdditionIsAConflict: a node that cannot be reached is taken for
// out, while it lives on and others use it. Then both sides may write; when they have met, one node
// holds the session, and if additions are missing it was counted.
func TestWhenNodesAreGivenUpEveryMissingAdditionIsAConflict(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			s := newStorm(t, seed)
			s.givesUp = true
			s.blow(20 * time.Second)
			for _, c := range s.counters {
				n, ok := s.read(c)
				if !ok {
					t.Errorf("%s is gone", c.key)
				}
				if n < c.acked && s.conflicts() == 0 {
					t.Errorf("%s is %d after %d additions, and no conflict was counted", c.key, n, c.acked)
				}
			}
		})
	}
}

// storm is a farm in bad weather, and its clients.
type storm struct {
	*chance
	t        *testing.T
	net      *network
	givesUp  bool // nodes are called out
	counters []*tally
	churn    []string // sessions that come and go
	calm     bool     // guarded by chance.mu
}

// tally is a session that is a counter, and what clients know of it. The storm's lock guards it.
type tally struct {
	key           string
	acked, unsure uint64 // additions that were answered, and that may or may not be
	seen          map[uint64]int
}

func newStorm(t *testing.T, seed uint64) *storm {
	// Every other one with requests that wait for locks.
	wait := time.Duration(seed%2) * 400 * time.Millisecond
	s := &storm{chance: newChance(t, seed), t: t, net: waitingFarm(t, wait, "a", "b", "c")}
	for i := range 3 {
		c := &tally{key: fmt.Sprint("counter ", i), seen: map[uint64]int{}}
		s.counters = append(s.counters, c)
		mustBe(t, "the first put", s.node().do(Request{Op: Put, Key: []byte(c.key), Timeout: 20, Body: number(0)}), OK, "")
		s.churn = append(s.churn, fmt.Sprint("visitor ", i))
	}
	return s
}

func (s *storm) node() *node { return s.net.nodes[s.n(len(s.net.nodes))] }

func (s *storm) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calm
}

// blow lets clients work for a while in bad weather, then in good, and waits until all is settled.
func (s *storm) blow(d time.Duration) {
	s.net.on(func(m message) bool {
		time.Sleep(s.upTo(10 * time.Millisecond))
		if s.n(40) == 0 {
			time.Sleep(s.upTo(time.Second))
		}
		return s.n(25) != 0
	})
	var clients, weather sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for !s.over() {
				time.Sleep(s.upTo(50 * time.Millisecond))
				if s.n(4) == 0 {
					s.visit(s.churn[s.n(len(s.churn))])
				} else {
					s.add(s.counters[s.n(len(s.counters))])
				}
			}
		})
	}
	weather.Go(func() {
		for !s.over() {
			time.Sleep(s.upTo(time.Second))
			s.cuts()
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		clients.Wait()
	}()
	var questions sync.WaitGroup
	questions.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(s.upTo(time.Second)):
				s.node().resolve()
			}
		}
	})
	time.Sleep(d)
	s.mu.Lock()
	s.calm = true
	s.mu.Unlock()
	s.net.on(nil)
	weather.Wait()
	for _, x := range s.net.nodes {
		for _, y := range s.net.nodes {
			s.net.link(x.name, y.name, true)
		}
	}
	questions.Wait()
	s.settle()
}

// settle resolves what is in doubt, and sees that one node holds each session.
func (s *storm) settle() {
	for range 100 {
		s.net.wg.Wait()
		doubts := 0
		for _, n := range s.net.nodes {
			n.resolve()
			doubts += n.Stats().Doubts
		}
		if doubts == 0 {
			break
		}
	}
	for _, n := range s.net.nodes {
		if d := n.Stats().Doubts; d != 0 {
			s.t.Errorf("%s: still %d hand-overs in doubt", n.name, d)
		}
		if err := checkIdle(n.Store); err != nil {
			s.t.Errorf("%s: %v", n.name, err)
		}
	}
	for _, c := range s.counters {
		if h := s.net.holders(c.key); len(h) != 1 {
			s.t.Errorf("%s is held by %v", c.key, h)
		}
	}
	for _, key := range s.churn {
		if h := s.net.holders(key); len(h) > 1 {
			s.t.Errorf("%s is held by %v", key, h)
		}
	}
}

// cuts cuts a link, for up to a second.
func (s *storm) cuts() {
	a, b := s.node(), s.node()
	if a == b {
		return
	}
	s.net.link(a.name, b.name, false)
	time.Sleep(s.upTo(time.Second))
	if s.givesUp && s.n(2) == 0 {
		a.out(b.name)
		time.Sleep(s.upTo(time.Second))
	}
	s.net.link(a.name, b.name, true)
}

// add is a page that adds one to a counter.
func (s *storm) add(c *tally) {
	a := s.node().acquire(c.key)
	switch a.Status {
	case OK:
	case Locked, Unknown:
		return
	default:
		s.t.Errorf("acquire of %s: %s", c.key, statusNames[a.Status])
		return
	}
	time.Sleep(s.upTo(20 * time.Millisecond))
	unsure := false
	if s.n(4) > 0 {
		n := binary.BigEndian.Uint64(a.Body) + 1
		b := s.node().do(Request{Op: Put, Key: []byte(c.key), Cookie: a.Cookie, Timeout: 20, Body: number(n)})
		s.mu.Lock()
		switch b.Status {
		case OK:
			c.acked++
			c.seen[n]++
		case Unknown:
			c.unsure++
			unsure = true
		}
		s.mu.Unlock()
		if b.Status == Locked && !s.givesUp || b.Status == NotFound || b.Status == BadRequest {
			s.t.Errorf("put of %s: %s", c.key, statusNames[b.Status])
		}
		if !unsure {
			return
		}
	}
	for s.node().release(c.key, a.Cookie).Status == Unknown {
		// The client would do so too, when the lock is old enough.
		time.Sleep(s.upTo(time.Second))
		if s.givesUp && s.over() {
			return // the lock died with its copy
		}
	}
}

// visit is whatever else happens: sessions are created, looked at, and ended.
func (s *storm) visit(key string) {
	n := s.node()
	switch s.n(6) {
	case 0, 1:
		n.insert(key, "new")
	case 2:
		n.get(key)
	case 3:
		n.head(key)
	case 4:
		n.delete(key, NoCookie)
	case 5:
		if a := n.acquire(key); a.Status == OK {
			for s.node().put(key, "page", a.Cookie).Status == Unknown && !s.over() {
				time.Sleep(s.upTo(time.Second))
			}
		}
	}
}

// read gives a counter's value, from any node.
func (s *storm) read(c *tally) (uint64, bool) {
	a := s.node().get(c.key)
	if a.Status == Locked { // by a page that never got its answer
		s.node().release(c.key, a.Cookie)
		a = s.node().get(c.key)
	}
	if a.Status != OK || len(a.Body) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(a.Body), true
}

func (s *storm) conflicts() (n uint64) {
	for _, x := range s.net.nodes {
		n += x.Stats().Conflicts
	}
	return n
}
