package store

import (
	"cmp"
	"slices"
	"time"

	"peerstate/store/journal"
)

// backup is a copy of a session that another node holds. It is served by nobody: this node becomes the
// holder first (see [Store.PromoteBackup]).
type backup struct {
	session // in no state
	*places
	loaded bool // from the journal: the holder does not know of this copy
	own    bool // loaded, and it is an earlier run of this node that held it
	wasOwn bool // it was until now, and the journal has that yet
	stands journal.Place
}

// places is where a session and its backups are. Many have the same: it is never changed, only replaced.
type places struct {
	holder  Peer
	keepers []Peer // who else has a copy, by the holder's word
}

// samePlaces is how many places a shard knows, so that what is the same is in memory once: with few nodes, all there are.
const samePlaces = 16

// placesOf gives the places that are these. The shard is locked.
func (sh *shard) placesOf(holder Peer, keepers []Peer) *places {
	for _, p := range sh.places {
		if p.holder == holder && slices.Equal(p.keepers, keepers) {
			return p
		}
	}
	p := &places{holder, slices.Clip(keepers)}
	if len(sh.places) == samePlaces {
		clear(sh.places)
		sh.places = sh.places[:0]
	}
	sh.places = append(sh.places, p)
	return p
}

// backupExtra is how much longer than the session a backup lives at least: renewals come in batches.
const backupExtra = 30 * time.Second

// lateBy is how much longer a session may last than a backup or the journal says, which are told in batches.
func lateBy(minutes int32) time.Duration {
	return max(time.Duration(minutes)*time.Minute/10, backupExtra)
}

// KeepKind is a keeper's answer to a parcel.
type KeepKind uint8

// The answers.
const (
	KeepDone    KeepKind = iota // it is so
	KeepLacking                 // the body that should be here is not
	KeepRefused                 // this node takes none
	KeepNewer                   // there is a newer record of the session here
	KeepBusy                    // the session is just leaving this node: it is to be sent again
)

// Keep does with a parcel of a session's holder what its kind says. Records have been checked. Of two
// records of one key the newer one stays, whoever sent it.
func (st *Store) Keep(holder Peer, kind ParcelKind, rec Record) KeepKind {
	k, full := st.keepOnce(holder, kind, rec)
	if full && st.clear() {
		k, full = st.keepOnce(holder, kind, rec)
	}
	if full {
		st.Refuse(RefusedBackup, int64(len(rec.Body)))
	}
	return k
}

