package journal

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// What a directory is refused for; the errors that wrap them say what to do.
var (
	ErrInUse   = errors.New("another process uses it")
	ErrForeign = errors.New("it is the journal of another node")
	ErrNewer   = errors.New("it was written by a newer version of peerstate")
)

// What [Journal.Wait] says of a change that came after [Journal.Close], and of one that cannot be written.
var (
	ErrClosed   = errors.New("the journal is closed")
	ErrTooLarge = errors.New("too large for the journal")
)

// Options says whose journal it is, and how it is kept.
type Options struct {
	Farm, Node string
	// Every is how often changes are forced to disk: what a power cut may take. 0: as soon as they come, those
	// together that come while the disk is busy, and whoever has to be sure waits ([Journal.Wait]).
	Every time.Duration
	// Log is told what is dropped, set aside, and fails; nil: nobody is. No key or value is ever logged.
	Log *slog.Logger
	// Run is told the number of this run, one more than that of the last that opened the directory, before the first value is loaded; when
	// Open returns, it is on disk. Where there was no last run, or nobody knows, it is random. nil: nobody is told.
	Run func(n uint64)
	// Lost is called for a key whose value the disk has lost since it was written. Whoever still has the value
	// should [Journal.Set] it again. It is called without locks, by the goroutine that writes, possibly before Open has
	// returned; nil: nobody is told.
	Lost func(key string)

	sizes sizes
}

// Journal keeps the newest value of each key on disk. Its methods are safe for concurrent use, and none but Wait and
// Close ever waits for the disk.
type Journal struct {
	options Options
	lock    *os.File
	log     *slog.Logger
	wake    chan struct{} // with room for one: there may be something to do
	done    chan struct{} // closed when the writer has ended

	gathering              // the changes that no flight has taken yet
	laters    atomic.Int64 // how many later has

	mu      sync.Mutex
	waiting *flight // what is written next
	flying  *flight // what is being written
	written uint64  // number of the last flight on disk; all before it are, too
	later   later   // changes that wait for others to be on disk
	closing atomic.Bool
	ended   error // closing: what the last attempt failed of
	failed  failure
	stats   Stats // but for what is counted at the moment of asking

	w writer // belongs to the writer's goroutine
}

// Mark names a change, for [Journal.Wait].
type Mark uint64

// failure says since when nothing gets to disk, and why.
type failure struct {
	since time.Time
	err   error
	retry time.Time
	pause time.Duration
}

// Stats is the state of a journal.
type Stats struct {
	Bytes    int64 // on disk, without what was set aside
	Live     int64 // of Bytes: the newest values
	Unsynced int64 // changes that a power cut would take now
	Keys     int   // that have a value
	// FailedSince is when changes stopped getting to disk, and Failure why; it is tried again all the time.
	FailedSince time.Time // zero: all is well
	Failure     error
	Loaded      Loaded
}

// Loaded is what was found when the journal was opened.
type Loaded struct {
	Records  int      // that are in force
	Rejected int      // of those: the caller could not use
	Torn     int64    // bytes at the ends of files that were being written in a crash: nothing that was promised
	Damaged  int64    // bytes that are no record, where there must have been some: lost
	Places   int      // where those were
	SetAside []string // directories with what could not be used, for whoever wants to look
	// Written is when the last of what was loaded was written: what came later, if anything, is lost. Close notes the time
	// where there are values; a process that is killed may have had nothing to write for up to an hour.
	Written time.Time // zero: nothing was loaded
}

// never is the mark of a change that cannot be written.
const never = Mark(math.MaxUint64)

// Set puts a value in force: head, of which it makes a copy, followed by body, which may not be changed any more. The key is kept. Of several before one
// is written, the last is. What is too large (a key of more than 64 KiB, a value of nearly 2 GiB) is not kept, nor is
// what was there before. After Close it does nothing.
func (j *Journal) Set(key string, head, body []byte) Mark {
	return j.set(key, head, change{body: body})
}

// Place remembers where the journal has what it knows of a key, for a key that changes often: it need not be searched then. The zero value
// knows nothing yet. One that was used with another key is of no use, and does no harm.
type Place struct{ ref atomic.Uint32 }

// SetAt is Set with the key's place.
func (j *Journal) SetAt(p *Place, key string, head, body []byte) Mark {
	return j.set(key, head, change{body: body, place: p, ref: ref(p.ref.Load())})
}

func (j *Journal) set(key string, head []byte, c change) Mark {
	if len(key) > maxKey || len(head)+len(c.body) > maxValue {
		j.Delete(key)
		return never
	}
	return j.change(key, head, c)
}

// Delete takes the key's value away. After Close it does nothing.
func (j *Journal) Delete(key string) Mark { return j.change(key, nil, change{deleted: true}) }

func (j *Journal) change(key string, head []byte, c change) Mark {
	if j.laters.Load() > 0 {
		j.mu.Lock()
		delete(j.later, key)
		j.mu.Unlock()
	}
	number, first := j.gather(key, head, c, j.closing.Load())
	if first {
		j.nudge()
	}
	return Mark(number)
}

func (j *Journal) nudge() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Wait returns when the change is forced to disk, which it hastens, or with the error at once if it cannot be now. It
// stays to be written all the same, and is when the disk is well again. All who wait at a time share one write.
func (j *Journal) Wait(ctx context.Context, m Mark) error {
	j.mu.Lock()
	f := j.waiting
	switch {
	case m == never:
		j.mu.Unlock()
		return ErrTooLarge
	case uint64(m) <= j.written:
		j.mu.Unlock()
		return nil
	case j.failed.err != nil:
		defer j.mu.Unlock()
		return j.failed.err
	case j.flying != nil && uint64(m) <= j.flying.number:
		f = j.flying
	case j.closing.Load():
		j.mu.Unlock()
		return ErrClosed
	default:
		f.urgent = true
	}
	j.mu.Unlock()
	j.nudge()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats says how it is.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Unsynced = j.gathered()
	if j.flying != nil {
		s.Unsynced += j.flying.bytes
	}
	s.FailedSince, s.Failure = j.failed.since, j.failed.err
	return s
}

// Close writes what waits, once, and gives the directory free. It returns why something could not be written.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closing.Store(true)
	j.mu.Unlock()
	j.nudge()
	<-j.done
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lock == nil {
		return j.ended
	}
	err := j.lock.Close()
	j.lock = nil
	return errors.Join(j.ended, err)
}
