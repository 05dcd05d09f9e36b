package journal

import (
	"bufio"
	"errors"
	"log/slog"
	"runtime"
	"time"
)

// writer is what the goroutine that writes works with; until it runs, what Open works with.
type writer struct {
	index
	disk     disk
	identity identity
	sizes    sizes
	named    bool // the identity file is there
	log      *slog.Logger

	current  *segment // nil: the next record begins one
	unforced []uint32 // segments with records that are not forced; the last is current
	created  bool     // one of them is new, so the directory has to be forced, too
	placed   []placed // in the segments of unforced
	out      *bufio.Writer
	scratch  []byte

	inherited []uint32 // segments from before the start that have not been forced since

	began  time.Time // the last round that had changes
	marked time.Time // the last time that something was written
	tidier tidier
	failed bool // the last round
	turn   uint // records since the beginning
}

// placed is a record that was given to the disk and is not forced yet.
type placed struct {
	entry *entry
	seq   uint64
	size  int64
	in    uint32
	kind  kind
}

const (
	buffer = 256 << 10 // what is written at once; larger bodies go straight to the file
	// turn is how many records it takes up at most before it lets others have the processor: some 0.2 ms.
	turn = 64
	// markEvery is how often an idle journal says that it is in use: see tooOld.
	markEvery = time.Hour
)

func newWriter(d disk, id identity, sz sizes, log *slog.Logger) writer {
	return writer{index: newIndex(), disk: d, identity: id, sizes: sz, log: log, out: bufio.NewWriterSize(nil, buffer)}
}

// round writes the changes and some of what is to be moved for tidiness, and forces all of it. After an error nothing
// of it counts as written.
func (w *writer) round(changes []batch, now time.Time) error {
	var given int64
	if w.failed {
		w.makeRoom(now)
	}
	w.forceInherited()
	err := w.put(changes, now, &given)
	if err == nil {
		err = w.copySome(given, now)
	}
	if err == nil {
		err = w.force()
	}
	w.failed = err != nil
	if err != nil {
		return errors.Join(err, w.giveUp())
	}
	w.apply(now)
	w.tidy(now)
	return nil
}

// forceInherited forces what was loaded: a crash of the process may have left it in the system's memory, and it is
// being relied on. What is torn is cut off before there is a newer file, in which it would be damage. What cannot be
// forced is written again.
func (w *writer) forceInherited() {
	for _, n := range w.inherited {
		s := w.segments[n]
		if s == nil {
			continue
		}
		if err := w.disk.keep(s.name(), s.size); err != nil {
			s.damaged = true
			w.log.Error("a file of the journal cannot be forced to disk; it is written again. See whether the disk is well", "error", err)
		}
	}
	w.inherited = nil
}

// letOthers gives the processor to those who wait for it, every few records: a round of very many, as when very many
// sessions expire, would keep a page waiting for the ten milliseconds of the scheduler's turn, and there are others that
// have much to do then.
func (w *writer) letOthers() {
	if w.turn++; w.turn%turn == 0 {
		runtime.Gosched()
	}
}

func (w *writer) put(changes []batch, now time.Time, given *int64) error {
	for _, some := range changes {
		for key, c := range some.changes {
			if err := w.putOne(key, c, now, given); err != nil {
				return err
			}
		}
	}
	if len(w.placed) == 0 && w.markDue(now) {
		return w.mark(now)
	}
	return nil
}

func (w *writer) putOne(key string, c change, now time.Time, given *int64) error {
	e, k := w.find(key, c.ref), valueKind
	if c.deleted {
		if e == nil || e.deleted && e.in != 0 && !e.doubted {
			return nil // there is nothing on disk, or it is deleted there
		}
		k = deletionKind
	} else if e == nil {
		e = w.entry(key)
	}
	if c.place != nil && e.ref != c.ref {
		c.place.ref.Store(uint32(e.ref))
	}
	size := c.size(key)
	*given += size
	w.letOthers()
	return w.append(e, k, w.nextSeq(now), size, c.head, c.body)
}

// markDue: what there is would be taken for a journal that nobody uses if nothing were written for long.
func (w *writer) markDue(now time.Time) bool { return w.keys > 0 && now.Sub(w.marked) >= markEvery }

func (w *writer) nextSeq(now time.Time) uint64 {
	w.seq = max(w.seq+1, uint64(now.UnixNano()))
	return w.seq
}

// append gives a record to the disk.
func (w *writer) append(e *entry, k kind, seq uint64, size int64, head, body []byte) error {
	w.placed = append(w.placed, placed{entry: e, seq: seq, size: size, kind: k}) // first, or giveUp would not know of it
	if err := w.open(); err != nil {
		return err
	}
	w.placed[len(w.placed)-1].in = w.number
	w.scratch = appendRecord(w.scratch[:0], w.current.salt, k, seq, e.key, head, body)
	w.current.written += size
	if _, err := w.out.Write(w.scratch); err != nil {
		return err
	}
	_, err := w.out.Write(body)
	return err
}

