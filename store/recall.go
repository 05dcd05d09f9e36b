package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"peerstate/store/journal"
)

// A node with a journal starts with what it had when it ended, however it ended. Where there are no other nodes, its
// sessions are served at once. In a farm they may have been served, written and deleted elsewhere meanwhile, so they
// come back as backups of the run that is over, and so do the backups that this node kept for others: the transport
// promotes them when every node that is up has said what it has, and each on the record's own list of places has, or
// is gone for good (Backup.Loaded, [Store.PlacesOf]).

// JournalOptions says where a store's journal is, and how it is kept.
type JournalOptions struct {
	Dir string
	// Farm and Node say whose it is. Without a farm there are no other nodes, and what is loaded is served at once.
	Farm, Node string
	// Every is how often changes are forced to disk. 0: always, before a write is answered.
	Every time.Duration
	Log   *slog.Logger // nil: that of the store
}

// OpenJournal loads what the directory has of this node and keeps it up to date from now on, until CloseJournal. It is
// to be called before Join, before TuneGC, and before the first request, or not at all. The errors are those of [journal.Open].
func (st *Store) OpenJournal(o JournalOptions) error {
	if o.Log == nil {
		o.Log = st.log
	}
	defer whileLoading()()
	l := &recall{store: st, alone: o.Farm == ""}
	opened := make(chan struct{})
	var once sync.Once
	defer once.Do(func() { close(opened) })
	d := &disk{store: st}
	st.room.setCosts(st.backups > 0, true)
	j, err := journal.Open(o.Dir, journal.Options{Farm: o.Farm, Node: o.Node, Every: o.Every, Log: o.Log, Run: st.setRun, Lost: func(key string) {
		<-opened
		st.rewrite(key)
	}}, l.load)
	if err != nil {
		return err
	}
	d.journal = j
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		sh.disk = d
		sh.mu.Unlock()
	}
	st.journal, st.force = j, o.Every == 0
	for _, name := range l.over {
		j.Delete(name)
	}
	st.recalled = l.count > 0
	got := j.Stats().Loaded
	st.whole = st.recalled && got.Damaged == 0 && got.Places == 0 && got.Rejected == 0 && time.Since(got.Written) <= time.Duration(st.grace)
	if l.count > 0 || len(l.over) > 0 {
		o.Log.Info("sessions were loaded from the journal", "sessions", l.sessions, "backups", l.backups, "notes", l.count-l.sessions-l.backups,
			"expired", len(l.over))
	}
	st.overfull()
	return nil
}

// CloseJournal writes what waits and gives the directory free. To be called after Close. The error says why something
// could not be written.
func (st *Store) CloseJournal() error {
	if st.journal == nil {
		return nil
	}
	return st.journal.Close()
}

// Journal gives the state of the journal; not ok: there is none.
func (st *Store) Journal() (s journal.Stats, ok bool) {
	if st.journal == nil {
		return s, false
	}
	return st.journal.Stats(), true
}

// Recalled tells whether the store began with what a journal had.
func (st *Store) Recalled() bool { return st.recalled }

// Whole tells whether that was, as far as the journal can tell, all that an earlier run of this node had, and whether that
// ended no longer than Options.Grace ago: other nodes may have had sessions since of which no backup could be made here.
func (st *Store) Whole() bool { return st.whole }

// recall takes what is loaded, one record at a time.
type recall struct {
	store             *Store
	alone             bool
	count             int
	sessions, backups int
	over              []string // whose time is over, or that others outdate
}

func (l *recall) load(name string, value []byte) error {
	key, isBackup, ok := keyOfSaved(name)
	v, err := readSaved(value)
	switch {
	case err != nil:
		return err
	case !ok || isBackup != (v.kind == savedBackup) || l.alone && (isBackup || v.kind == savedMoved):
		return errSaved
	}
	st := l.store
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := st.clock.now()
	switch v.kind {
	case savedMoved, savedDeleted:
		ok = l.note(sh, key, &v, now)
	case savedBackup:
		ok = l.copy(sh, key, &v, v.who, now)
	default:
		if v.expires != 0 {
			// Requests since then have made it last longer than was written down, by this at most (see sweepShard).
			v.expires += int64(lateBy(v.timeout))
		}
		ok = l.copy(sh, key, &v, Peer{st.node, v.who.Instance}, now)
	}
	if !ok {
		l.over = append(l.over, name)
		return nil
	}
	l.count++
	return nil
}

