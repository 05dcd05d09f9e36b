package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
)

// loading is what Open works with. All files are read twice: first to find the newest record of each key, then for
// the values, so that no more of them is in memory than what is in force.
type loading struct {
	disk       disk
	log        *slog.Logger
	farm, node string
	identity   identity
	named      bool
	files      []*found // in the order of their making
	load       func(key string, value []byte) error
	giving     sync.Mutex // of load, and what is counted of it
	rejected   []string
	unreadable atomic.Int32 // files
	w          writer
	Loaded
}

// found is a file of records and what is in it.
type found struct {
	segment
	number  uint32
	keys    []byte // one after the other
	records []brief
	reader  reader
}

// brief is a record without its contents.
type brief struct {
	seq  uint64
	size int64
	key  int
	kind kind
}

// atOnce is how many files are read at a time.
var atOnce = min(runtime.GOMAXPROCS(0), 4)

// each calls do for all files, several at a time; the buffer is what do gave back before.
func (l *loading) each(do func(f *found, buf []byte) ([]byte, error)) error {
	next := make(chan *found)
	errs := make([]error, atOnce)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			var buf []byte
			for f := range next {
				if errs[i] == nil {
					buf, errs[i] = do(f, buf)
				}
			}
		})
	}
	for _, f := range l.files {
		next <- f
	}
	close(next)
	all.Wait()
	return errors.Join(errs...)
}

// scan builds the index.
func (l *loading) scan() error {
	var mu sync.Mutex
	err := l.each(func(f *found, buf []byte) ([]byte, error) {
		data, ok, err := l.read(f.name(), buf)
		if err != nil {
			return buf, err
		}
		if !ok {
			f.damaged = true
			l.unreadable.Add(1)
		}
		if id, _, ok := decodeHead(data); ok {
			if err := id.check(l.farm, l.node); err != nil {
				return buf, fmt.Errorf("%s: %w", f.name(), err)
			}
		}
		f.salt = l.identity.salt(f.id)
		f.look(data)
		mu.Lock()
		defer mu.Unlock()
		l.take(f)
		return data, nil
	})
	if err != nil {
		return err
	}
	for _, f := range l.files {
		l.end(f)
	}
	l.Places += int(l.unreadable.Load())
	for _, e := range l.w.entries {
		l.w.settle(e)
	}
	return nil
}

// read gives a file's contents; not ok: none, since the disk cannot read it, which is no reason not to start.
func (l *loading) read(name string, buf []byte) (data []byte, ok bool, err error) {
	data, err = l.disk.read(name, buf)
	switch {
	case err == nil:
		return data, true, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, false, fmt.Errorf("%s cannot be read: %w; let the account that runs peerstate read it", name, bare(err))
	default:
		l.log.Error("a file of the journal cannot be read; what is in it is not loaded", "file", name, "error", err)
		return nil, false, nil
	}
}

// look goes through a file.
func (f *found) look(data []byte) {
	r := reader{data: data, salt: f.salt}
	if _, size, ok := decodeHead(data); ok {
		r.at = size // its checksum has no salt
	}
	for {
		h, key, _, ok := r.next()
		if !ok {
			break
		}
		f.keys = append(f.keys, key...)
		f.records = append(f.records, brief{seq: h.seq, size: h.size(), key: len(key), kind: h.kind})
	}
	r.data = nil
	f.reader, f.size = r, r.at
}

// take adds the records to the index.
func (l *loading) take(f *found) {
	f.written = f.size
	f.number = l.w.add(&f.segment)
	l.w.seq = max(l.w.seq, f.id)
	keys := f.keys
	for _, b := range f.records {
		key := keys[:b.key]
		keys = keys[b.key:]
		l.w.seq = max(l.w.seq, b.seq)
		if b.kind != valueKind && b.kind != deletionKind {
			continue
		}
		e := l.w.entries[string(key)]
		if e == nil {
			e = l.w.entry(string(key))
		}
		l.w.record(e, b.kind, b.seq, f.number, b.size)
	}
	f.keys, f.records = nil, nil
}

// end deals with what is no record in a file. At the end of the newest file that is what a crash has torn, and
// forceInherited cuts it off; anywhere else it is damage.
func (l *loading) end(f *found) {
	r := f.reader
	if f == l.files[len(l.files)-1] && r.tail > 0 {
		l.Torn += r.tail
		r.bad -= r.tail
		r.places--
		l.w.total -= r.tail
		f.size -= r.tail
		f.written = f.size
	}
	if r.bad > 0 {
		l.Damaged += r.bad
		l.Places += r.places
		f.damaged = true
	}
	l.w.inherited = append(l.w.inherited, f.number)
}

// deliver gives the values in force to load.
func (l *loading) deliver() error {
	return l.each(func(f *found, buf []byte) ([]byte, error) {
		if f.live == 0 {
			return buf, nil
		}
		data, _, err := l.read(f.name(), buf)
		if err != nil {
			return buf, err
		}
		r := reader{data: data[:min(int64(len(data)), f.size)], salt: f.salt}
		for {
			h, key, value, ok := r.next()
			if !ok {
				return data, nil
			}
			e := l.w.entries[string(key)]
			if h.kind != valueKind || e == nil || e.seq != h.seq || e.in != f.number {
				continue
			}
			if err := l.give(e.key, bytes.Clone(value)); err != nil {
				return data, err
			}
		}
	})
}

// give gives one value to load. What a newer version has written is no reason to delete it.
func (l *loading) give(key string, value []byte) error {
	l.giving.Lock()
	defer l.giving.Unlock()
	l.Records++
	if l.load == nil {
		return nil
	}
	switch err := l.load(key, value); {
	case errors.Is(err, ErrNewer):
		return fmt.Errorf("%w; use that version, or another directory", err)
	case err != nil:
		l.rejected = append(l.rejected, key)
	}
	return nil
}