// open sees to it that there is a segment to write to, and that it is among those to be forced.
func (w *writer) open() error {
	full := min(max(w.live/16, w.sizes.least), w.sizes.most)
	if w.current != nil && w.current.written < full {
		if len(w.unforced) == 0 {
			w.unforced = append(w.unforced, w.number)
		}
		return nil
	}
	if !w.named {
		if err := w.disk.write(identityFile, w.identity.encode()); err != nil {
			return err
		}
		w.named, w.created = true, true
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	if err := w.endCurrent(); err != nil {
		return err
	}
	w.seq++
	s := &segment{id: w.seq, salt: w.identity.salt(w.seq)}
	f, err := w.disk.create(s.name())
	if err != nil {
		return err
	}
	s.file, w.current = f, s
	w.unforced = append(w.unforced, w.add(s))
	w.created = true
	w.out.Reset(f)
	head := w.identity.json()
	w.scratch = appendRecord(w.scratch[:0], 0, headKind, s.id, "", head, nil)
	s.written = int64(len(w.scratch))
	_, err = w.out.Write(w.scratch)
	return err
}

// endCurrent: no more is written to the newest segment. If some of it is not forced yet, force closes it.
func (w *writer) endCurrent() error {
	s := w.current
	w.current = nil
	if s == nil || len(w.unforced) > 0 {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// force returns when all that was appended is on disk.
func (w *writer) force() error {
	if len(w.unforced) == 0 {
		return nil
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	for _, n := range w.unforced {
		s := w.segments[n]
		if err := s.file.Sync(); err != nil {
			return err
		}
		if s == w.current {
			continue
		}
		f := s.file
		s.file = nil
		if err := f.Close(); err != nil {
			return err
		}
	}
	if w.created {
		return w.disk.sync()
	}
	return nil
}

// apply takes what was forced into the index.
func (w *writer) apply(now time.Time) {
	for _, n := range w.unforced {
		s := w.segments[n]
		w.total += s.written - s.size
		s.size = s.written
	}
	for _, p := range w.placed {
		w.letOthers()
		if p.kind != markKind && p.entry.seq == p.seq && p.entry.in != 0 {
			w.move(p.entry, p.in)
			continue
		}
		w.marked = now
		if p.kind != markKind {
			w.record(p.entry, p.kind, p.seq, p.in, p.size)
		}
	}
	w.reset()
}

func (w *writer) reset() {
	clear(w.placed) // or entries of keys that are gone would stay
	w.placed, w.unforced, w.created = w.placed[:0], w.unforced[:0], false
	if cap(w.scratch) > buffer {
		w.scratch = nil
	}
	if cap(w.placed) > 1<<16 {
		w.placed = nil
	}
}

// giveUp cuts off what was not forced. The next round begins a new segment: after an error of the disk nobody knows
// what of the last writes is there, and a second try to force them would say that all is well (fsync(2), on Linux).
func (w *writer) giveUp() (failed error) {
	for _, n := range w.unforced {
		s := w.segments[n]
		if s.file != nil {
			failed = errors.Join(failed, s.file.Close())
			s.file = nil
		}
		s.written = s.size
		if err := w.cut(n); err != nil {
			failed = errors.Join(failed, err)
			w.suspect(n)
		}
	}
	if w.current != nil && len(w.unforced) == 0 && w.current.file != nil {
		failed = errors.Join(failed, w.current.file.Close())
		w.current.file = nil
	}
	w.current = nil
	w.out.Reset(nil)
	for _, p := range w.placed {
		w.settle(p.entry)
	}
	w.leaveTidying()
	w.reset()
	return failed
}

// cut removes what stands behind the part of a segment that is forced.
func (w *writer) cut(n uint32) error {
	s := w.segments[n]
	if s.size > 0 {
		return w.disk.keep(s.name(), s.size)
	}
	if err := w.disk.remove(s.name()); err != nil {
		return err
	}
	if err := w.disk.sync(); err != nil {
		return err
	}
	delete(w.segments, n)
	return nil
}

// suspect notes that the segment may hold values nobody counts on. They must not come back when their keys are
// deleted, so deletions last as long as the segment.
func (w *writer) suspect(n uint32) {
	for _, p := range w.placed {
		if p.in == n && p.kind == valueKind {
			p.entry.stale++
			p.entry.doubted = true
			w.stands(p.entry, n)
		}
	}
}

// close notes the time, if all else could be written, and ends the newest segment.
func (w *writer) close(now time.Time) error {
	w.forceInherited() // there may have been no round since the start
	if w.keys > 0 && !w.failed && now.Sub(w.marked) >= time.Second {
		err := w.mark(now)
		if err == nil {
			err = w.force()
		}
		if err != nil {
			return errors.Join(err, w.giveUp())
		}
		w.apply(now)
	}
	if w.current == nil {
		return nil
	}
	return w.endCurrent()
}

func (w *writer) mark(now time.Time) error {
	return w.append(&entry{}, markKind, w.nextSeq(now), headerSize, nil, nil)
}
