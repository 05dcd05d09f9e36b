package transport

import (
	"slices"
	"time"
)

// join tells the store when the other nodes that are up know of this run: when each that was known is linked,
// has told whom it knows, or is out. Until then a session that is created here could be called missing
// by a node that does not ask this one.
func (m *Mesh) join() {
	for {
		m.mu.Lock()
		change := m.change
		joined := m.hasJoined()
		m.mu.Unlock()
		if joined {
			m.store.Joined()
			m.reviewSoon()
			return
		}
		t := time.NewTimer(max(time.Until(m.started.Add(m.config.Grace)), 100*time.Millisecond))
		select {
		case <-change:
		case <-t.C:
		case <-m.ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}

// hasJoined: nobody is waited for. m.mu is held.
func (m *Mesh) hasJoined() bool {
	for _, n := range m.nodes {
		if n.link != nil && !n.link.listed.Load() || n.way() == nil && n.state == Connecting {
			return false
		}
	}
	if time.Since(m.started) >= m.config.Grace {
		return true
	}
	return !slices.ContainsFunc(m.diallers, m.unheard)
}
