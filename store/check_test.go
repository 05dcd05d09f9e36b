package store

import (
	"errors"
	"fmt"
	"testing"
)

// check verifies the whole structure of a store: that the counters are what counting gives, and that
// each entry is one that its state allows. It may be called while requests are under way.
func check(st *Store) error {
	var errs []error
	unsafe := 0
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		errs = append(errs, st.checkShard(sh))
		for _, s := range sh.sessions {
			if s.copies != nil && s.copies.since != 0 {
				unsafe++
			}
		}
		sh.mu.Unlock()
	}
	if counted := int(st.unsafe.Load()); unsafe != counted && st.turns.Load() == 0 {
		errs = append(errs, fmt.Errorf("%d sessions are not safe, the counter says %d", unsafe, counted))
	}
	return errors.Join(errs...)
}

// checkIdle is check for a store with no request and no question under way: nothing that only these
// need may be left over.
func checkIdle(st *Store) error {
	errs := []error{check(st)}
	var used, kept int64
	owed := map[uint16]int64{}
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		for _, b := range sh.backups {
			kept += st.room.backupOf(b.key, b.body)
		}
		for _, s := range sh.sessions {
			used += st.room.entryOf(s.key) + int64(len(s.body))
			if s.whose != 0 && !s.holds() {
				owed[s.whose] += st.room.entryOf(s.key)
			}
			b := s.busy
			switch {
			case b == nil:
			case b.inquiry != nil:
				errs = append(errs, fmt.Errorf("%v: a question is left over", s))
			case len(b.turns) != 0:
				errs = append(errs, fmt.Errorf("%v: %d still wait for it", s, len(b.turns)))
			case s.state == frozen && !b.handover.doubtful:
				errs = append(errs, fmt.Errorf("%v: in a hand-over that nobody will end", s))
			case b.changed != nil && !s.holds():
				errs = append(errs, fmt.Errorf("%v: somebody waits for nothing", s))
			case s.state == absent && len(b.promises) == 0:
				errs = append(errs, fmt.Errorf("%v: nothing is known and nothing under way", s))
			}
		}
		sh.mu.Unlock()
	}
	for _, o := range st.keepers.Load().by {
		o.mu.Lock()
		for p := range o.flying {
			if p.superseded {
				used += int64(len(p.Record.Body))
			}
		}
		o.mu.Unlock()
	}
	st.room.claims.mu.Lock()
	for number, counted := range st.room.claims.used {
		if counted != owed[uint16(number)] {
			errs = append(errs, fmt.Errorf("%d bytes are remembered for a node, counted are %d", owed[uint16(number)], counted))
		}
	}
	st.room.claims.mu.Unlock()
	if m := st.Memory(); m.Kept != kept || m.Used != used+kept {
		errs = append(errs, fmt.Errorf("counted are %d bytes, and %d of backups, and there are %d and %d", m.Used, m.Kept, used+kept, kept))
	}
	return errors.Join(errs...)
}

func (st *Store) checkShard(sh *shard) error {
	var errs []error
	var held int
	var bytes int64
	for key, s := range sh.sessions {
		if key != s.key {
			errs = append(errs, fmt.Errorf("%v stands under the key %q", s, key))
		}
		if st.shardOf(key) != sh {
			errs = append(errs, fmt.Errorf("%v is in the wrong shard", s))
		}
		if err := st.checkSession(s); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", s, err))
		}
		if s.holds() {
			held++
			bytes += s.size()
			if s.size() > sh.largest {
				errs = append(errs, fmt.Errorf("%v has %d bytes, the largest is said to have %d", s, s.size(), sh.largest))
			}
		}
	}
	var kept int64
	for key, b := range sh.backups {
		kept += int64(len(b.key) + len(b.body))
		if key != b.key || b.holder.Node == "" || b.stamp == 0 || b.copies != nil || b.busy != nil {
			errs = append(errs, fmt.Errorf("a backup that cannot be: %v of %v", &b.session, b.holder))
		}
	}
	if kept != sh.keptBytes {
		errs = append(errs, fmt.Errorf("%d bytes of backups, the counter says %d", kept, sh.keptBytes))
	}
	if held != sh.held || bytes != sh.bytes {
		errs = append(errs, fmt.Errorf("counted %d sessions of %d bytes, the counters say %d and %d", held, bytes, sh.held, sh.bytes))
	}
	if sh.most < len(sh.sessions) {
		errs = append(errs, fmt.Errorf("%d entries, the most is said to be %d", len(sh.sessions), sh.most))
	}
	return errors.Join(errs...)
}

