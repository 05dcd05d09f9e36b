package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// MostTraces bounds what Explain gives.
const MostTraces = 16

// Lookup says for which sessions Explain is to look: those of which one of these is true.
type Lookup struct {
	Key  string // the whole key, as it is kept
	ID   string // the session id, which is what stands behind the last slash of a key; letter case does not count
	Hash string // as KeyHash gives it

	sum string // Hash, decoded
}

// TraceState is what a node has of a session.
type TraceState uint8

// The states.
const (
	TraceEnded   TraceState = iota // nothing any more but the memory of it
	TraceHeld                      // the node is the holder
	TraceMoving                    // on its way to Peer
	TraceDoubt                     // it was sent to Peer, and no receipt came
	TraceMoved                     // it was given to Peer
	TraceDeleted                   // the note of a deletion
	TraceBackup                    // a copy of what Peer holds
	TraceLoaded                    // a copy from this node's journal, not compared with the others yet; Peer held it
)

// Trace is what a node knows of one session, without what would let somebody use it: the id is not in it. All times are
// durations, because clocks differ.
type Trace struct {
	State     TraceState
	Hash      string // of the key; see KeyHash
	App       string // the application's id with its hash, which is what stands before the session id
	Asked     bool   // it is the very key that was asked for
	OtherCase bool   // its session id is that in another letter case
	Peer      string // see the states

	Stamp         Stamp // of the last write, or the deletion
	Epoch         uint64
	Size          int64         // bytes of the body
	Timeout       int32         // minutes; 0: it never expires
	Left          time.Duration // until it expires, or the note is forgotten
	Uninitialized bool
	Lock          int32 // the cookie of the lock that is held; 0: none
	LockAge       time.Duration
	Client        uint16 // the TCP port of the client that has it, on this node's machine; 0: not known
	Waiting       int    // who waits for it, requests and other nodes
	Copies        []TraceCopy
	// Since is for how long the node has held it, as far as that is known; otherwise 0.
	Since  time.Duration
	Events []TraceEvent // the oldest first
}

// TraceCopy is a backup on another node, as the holder knows of it. One that is to be forgotten does not count.
type TraceCopy struct {
	Node    string
	Current bool // it has the last change
}

// TraceEvent is something that became of the session here.
type TraceEvent struct {
	What Event
	Peer string // Came: from which node; Given, Outdated: which has it; Promoted: who held it
	Ago  time.Duration
}

// Explain tells what this node knows of some sessions, and how far back its memory of ended ones reaches. It goes through
// all keys, some hundred under one lock; it changes nothing, renews nothing, and gives at most MostTraces, those that were asked for by
// their key first. more says that there would be others. It ends early when ctx does.
func (st *Store) Explain(ctx context.Context, l Lookup) (traces []Trace, memory time.Duration, more bool) {
	if sum, err := hex.DecodeString(l.Hash); err == nil && len(sum) == keyHashBytes {
		l.sum = string(sum)
	}
	memory = time.Duration(st.clock.now().mono)
	var keys []string
	if l.Key != "" {
		keys = append(keys, l.Key)
	}
	for i := range st.shards {
		if ctx.Err() != nil || len(keys) > 4*MostTraces {
			more = true
			break
		}
		var reach time.Duration
		keys, reach = st.search(&st.shards[i], &l, keys)
		memory = min(memory, reach)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		traces = append(traces, st.traces(key, &l)...)
	}
	slices.SortStableFunc(traces, func(a, b Trace) int {
		return cmp.Or(first(a.Asked, b.Asked), first(a.State != TraceEnded, b.State != TraceEnded), cmp.Compare(a.App, b.App))
	})
	if len(traces) > MostTraces {
		traces, more = traces[:MostTraces], true
	}
	return traces, memory, more
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// SplitKey parts the application's id from the session id.
func SplitKey(key string) (app, id string) {
	n := strings.LastIndexByte(key, '/')
	return key[:max(n, 0)], key[n+1:]
}

// matches tells whether a key is looked for.
func (l *Lookup) matches(key string) bool {
	if n := len(key) - len(l.ID); l.ID != "" && n > 0 && key[n-1] == '/' && strings.EqualFold(key[n:], l.ID) {
		return true
	}
	if key == l.Key {
		return true
	}
	if len(l.sum) == 0 {
		return false
	}
	sum := sha256.Sum256([]byte(key))
	return string(sum[:len(l.sum)]) == l.sum
}

// search adds the keys of a shard that are looked for, and tells how far back it remembers.
func (st *Store) search(sh *shard, l *Lookup, keys []string) ([]string, time.Duration) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	seen := 0
	look := func(key string) {
		if l.matches(key) {
			keys = append(keys, key)
		}
		if seen++; seen%sweepChunk == 0 {
			sh.mu.Unlock()
			sh.mu.Lock()
		}
	}
	for key := range sh.sessions {
		look(key)
	}
	for key := range sh.backups {
		look(key)
	}
	sh.history.each(func(h *happened) {
		if l.matches(h.key) {
			keys = append(keys, h.key)
		}
	})
	return keys, time.Duration(st.clock.now().mono - sh.history.since())
}

