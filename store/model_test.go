package store_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"peerstate/store"
	"peerstate/store/model"
)

// TestTheStoreAnswersAsTheTableOfTheProtocol runs random conversations with a store and with the
// model at once, in virtual time.
func TestTheStoreAnswersAsTheTableOfTheProtocol(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store.Bubble(t, func() {
			p := newPair()
			defer p.store.Close()
			rt.Repeat(map[string]func(*rapid.T){
				"":        p.check,
				"request": p.request,
				"undo":    p.undo,
				"wait":    p.wait,
			})
			most := p.model.Active(p.now())
			time.Sleep(store.SweepRound + time.Second)
			stats := p.store.Stats()
			if least := p.model.Active(p.now()); stats.Active < least || stats.Active > most {
				rt.Fatalf("%d sessions active, want %d, and those that expired in the last sweep, %d", stats.Active, least, most-least)
			}
			if sum := uint64(stats.Active) + stats.Abandoned + stats.TimedOut; stats.Total != sum {
				rt.Fatalf("%d sessions were created, %d are or ended: %+v", stats.Total, sum, stats)
			}
		})
	})
}

// pair is a store and the model that it is compared with, and what the model has no word for: that
// an answer is taken back.
type pair struct {
	store *store.Store
	model *model.Model
	begun time.Time
	keys  map[string]*shadow
	given []given // answers that can be taken back: those of this very moment
}

// shadow is what is known of a key besides the model.
type shadow struct {
	exists   bool
	seen     time.Duration // when it was found last
	timeout  int32
	cookie   int32 // the last that was seen
	lock     int32
	writes   int  // stored, deleted, flag cleared: what ends the time in which Init can be taken back
	unmarked bool // Init was taken back, of which the model does not know
}

func (s *shadow) alive(now time.Duration) bool {
	return s.exists && (s.timeout == 0 || now-s.seen < time.Duration(s.timeout)*time.Minute)
}

type given struct {
	key    string
	answer store.Answer
	writes int
}

func newPair() *pair {
	p := &pair{store: store.New(store.Options{Node: "a", Instance: 1}), model: model.New(), begun: time.Now(), keys: map[string]*shadow{}}
	for i := range 3 {
		p.keys[fmt.Sprintf("/LM/W3SVC/1/ROOT(hash)/%d", i)] = &shadow{cookie: 1}
	}
	return p
}

func (p *pair) now() time.Duration { return time.Since(p.begun) }

func (p *pair) check(rt *rapid.T) {
	if err := store.CheckIdle(p.store); err != nil {
		rt.Fatal(err)
	}
}

func (p *pair) key(rt *rapid.T) string {
	return fmt.Sprintf("/LM/W3SVC/1/ROOT(hash)/%d", rapid.IntRange(0, len(p.keys)-1).Draw(rt, "key"))
}

func (p *pair) request(rt *rapid.T) {
	key := p.key(rt)
	sh := p.keys[key]
	r := store.Request{
		Op:  store.Op(rapid.IntRange(0, store.Ops-1).Draw(rt, "op")),
		Key: []byte(key),
		Cookie: rapid.OneOf(
			rapid.Just(sh.cookie),
			rapid.SampledFrom([]int32{store.NoCookie, store.BadCookie, 0, 1, 1<<31 - 1}),
			rapid.Int32Range(max(sh.cookie-2, 0), sh.cookie+2)).Draw(rt, "cookie"),
	}
	if r.Op == store.Put {
		r.Timeout = rapid.SampledFrom([]int32{0, 1, 1, 2, store.MaxTimeout}).Draw(rt, "timeout")
		r.Flags = rapid.SampledFrom([]int32{0, 0, 1, 2, 3, -1}).Draw(rt, "flags")
		r.Body = rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(rt, "body")
	}
	want := p.model.Do(r, p.now())
	got, ok := p.store.Try(&r)
	if !ok {
		rt.Fatal("a store without a farm wanted to ask others")
	}
	if sh.unmarked && sh.alive(p.now()) && (r.Op == store.Get || r.Op == store.Acquire || r.Op == store.Release) {
		want.Init, sh.unmarked = true, false
	}
	if !same(got, want) {
		rt.Fatalf("%v with cookie %d, flags %d:\n got %+v\nwant %+v", r.Op, r.Cookie, r.Flags, got, want)
	}
	sh.follow(&r, got, p.now())
	p.given = append(p.given, given{key: key, answer: got, writes: sh.writes})
}

// follow notes what a request has changed.
func (s *shadow) follow(r *store.Request, a store.Answer, now time.Duration) {
	existed := s.alive(now)
	if !existed {
		*s = shadow{exists: r.Op == store.Put, timeout: r.Timeout, cookie: 1, writes: s.writes + 1}
	}
	s.seen = now
	if a.Cookie > 0 {
		s.cookie = a.Cookie
	}
	if a.Init {
		s.writes++
	}
	if !existed || a.Status != store.OK {
		return
	}
	switch r.Op {
	case store.Acquire:
		s.lock = a.Cookie
	case store.Release:
		s.lock = 0
	case store.Delete:
		*s = shadow{cookie: s.cookie, writes: s.writes + 1}
	case store.Put:
		if r.Flags&store.FlagUninitialized != 0 {
			return
		}
		s.lock = 0
		s.writes++
		s.unmarked = s.unmarked && r.Timeout == s.timeout
		s.timeout = r.Timeout
	}
}

// undo takes back an answer, of this moment because the model cannot unlock without renewing.
func (p *pair) undo(rt *rapid.T) {
	if len(p.given) == 0 {
		rt.Skip("nothing to take back")
	}
	g := rapid.SampledFrom(p.given).Draw(rt, "answer")
	sh := p.keys[g.key]
	p.store.Undo([]byte(g.key), g.answer)
	if g.answer.Status == store.OK && g.answer.Cookie != 0 && g.answer.Cookie == sh.lock {
		p.model.Do(store.Request{Op: store.Release, Key: []byte(g.key), Cookie: sh.lock}, p.now())
		sh.lock = 0
	}
	if g.answer.Init && sh.lock == 0 && sh.writes == g.writes {
		sh.unmarked = true
		sh.writes++
	}
}

// wait lets time pass, often to the very moment at which something expires.
func (p *pair) wait(rt *rapid.T) {
	d := rapid.OneOf(
		rapid.SampledFrom([]time.Duration{time.Second, time.Minute - 1, time.Minute, 2*time.Minute - 1, 2 * time.Minute}),
		rapid.Map(rapid.IntRange(1, 90), func(s int) time.Duration { return time.Duration(s) * time.Second }),
	).Draw(rt, "time")
	time.Sleep(d)
	p.given = nil
}

func same(a, b store.Answer) bool {
	return a.Status == b.Status && a.Init == b.Init && a.Cookie == b.Cookie && a.Timeout == b.Timeout &&
		a.LockAge == b.LockAge && bytes.Equal(a.Body, b.Body)
}
