package journal

import (
	"errors"
	"io/fs"
	"time"
)

// tidier moves what is still in force out of the segments that have the least of it, a part in each round so that no
// round takes long, and removes them.
type tidier struct {
	now    uint32 // number of the segment that is being moved; 0: none
	reader reader
	done   []uint32  // to be removed when what was moved is forced
	after  time.Time // after an error it does not try before
	buf    []byte    // kept for the next one, unless it is larger than most are: they come several times a second
	lost   []lost
}

// lost is a record that the disk does not have any more.
type lost struct {
	key     string
	deleted bool // it was a deletion
}

const (
	leastLook  = 1 << 20          // bytes that a round looks at
	idleLook   = 8 << 20          // and one without changes
	perValue   = 128              // bytes that can be looked at while a value is forgotten
	tidyPause  = 30 * time.Second // after an error
	worthwhile = 0.8              // a segment with more than this part in force is left alone
)

// victim is the segment to be tidied up next; 0: none.
func (w *writer) victim() uint32 {
	var best uint32
	least := worthwhile
	total := w.total
	for n, s := range w.segments {
		if s.tidied {
			total -= s.size
		}
		if s.file != nil || s.tidied { // it is the newest, or this round has written to it
			continue
		}
		if s.live == 0 || s.damaged {
			return n
		}
		if part := float64(s.live) / float64(s.size); part < least {
			best, least = n, part
		}
	}
	if total <= 2*w.live+w.sizes.slack {
		return 0
	}
	return best
}

// untidy says whether there is something to be tidied up now.
func (w *writer) untidy(now time.Time) bool {
	return !now.Before(w.tidier.after) && (w.tidier.now != 0 || w.victim() != 0)
}

// copySome looks at more than there were bytes of changes: else garbage would grow faster than it goes.
func (w *writer) copySome(given int64, now time.Time) error {
	quota := max(leastLook, 4*given)
	if given == 0 {
		quota = idleLook
	}
	t := &w.tidier
	for quota > 0 && w.untidy(now) {
		if t.now == 0 {
			n := w.victim()
			if w.segments[n].live == 0 {
				quota -= int64(len(w.segments[n].values)) * perValue
				w.toRemove(n)
				continue
			}
			if !w.beginTidying(n, now) {
				return nil
			}
		}
		at := t.reader.at
		if err := w.copyNext(); err != nil {
			return err
		}
		quota -= t.reader.at - at
	}
	return nil
}

// copyNext moves the next record if it is in force.
func (w *writer) copyNext() error {
	t := &w.tidier
	w.letOthers()
	h, key, value, ok := t.reader.next()
	if !ok {
		t.done = append(t.done, t.now)
		t.now, t.reader.data = 0, nil
		return nil
	}
	e := w.entries[string(key)]
	if e == nil || e.in != t.now || e.seq != h.seq {
		return nil
	}
	return w.append(e, h.kind, h.seq, h.size(), value, nil)
}

// toRemove is for a segment with nothing in force: it need not be read.
func (w *writer) toRemove(n uint32) {
	w.segments[n].tidied = true
	w.tidier.done = append(w.tidier.done, n)
}

// makeRoom removes segments with nothing in force, for which nothing has to be written: the disk may be full.
func (w *writer) makeRoom(now time.Time) {
	if now.Before(w.tidier.after) {
		return
	}
	for n, s := range w.segments {
		if s.live == 0 && s.file == nil && !s.tidied && !s.damaged {
			w.toRemove(n)
		}
	}
	w.tidy(now)
}

func (w *writer) beginTidying(n uint32, now time.Time) bool {
	t, s := &w.tidier, w.segments[n]
	data, err := w.disk.read(s.name(), t.buf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.postpone("a file of the journal cannot be read to be tidied up", err, now)
		return false
	}
	s.tidied = true
	t.now, t.buf = n, data
	t.reader = reader{data: data[:min(int64(len(data)), s.size)], salt: s.salt}
	return true
}

func (w *writer) postpone(what string, err error, now time.Time) {
	w.log.Warn(what+"; it is tried again, and until then it takes space", "error", err)
	w.leaveTidying()
	w.tidier.after = now.Add(tidyPause)
}

// leaveTidying begins from the start the next time. What is moved already is garbage where it was.
func (w *writer) leaveTidying() {
	t := &w.tidier
	if t.now != 0 {
		t.done = append(t.done, t.now)
	}
	for _, n := range t.done {
		w.segments[n].tidied = false
	}
	*t = tidier{after: t.after, buf: t.buf, lost: t.lost}
}

// tidy removes the segments of which all that counts has been moved and forced.
func (w *writer) tidy(now time.Time) {
	t := &w.tidier
	if len(t.done) == 0 {
		return
	}
	var err error
	for _, n := range t.done {
		err = errors.Join(err, w.discard(n, now))
	}
	if err == nil {
		err = w.disk.sync()
	}
	if err != nil {
		w.postpone("a file of the journal that is not needed any more cannot be removed", err, now)
		return
	}
	for _, n := range t.done {
		w.drop(n)
	}
	t.done = nil
	if int64(cap(t.buf)) > 2*w.sizes.most {
		t.buf = nil
	}
}

func (w *writer) discard(n uint32, now time.Time) error {
	s := w.segments[n]
	if s.live > 0 {
		w.mourn(n)
	}
	if s.damaged {
		if err := w.disk.aside(asideName(now), []string{s.name()}); err != nil {
			return err
		}
		w.log.Warn("a damaged file of the journal was set aside; what is whole in it was saved", "in", asideName(now))
		return nil
	}
	if err := w.disk.remove(s.name()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// drop forgets a segment that is not on disk any more.
func (w *writer) drop(n uint32) {
	s := w.segments[n]
	for _, r := range s.values {
		w.letOthers()
		w.unstale(w.by(r))
	}
	w.total -= s.size
	delete(w.segments, n)
}

// mourn: some records of the segment were there once and are not any more.
func (w *writer) mourn(number uint32) {
	values, deletions := 0, 0
	for key, e := range w.entries {
		if e.in == number {
			if e.deleted {
				deletions++
			} else {
				values++
			}
			w.tidier.lost = append(w.tidier.lost, lost{key, e.deleted})
			w.leave(e)
		}
	}
	w.segments[number].damaged = true
	w.log.Error("the disk has lost sessions that were written to it; those in memory are written again. See whether it is well",
		"sessions", values, "deletions", deletions)
}

// takeLost gives what the disk has lost since the last call.
func (w *writer) takeLost() []lost {
	lost := w.tidier.lost
	w.tidier.lost = nil
	return lost
}