// keepOnce is Keep. With full, there was no room for it; it may be tried again.
func (st *Store) keepOnce(holder Peer, kind ParcelKind, rec Record) (k KeepKind, full bool) {
	sh := st.shardOf(rec.Key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch kind {
	case ParcelBury:
		return st.keepBurial(sh, holder, &rec, now), false
	case ParcelForget:
		// Whoever has a later record of the session is its holder by now, whoever it was for this node.
		if b := sh.backups[rec.Key]; b != nil {
			if c := cmp.Or(cmp.Compare(b.stamp, rec.Stamp), cmp.Compare(b.epoch, rec.Epoch)); c < 0 || c == 0 && b.holder.Node == holder.Node {
				sh.dropBackup(b)
			}
		}
		return KeepDone, false
	}
	if st.leaving.Load() || st.backups == 0 {
		return KeepRefused, false
	}
	s := sh.sessions[rec.Key]
	if s != nil && s.expired(now.mono) {
		st.expire(sh, s)
		s = sh.sessions[rec.Key]
	}
	if s != nil {
		switch {
		case s.state == held && s.version().Compare(rec.Version()) < 0:
			st.conflict(sh, s, holder.Node, rec.Version(), now)
		case s.outdates(&rec), s.state == frozen && s.version().Compare(rec.Version()) >= 0:
			return KeepNewer, false // also when it has gone on: there may have been no memory for a copy of what went
		}
	}
	b := sh.backups[rec.Key]
	switch {
	case b != nil && b.version().Compare(rec.Version()) > 0:
		return KeepNewer, false // also a renewal that comes late: for its sender this copy would never be promoted
	case b != nil && b.stamp == rec.Stamp && kind == ParcelRenew:
		rec.Body = b.body
	case kind == ParcelRenew:
		return KeepLacking, false
	}
	more := st.room.backupOf(rec.Key, rec.Body)
	if b != nil {
		more -= st.room.backupOf(b.key, b.body)
	}
	if !st.room.fitsBackup(more, rec.Counted) {
		return KeepRefused, true
	}
	sh.disk.backup(sh.keep(&rec, holder, rec.Keepers, now.mono))
	return KeepDone, false
}

// keepBurial remembers that a session was deleted. The shard is locked.
func (st *Store) keepBurial(sh *shard, holder Peer, rec *Record, now instant) KeepKind {
	v := Version{Stamp: rec.Stamp, Tombstone: true}
	if b := sh.backups[rec.Key]; b != nil {
		if b.version().Compare(v) > 0 {
			return KeepNewer
		}
		sh.dropBackup(b)
	}
	s := sh.sessions[rec.Key]
	if (s == nil || s.state == absent || s.state == moved) && !st.room.mayClaim(holder.Node, rec.Key) {
		return KeepRefused
	}
	if s == nil {
		s = &session{key: rec.Key}
		sh.put(s)
	}
	switch {
	case s.state == frozen:
		return KeepBusy // it will be known in a moment who holds it
	case s.state == held && s.version().Compare(v) >= 0:
		return KeepNewer
	case s.state == held:
		st.conflict(sh, s, holder.Node, v, now)
	case s.state == deleted && s.stamp >= rec.Stamp:
	default:
		s.timeout = rec.Timeout
		st.bury(sh, s, rec.Stamp, now.mono)
		sh.owe(s, holder.Node)
	}
	return KeepDone
}

// keep stores a backup, in place of another. The shard is locked.
func (sh *shard) keep(r *Record, holder Peer, keepers []Peer, now int64) *backup {
	b := sh.backups[r.Key]
	if b != nil {
		sh.count(b, -1)
	} else {
		b = &backup{}
		if sh.backups == nil {
			sh.backups = map[string]*backup{}
		}
		sh.backups[r.Key] = b
		sh.mostKept = max(sh.mostKept, len(sh.backups))
	}
	b.session = session{key: r.Key, body: r.Body, stamp: r.Stamp, deleted: r.Deleted, epoch: r.Epoch, timeout: r.Timeout,
		flags: r.Flags, cookie: r.Cookie, lock: r.Lock, lockedAt: now - int64(r.LockAge), floor: r.Floor, touched: r.Touched}
	if r.Timeout != 0 {
		b.expires = now + int64(r.Left) + int64(lateBy(r.Timeout))
	}
	b.places, b.loaded, b.own, b.wasOwn = sh.placesOf(holder, keepers), false, false, b.own
	sh.count(b, 1)
	return b
}

// count counts a backup in (1) or out (-1).
func (sh *shard) count(b *backup, sign int) {
	sh.keptBytes += int64(sign * (len(b.key) + len(b.body)))
	cost := int64(sign) * sh.room.backupOf(b.key, b.body)
	sh.room.used.Add(cost)
	sh.room.kept.Add(cost)
	if b.own {
		sh.recalled += sign
	}
}

func (sh *shard) dropBackup(b *backup) {
	sh.takeBackup(b)
	sh.disk.forgetBackup(b)
}

// takeBackup is dropBackup for one that becomes the session, which has to be written down for it.
func (sh *shard) takeBackup(b *backup) {
	delete(sh.backups, b.key)
	sh.count(b, -1)
}

// backup gives the backup of a key that is not expired, or nil. The shard is locked.
func (sh *shard) backup(key string, now int64) *backup {
	b := sh.backups[key]
	if b != nil && b.expired(now) {
		sh.dropBackup(b)
		return nil
	}
	return b
}

// retain keeps a copy of a session that has just been given to another node, which knows of it, and gives the mark of
// that (0: it keeps none). The shard is locked, and the session is here still.
func (st *Store) retain(sh *shard, s *session, h *Handover, now instant) journal.Mark {
	if !h.retains || st.leaving.Load() {
		return 0
	}
	r := s.record(now.mono)
	r.Epoch++
	if b := sh.backup(s.key, now.mono); b != nil && b.version().Compare(r.Version()) > 0 {
		return 0 // the new holder has changed it already
	}
	var others []Peer
	if s.copies != nil {
		for _, a := range s.copies.at {
			others = append(others, a.out.Peer)
		}
	}
	s.written() // as a backup again, in the place of what there was
	return sh.disk.backup(sh.keep(&r, h.To, others, now.mono))
}

// Backup is what there is to know of a backup.
type Backup struct {
	Key     string
	Version Version
	Holder  Peer
	// Loaded: it comes from this node's journal, and nobody knows of it; see PlacesOf.
	Loaded bool
}

func (b *backup) info() Backup {
	return Backup{Key: b.key, Version: b.version(), Holder: b.holder, Loaded: b.loaded}
}

// BackupOf gives this node's backup of a session that it does not hold.
func (st *Store) BackupOf(key string) (Backup, bool) {
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.backup(key, st.clock.now().mono)
	if b == nil {
		return Backup{}, false
	}
	return b.info(), true
}

// EachBackup calls f with all backups that are here, some hundred at a time, until it gives false.
func (st *Store) EachBackup(f func([]Backup) bool) {
	for i := range st.shards {
		sh := &st.shards[i]
		var all []Backup
		now := st.clock.now().mono
		sh.mu.Lock()
		for _, b := range sh.backups {
			if !b.expired(now) {
				all = append(all, b.info())
			}
		}
		sh.mu.Unlock()
		if len(all) > 0 && !f(all) {
			return
		}
	}
}

// DropBackup lets a backup go that is no longer the session's, unless it has changed meanwhile.
func (st *Store) DropBackup(was Backup) {
	sh := st.shardOf(was.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if b := sh.backups[was.Key]; b != nil && b.info() == was {
		sh.dropBackup(b)
	}
}

// RelabelBackup notes that another node holds the session of a backup, unless it has changed meanwhile. One that was
// loaded from the journal is dropped: the holder does not know of it, and would not say when the session ends.
func (st *Store) RelabelBackup(was Backup, holder Peer) {
	sh := st.shardOf(was.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if b := sh.backups[was.Key]; b != nil && b.info() == was {
		if b.loaded {
			sh.dropBackup(b)
			return
		}
		b.places = sh.placesOf(holder, b.keepers)
		sh.disk.backup(b)
	}
}