// traces gives what is known of a key: of the session, of the backup that is here, or what is remembered.
func (st *Store) traces(key string, l *Lookup) (all []Trace) {
	sh := st.shardOf(key)
	app, id := SplitKey(key)
	blank := Trace{Hash: KeyHash(key), App: app, Asked: key == l.Key, OtherCase: l.ID != "" && id != l.ID}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := st.clock.now().mono
	s, b := sh.sessions[key], sh.backups[key]
	var since int64
	sh.history.each(func(h *happened) {
		if h.key != key {
			return
		}
		blank.Events = append(blank.Events, TraceEvent{What: h.what, Peer: h.peer, Ago: time.Duration(now - h.at)})
		if h.what == EventCreated || h.what == EventCame || h.what == EventPromoted || h.what == EventTakenBack || h.what == EventTakenOver {
			since = max(h.at, 1)
		}
	})
	if len(blank.Events) > mostEvents {
		blank.Events = blank.Events[len(blank.Events)-mostEvents:]
	}
	if s != nil && s.state != absent && !s.expired(now) {
		all = append(all, s.trace(blank, since, now))
	}
	if b != nil && !b.expired(now) {
		all = append(all, b.trace(blank, now))
	}
	if len(all) == 0 && len(blank.Events) > 0 {
		all = append(all, blank)
	}
	return all
}

// mostEvents bounds how many events of a key are told.
const mostEvents = 16

// trace fills in what is known of a session. The shard is locked.
func (s *session) trace(t Trace, since, now int64) Trace {
	t.fill(s, now)
	switch s.state {
	case moved:
		t.State, t.Peer = TraceMoved, s.busy.to.Node
		return t
	case deleted:
		t.State = TraceDeleted
		return t
	case frozen:
		t.State, t.Peer = TraceMoving, s.busy.handover.To.Node
		if s.busy.handover.doubtful {
			t.State = TraceDoubt
		}
	default:
		t.State = TraceHeld
	}
	if s.busy != nil {
		t.Waiting = len(s.busy.turns)
	}
	if s.lock != 0 {
		t.Client = s.whose
	}
	if s.copies != nil {
		since = cmp.Or(since, s.copies.came)
		for i := range s.copies.at {
			if a := &s.copies.at[i]; a.wanted && !a.out.gone.Load() {
				t.Copies = append(t.Copies, TraceCopy{Node: a.out.Node, Current: a.has(s.stamp)})
			}
		}
	}
	if since != 0 {
		t.Since = max(time.Duration(now-since), 1)
	}
	return t
}

// trace fills in what is known of a backup. The shard is locked.
func (b *backup) trace(t Trace, now int64) Trace {
	t.fill(&b.session, now)
	t.State, t.Peer = TraceBackup, b.holder.Node
	if b.loaded {
		t.State = TraceLoaded
	}
	for _, p := range b.keepers {
		t.Copies = append(t.Copies, TraceCopy{Node: p.Node})
	}
	return t
}

// fill fills in what a session and a backup have both.
func (t *Trace) fill(s *session, now int64) {
	t.Stamp, t.Epoch, t.Size, t.Timeout = s.stamp, s.epoch, int64(len(s.body)), s.timeout
	t.Uninitialized = s.state != deleted && s.flags&FlagUninitialized != 0
	t.Lock, t.LockAge = s.lock, s.lockAge(now)
	if s.expires != 0 {
		t.Left = time.Duration(max(s.expires-now, 0))
	}
}