// note takes a note that a session was moved or deleted; false: it says nothing any more. The shard is locked.
func (l *recall) note(sh *shard, key string, v *saved, now instant) bool {
	most := max(movedNote, 4*l.store.fetchTimeout)
	if v.kind == savedDeleted {
		if most = tombstoneForever; v.timeout != 0 {
			most = time.Duration(v.timeout)*time.Minute + tombstoneExtra
		}
	}
	left := v.left(now, most)
	if left <= 0 {
		return false
	}
	s := &session{key: key, stamp: v.stamp, deleted: v.deleted, epoch: v.epoch, timeout: v.timeout, flags: v.flags, state: moved,
		expires: now.mono + int64(left)}
	if v.kind == savedDeleted {
		s.state, s.deleted = deleted, v.stamp
		if b := sh.backups[key]; b != nil && s.version().Compare(b.version()) >= 0 {
			l.drop(sh, b)
		}
	} else {
		s.extra().to = v.who
	}
	sh.put(s)
	return true
}

// copy takes a session; false: it is not to be kept. The shard is locked.
func (l *recall) copy(sh *shard, key string, v *saved, holder Peer, now instant) bool {
	st := l.store
	rec := v.record(key, now)
	left := v.left(now, time.Duration(rec.Timeout)*time.Minute+lateBy(rec.Timeout))
	if rec.Timeout != 0 && left <= 0 {
		return false
	}
	if s := sh.sessions[key]; s != nil && s.state == deleted && s.version().Compare(rec.Version()) >= 0 {
		return false
	}
	if l.alone {
		s := &session{key: key}
		sh.put(s)
		st.revive(sh, s, &rec, now)
		s.savedUntil(s.expires)
		l.sessions++
		return true
	}
	if b := sh.backups[key]; b != nil {
		// Of a session that was just coming or going there can be both. The newer one counts, and this node's own of two equal ones.
		if c := rec.Version().Compare(b.version()); c < 0 || c == 0 && b.own {
			return false
		}
		l.drop(sh, b)
	}
	b := sh.keep(&rec, holder, v.places, now.mono)
	sh.count(b, -1)
	b.loaded, b.own = true, holder.Node == st.node
	sh.count(b, 1)
	if rec.Timeout != 0 {
		b.expires = now.mono + int64(left)
		b.savedUntil(b.expires - int64(lateBy(rec.Timeout)))
	}
	if b.own {
		l.sessions++
	} else {
		l.backups++
	}
	return true
}

// drop takes back what was loaded before. The shard is locked.
func (l *recall) drop(sh *shard, b *backup) {
	if b.own {
		l.sessions--
	} else {
		l.backups--
	}
	l.count--
	l.over = append(l.over, b.name())
	sh.dropBackup(b)
}

// PlacesOf names the other nodes that may have had the session of a backup when it was written down: its holder, and
// who had a copy.
func (st *Store) PlacesOf(was Backup) (names []string) {
	sh := st.shardOf(was.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.backups[was.Key]
	if b == nil {
		return nil
	}
	for _, p := range append([]Peer{b.holder}, b.keepers...) {
		if p.Node != st.node {
			names = append(names, p.Node)
		}
	}
	return names
}

// forced waits until a write is on disk, where that is asked for. If the disk fails, it is answered all the same, and
// counted.
func (st *Store) forced(ctx context.Context, m journal.Mark) {
	if !st.force || m == 0 {
		return
	}
	if err := st.journal.Wait(ctx, m); err != nil && !errors.Is(err, context.Canceled) { // nobody is there to be answered
		if st.unforced.Add(1) == 1 {
			st.log.Error("a write is answered before it is on disk, although it was to wait (PEERSTATE_DATA_SYNC=always); peerstate_journal_unforced_total counts them", "error", err)
		}
	}
}

// Forced waits until a session that was received is on disk, where a write would wait for that; and where nobody else keeps
// a copy: the giver lets its own go when it hears of it, and a crash must not take all of a session that only moved.
func (st *Store) Forced(ctx context.Context, r Receipt) {
	ctx, cancel := context.WithTimeout(ctx, st.fetchTimeout)
	defer cancel()
	if st.force || r.mark == 0 || !r.only {
		st.forced(ctx, r.mark)
		return
	}
	if err := st.journal.Wait(ctx, r.mark); err != nil && st.lines.Allow() {
		st.log.Warn("a session has come from another node, which has no copy of it any more, and is not on disk yet", "error", err)
	}
}
