package transport

import "time"

// retireIdle is how long nothing may move on a link that has been replaced before it is closed: longer than
// anything that is waited for on a stream.
const retireIdle = relayIdle

// latest gives the link that has taken this one's place, or itself.
func (l *link) latest() *link {
	for {
		next := l.next.Load()
		if next == nil {
			return l
		}
		l = next
	}
}

// replacedBy says that another link is used instead. m.mu is held.
func (l *link) replacedBy(next *link) {
	l.next.Store(next)
	l.yield()
}

// retire closes a link that another one replaces. What is under way on it goes on to its end; new streams are
// opened on the other link. Each side says when it has none open any more, since some that the
// other has opened may still be on their way, and it is closed when both have. A link on which nothing has
// moved for retireIdle is closed in any case.
func (l *link) retire() {
	const step = 100 * time.Millisecond
	t := time.NewTicker(step)
	defer t.Stop()
	said, quiet := false, 0
	var still time.Duration
	for moved := int64(-1); quiet < 5 && still < retireIdle; {
		select {
		case <-l.conn.Context().Done():
			return
		case <-t.C:
		}
		still += step
		if now := l.moved.Load(); now != moved {
			moved, still = now, 0
		}
		switch {
		case l.streams.Load() > 0 || l.waitsForPong():
			quiet = 0
		case !said:
			l.mu.Lock()
			l.send(kindDone, bye{})
			l.mu.Unlock()
			said = true
		case l.itsDone.Load():
			quiet++
		}
	}
	l.close(closeReplaced, "another link is used")
}

func (l *link) waitsForPong() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pongs) > 0
}
