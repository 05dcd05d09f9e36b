package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"peerstate/store"
)

const (
	// restTime is how long a server that cannot be connected to is not asked.
	restTime = 500 * time.Millisecond
	// probeEvery is how often the server is asked at least, and probeTime how long it may take for that.
	probeEvery = 5 * time.Second
	probeTime  = 5 * time.Second
)

// health is what is known of the server.
type health struct {
	mu      sync.Mutex
	rests   time.Time // it is not asked before
	asked   time.Time // last
	since   time.Time // when the answers ceased to come; zero: they come
	failure error     // the last one since then
}

var errRests = errors.New("it could not be connected to a moment ago")

// refuses tells that the server is not to be asked.
func (h *health) refuses() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.rests) {
		return fmt.Errorf("%w: %w", errRests, h.failure)
	}
	return nil
}

// unreachable notes that there is no connection.
func (h *health) unreachable(ctx context.Context, err error) {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, errClosed) {
		return // it was not the server's fault
	}
	h.failed(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rests = time.Now().Add(restTime)
}

// answered notes what came of a request.
func (h *health) answered(ctx context.Context, err error) {
	switch {
	case err == nil:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.asked, h.since, h.failure = time.Now(), time.Time{}, nil
	case ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded):
		h.failed(err)
	}
}

func (h *health) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked, h.failure = time.Now(), err
	if h.since.IsZero() {
		h.since = h.asked
	}
}

// Failing says since when the server has not answered any more, and why; nil: it answers, or was not asked yet.
func (c *Client) Failing() (since time.Time, err error) {
	c.health.mu.Lock()
	defer c.health.mu.Unlock()
	return c.health.since, c.health.failure
}

// Probe asks the server now whether it answers. It changes nothing there.
func (c *Client) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	_, err := c.Do(ctx, &store.Request{Op: store.Head, Key: []byte("peerstate/check"), Cookie: store.NoCookie})
	return err
}

// Watch asks the server now and then when nobody else does, until ctx ends.
func (c *Client) Watch(ctx context.Context) {
	for {
		c.health.mu.Lock()
		quiet := time.Since(c.health.asked)
		c.health.mu.Unlock()
		if quiet >= probeEvery {
			_ = c.Probe(ctx) // Failing says what came of it
			quiet = 0
		}
		t := time.NewTimer(max(probeEvery-quiet, restTime))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// Failed is the result of a request without an answer, among the results that Counts names.
const Failed = store.Unknown

// counts are the requests by what came of them.
type counts [store.Ops][Failed + 1]atomic.Uint64

func (n *counts) add(op store.Op, status store.Status, err error) {
	switch {
	case status == store.Full:
		status = store.OK // the server has done what it was asked for
	case err != nil:
		status = Failed
	}
	n[op][status].Add(1)
}

// Counts gives how many requests there were, by operation and outcome; Failed: there was no answer.
func (c *Client) Counts() (n [store.Ops][Failed + 1]uint64) {
	for op := range n {
		for status := range n[op] {
			n[op][status] = c.counts[op][status].Load()
		}
	}
	return n
}
