package store

import "time"

// PromoteBackup makes this node the holder of a session of which it has a backup, unless anything is known
// meanwhile that is newer. Somebody has made sure that no other node holds it. Cookies jump, so that none
// is given twice, and a lock that died with the holder writes no more once somebody has been there; one
// that the backup shows stays, with its age.
func (st *Store) PromoteBackup(was Backup) bool {
	sh := st.shardOf(was.Key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b := sh.backup(was.Key, now.mono)
	if b == nil || b.info() != was || st.leaving.Load() || !st.sureAt(now) {
		return false
	}
	s := sh.sessions[was.Key]
	if s != nil && s.expired(now.mono) {
		st.expire(sh, s)
		s = sh.sessions[was.Key]
	}
	rec := b.record(now.mono)
	switch {
	case s == nil:
		s = &session{key: b.key}
		sh.put(s)
	case s.state == frozen:
		return false
	case s.outdates(&rec):
		// Also a note that it was given to another node: a crash may have left this copy on disk when that was on it.
		sh.dropBackup(b)
		return false
	case s.state == held:
		st.conflict(sh, s, b.holder.Node, b.version(), now)
	}
	sh.note(s.key, EventPromoted, b.holder.Node, now.mono)
	rec.Keepers, rec.Left = b.keepers, min(rec.Left, time.Duration(rec.Timeout)*time.Minute)
	sh.takeBackup(b)
	st.revive(sh, s, &rec, now)
	if b.own {
		// It has not changed hands. With a higher epoch, which is not on disk, the copies of others would be newer than this
		// one after the next restart, and they would take it over.
		s.epoch--
	}
	st.inherit(s, &rec, Peer{}, now.mono)
	sh.disk.promoted(b, s)
	st.remnants.suspect(s) // whoever held it may have died before it was deleted there
	if s.busy != nil {
		s.busy.to, s.busy.promises = Peer{}, nil
		if s.busy.inquiry != nil {
			st.end(sh, s, Verdict{Outcome: Arrived})
		}
		st.serveTurns(sh, s, now)
		s.wake()
		s.idle()
	}
	// Its backups are made by and by: a node's loss must not choke the others.
	st.mendSoon()
	return true
}

// revive makes this node the holder of a session whose last holder is gone, and may have given locks that the record
// does not show: the cookie counter is raised beyond all that it may have given. The shard is locked.
func (st *Store) revive(sh *shard, s *session, rec *Record, now instant) {
	s.take(rec, now.mono)
	s.raise(st.jump(s.key, now))
	s.floor, s.touched = s.cookie, false
	sh.hold(s)
}
