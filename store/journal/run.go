package journal

import (
	"fmt"
	"time"
)

const (
	firstPause = 100 * time.Millisecond // before a write that failed is tried again; then twice as long
	longPause  = 5 * time.Second        // but no longer than this
)

// run is the writer's goroutine, the only one that touches the disk once the journal is open.
func (j *Journal) run() {
	defer close(j.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause, end := j.due(time.Now())
		if end {
			j.end(j.w.close(time.Now()))
			return
		}
		if pause > 0 {
			timer.Reset(pause)
			select {
			case <-j.wake:
				continue
			case <-timer.C:
			}
		}
		j.write()
	}
}

// due says how long the writer has nothing to do, unless it is woken; end: for ever.
func (j *Journal) due(now time.Time) (pause time.Duration, end bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	w := &j.w
	changes := j.pending.Load()
	switch {
	case j.closing.Load() && (!changes || j.ended != nil):
		return 0, true
	case j.closing.Load():
		return 0, false
	case j.failed.err != nil:
		return j.failed.retry.Sub(now), false
	case j.waiting.urgent, w.untidy(now):
		return 0, false
	}
	pause = markEvery
	if w.keys > 0 {
		pause = w.marked.Add(markEvery).Sub(now)
	}
	if changes {
		pause = min(pause, w.began.Add(j.options.Every).Sub(now))
	}
	if w.tidier.after.After(now) {
		pause = min(pause, w.tidier.after.Sub(now))
	}
	return pause, false
}

// write makes one attempt at what there is to do.
func (j *Journal) write() {
	now := time.Now()
	f := j.depart(now)
	j.arrive(f, j.w.round(f.batches, now))
	for _, l := range j.w.takeLost() {
		switch {
		case l.deleted:
			j.deleteAgain(l.key)
		case j.options.Lost != nil:
			j.options.Lost(l.key)
		}
	}
}

// depart takes what waits if it is time for that, and else nothing, for a round that only tidies up.
func (j *Journal) depart(now time.Time) *flight {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.waiting
	early := now.Before(j.w.began.Add(j.options.Every)) && !j.closing.Load() && j.failed.err == nil
	if !f.urgent && (early || !j.pending.Load()) {
		return &flight{number: j.written}
	}
	j.w.began = now
	j.flying, j.waiting = f, newFlight(f.number+1)
	f.last = j.closing.Load()
	j.take(f)
	return f
}

// arrive tells those who wait, and puts what could not be written back among what waits.
func (j *Journal) arrive(f *flight, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flying = nil
	j.stats.Bytes, j.stats.Live, j.stats.Keys = j.w.total, j.w.live, j.w.keys
	if err == nil {
		j.written = f.number
		j.ripe()
		j.recovered()
		f.land(nil)
		j.reuse(f)
		return
	}
	err = j.fail(err)
	f.land(err)
	next := newFlight(j.waiting.number + 1)
	j.takeBack(f, next.number, func(key string, c change) bool {
		return c.deleted && j.w.entries[key] == nil // it has come and gone while the disk failed: else there would be more and more of these
	})
	j.waiting.land(err) // who came while it was tried need not wait until it is tried again
	j.waiting = next
	if f.last {
		j.ended = err
	}
}

func (f *flight) land(err error) {
	if f.done != nil {
		f.err = err
		close(f.done)
	}
}

func (j *Journal) fail(err error) error {
	now := time.Now()
	if j.failed.err == nil {
		j.failed.since = now
		j.log.Error("changes of sessions do not get to disk; it is tried again until it works", "error", err)
	}
	j.failed.pause = min(max(2*j.failed.pause, firstPause), longPause)
	j.failed.retry, j.failed.err = now.Add(j.failed.pause), fmt.Errorf("not on disk yet: %w", err)
	return j.failed.err
}

func (j *Journal) recovered() {
	if j.failed.err != nil {
		j.log.Info("changes of sessions get to disk again", "after", time.Since(j.failed.since))
		j.failed = failure{}
	}
}

func (j *Journal) end(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended == nil {
		j.ended = err
	}
	j.waiting.land(ErrClosed)
}