func (st *Store) checkSession(s *session) error {
	var errs []error
	must := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	b := s.busy
	if b == nil {
		b = new(busy)
	} else {
		must(b.inquiry != nil || b.handover != nil || b.to != (Peer{}) || len(b.turns) != 0 || b.stays != 0 || len(b.promises) != 0 || b.changed != nil,
			"an empty busy part is left over")
	}
	must(b.inquiry == nil || b.inquiry.session == s, "the question is about another session")
	must(b.inquiry == nil || !s.holds(), "a question about a session that is here")
	must((s.state == frozen) == (b.handover != nil), "frozen and in a hand-over are not the same")
	must(b.handover == nil || b.handover.Record.Key == s.key, "in another session's hand-over")
	must(b.handover == nil || !b.handover.doubtful || st.doubts.has(b.handover), "in doubt, but nobody will ask")
	must(s.copies == nil || s.holds() || s.state == deleted, "copies are tended of what is not held")
	must((s.state == moved) == (b.to != (Peer{})), "moved and a note of where to are not the same")
	must(s.lock == 0 || s.state == held, "a lock on what is not held")
	must(s.lock <= s.cookie, "a lock that was never given")
	if s.holds() {
		must(s.cookie >= 1 && s.floor <= s.cookie, "a cookie counter below its floor")
		must(s.stamp > s.deleted, "no later than its own deletion")
		must((s.expires == 0) == (s.timeout == 0), "it expires, or does not, against its timeout")
	} else {
		must(s.body == nil, "a body is kept of what is not held")
	}
	switch s.state {
	case moved, deleted:
		must(s.expires != 0, "a note that is kept for ever")
	case absent:
		must(s.expires != 0 || b.inquiry != nil || len(b.turns) != 0, "an entry that says nothing is kept for ever")
	}
	if s.state == deleted {
		must(s.stamp == s.deleted && s.stamp != 0, "a deletion that is not its own last one")
	}
	return errors.Join(errs...)
}

func (s *session) holds() bool { return s.state == held || s.state == frozen }

func (s *session) String() string {
	return fmt.Sprintf("session %q (%s, stamp %d, epoch %d)", s.key,
		[...]string{"absent", "held", "frozen", "moved", "deleted"}[s.state], s.stamp, s.epoch)
}

func (d *doubts) has(h *Handover) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.by[h.To.Node][h]
	return ok
}

// entries counts all that a store remembers, sessions and notes.
func (st *Store) entries() (n int) {
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		n += len(sh.sessions)
		sh.mu.Unlock()
	}
	return n
}

// entry gives a copy of what a store knows of a key, for tests.
func (st *Store) entry(key string) (*session, bool) {
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.sessions[key]; s != nil {
		return &session{key: s.key, body: s.body, stamp: s.stamp, deleted: s.deleted, epoch: s.epoch, expires: s.expires,
			lockedAt: s.lockedAt, timeout: s.timeout, flags: s.flags, cookie: s.cookie, lock: s.lock, floor: s.floor, state: s.state,
			touched: s.touched, whose: s.whose, saved: s.saved, busy: s.busy, copies: s.copies}, true // but for place, which the journal's writer has
	}
	return &session{}, false
}

// alone gives a store without a farm that is checked and closed at the test's end.
func alone(t *testing.T) *Store {
	t.Helper()
	st := New(Options{Node: "a", Instance: 1})
	t.Cleanup(func() {
		st.Close()
		if err := checkIdle(st); err != nil {
			t.Error(err)
		}
	})
	return st
}
