package relay

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// maxQueue is how many bytes may wait for a screen. What comes when it is full is counted instead of shown.
const maxQueue = 4 << 20

// Screen shows a conversation to people. A nil Screen shows nothing. Its methods are safe for concurrent use.
type Screen struct {
	w      io.Writer
	colour bool
	raw    bool // bodies are shown, too
	now    func() time.Time

	mu     sync.Mutex // guards what follows
	ready  sync.Cond  // there is something to write, or the end
	queue  [][]byte
	queued int // bytes
	missed int // blocks that were not shown
	closed bool
	err    error
	done   chan struct{}
}

// NewScreen makes a screen that writes to w, with escape sequences for colours if colour is set, and with bodies
// as hex dumps if raw is. Close ends it.
func NewScreen(w io.Writer, colour, raw bool) *Screen {
	s := &Screen{w: w, colour: colour, raw: raw, now: time.Now, done: make(chan struct{})}
	s.ready.L = &s.mu
	go s.run()
	return s
}

// Close writes what waits, and gives the first error of writing.
func (s *Screen) Close() error {
	s.mu.Lock()
	s.closed = true
	s.ready.Signal()
	s.mu.Unlock()
	<-s.done
	return s.err
}

func (s *Screen) run() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && s.missed == 0 && !s.closed {
			s.ready.Wait()
		}
		queue, missed, closed := s.queue, s.missed, s.closed
		s.queue, s.queued, s.missed = nil, 0, 0
		s.mu.Unlock()
		for _, block := range queue {
			s.write(block)
		}
		if missed > 0 {
			s.write(fmt.Appendf(nil, "... %d messages are not shown: the terminal was not fast enough\n", missed))
		}
		if closed && len(queue) == 0 {
			return
		}
	}
}

func (s *Screen) write(block []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(block)
	}
}

// put queues a block, which is written as one.
func (s *Screen) put(block []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queued+len(block) > maxQueue || s.closed {
		s.missed++
		return
	}
	s.queue = append(s.queue, block)
	s.queued += len(block)
	s.ready.Signal()
}

func (s *Screen) wantsBodies() bool { return s != nil && s.raw }
