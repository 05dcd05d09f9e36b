package transport

import (
	"sync"
	"time"
)

const (
	// repeatAfter is how long an event that goes on and on is not logged again.
	repeatAfter = 10 * time.Minute
	// repeatMost bounds how many events are told apart: strangers at many addresses must not fill the
	// memory, nor the log.
	repeatMost = 1000
)

// repeats keeps what happens again and again, such as a refused node that tries twice a minute, from
// filling the log. Safe for concurrent use.
type repeats struct {
	mu   sync.Mutex
	seen map[string]time.Time // when it was logged last
}

// first tells whether an event is to be logged: it was not for a while.
func (r *repeats) first(event string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if at, ok := r.seen[event]; ok && now.Sub(at) < repeatAfter {
		return false
	}
	if len(r.seen) >= repeatMost {
		for e, at := range r.seen {
			if now.Sub(at) >= repeatAfter {
				delete(r.seen, e)
			}
		}
		if len(r.seen) >= repeatMost {
			return false
		}
	}
	if r.seen == nil {
		r.seen = map[string]time.Time{}
	}
	r.seen[event] = now
	return true
}
