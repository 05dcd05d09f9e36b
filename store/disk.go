package store

import (
	"math"
	"time"

	"peerstate/store/journal"
)

// disk puts what a shard has into the journal, under the shard's lock, so that the newest of each key is the last. The
// bodies are not copied. A nil disk is none, and does nothing; all its methods may be called on it.
type disk struct {
	store   *Store
	journal *journal.Journal
}

// headSize is the room that most heads need: it is not from the heap.
const headSize = 256

// session writes down what is known of a key, which is not absent.
func (d *disk) session(s *session) journal.Mark { return d.sessionAfter(0, s) }

// sessionAfter is session, but what stands there now stays until the change of the mark is on disk.
func (d *disk) sessionAfter(m journal.Mark, s *session) journal.Mark {
	if d == nil {
		return 0
	}
	now := d.store.clock.now()
	v := saved{stamp: s.stamp, deleted: s.deleted, epoch: s.epoch, timeout: s.timeout, flags: s.flags,
		expires: wallOf(s.expires, now)}
	var body []byte
	switch s.state {
	case held, frozen:
		var room [8]Peer
		v.kind, v.who, v.places = savedHeld, Peer{d.store.node, d.store.instance}, room[:0]
		v.cookie, v.floor, v.touched, v.lock = s.cookie, s.floor, s.touched, s.lock
		body = s.body // not by v, or room would be on the heap
		if s.lock != 0 {
			v.lockedAt = max(now.wall+s.lockedAt-now.mono, 1)
		}
		if s.copies != nil {
			for _, a := range s.copies.at[:min(len(s.copies.at), maxKeepers)] {
				v.places = append(v.places, a.out.Peer)
			}
		}
		if s.state == frozen {
			v.places = append(v.places, s.busy.handover.To) // which may have it when this is read again
		}
	case moved:
		v.kind, v.who = savedMoved, s.busy.to
	case deleted:
		v.kind = savedDeleted
	}
	stood := s.written()
	var buf [headSize]byte
	head := v.appendHead(buf[:0])
	if m != 0 {
		d.journal.SetAfter(m, savedSession(s.key), head, body)
		return m
	}
	m = d.journal.SetAt(&s.place, savedSession(s.key), head, body)
	if stood {
		d.journal.DeleteAfter(m, savedBackupOf(s.key))
	}
	return m
}

// promoted notes that a session stands in the journal as the backup b that it was, and leaves it at that: when a node is
// lost, or comes back, there are very many at once, and their bodies are on disk. It is written when it changes, has other
// keepers, or the sweeper comes to it, and one that this node held in its last run, when it lasts longer. After a crash before
// that it is promoted again, by all that is asked then.
func (d *disk) promoted(b *backup, s *session) {
	switch {
	case d == nil:
	case b.own:
		s.saved = b.saved
	default:
		s.saved = standsAsBackup
	}
}

// standsAsBackup in place of the time in session.saved: the journal has it as the backup that it was.
const standsAsBackup = math.MinInt32

// written notes that a session, or what has become of it, is written down under its own name. It gives whether it stood as
// a backup until now.
func (s *session) written() (stood bool) {
	stood = s.saved == standsAsBackup
	s.savedUntil(s.expires)
	return stood
}

// savedUntil notes when the session ends by what the journal has; not later, by less than a second.
func (s *session) savedUntil(expires int64) { s.saved = int32(expires / int64(time.Second)) }

// forget removes what was written of a session whose time is over, or of a note. Nobody waits for that: a crash may bring
// either back, whose time is over then as well, or soon.
func (d *disk) forget(s *session) {
	if d == nil {
		return
	}
	d.journal.Delete(savedSession(s.key))
	if s.written() {
		d.journal.Delete(savedBackupOf(s.key))
	}
}

// backup writes a backup down. What it has taken the place of stays until it is on disk.
func (d *disk) backup(b *backup) journal.Mark {
	if d == nil {
		return 0
	}
	now := d.store.clock.now()
	v := saved{kind: savedBackup, stamp: b.stamp, deleted: b.deleted, epoch: b.epoch, timeout: b.timeout, flags: b.flags,
		expires: wallOf(b.expires, now), cookie: b.cookie, floor: b.floor, touched: b.touched, lock: b.lock, who: b.holder,
		places: b.keepers[:min(len(b.keepers), mostPlaces)], body: b.body}
	if b.lock != 0 {
		v.lockedAt = max(now.wall+b.lockedAt-now.mono, 1)
	}
	if b.own {
		v.kind = savedHeld
	}
	var buf [headSize]byte
	m := d.journal.SetAt(&b.stands, b.name(), v.appendHead(buf[:0]), v.body)
	if b.wasOwn {
		b.wasOwn = false
		d.journal.DeleteAfter(m, savedSession(b.key))
	}
	return m
}

// forgetBackup removes a backup.
func (d *disk) forgetBackup(b *backup) {
	if d != nil {
		d.journal.Delete(b.name())
	}
}

// name is under what it stands in the journal.
func (b *backup) name() string {
	if b.own {
		return savedSession(b.key)
	}
	return savedBackupOf(b.key)
}

// wallOf is a time of the monotonic clock by the wall clock, as far as that is right; never 0 but for 0.
func wallOf(mono int64, now instant) int64 {
	if mono == 0 {
		return 0
	}
	return max(now.wall+mono-now.mono, 1)
}

// rewrite writes down again what the disk has lost.
func (st *Store) rewrite(name string) {
	key, isBackup, ok := keyOfSaved(name)
	if !ok {
		return
	}
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if b := sh.backups[key]; b != nil && isBackup != b.own {
		sh.disk.backup(b)
	}
	if s := sh.sessions[key]; s != nil && s.state != absent && isBackup == (s.saved == standsAsBackup) {
		sh.disk.session(s)
	}
}
