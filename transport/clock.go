package transport

import (
	"slices"
	"time"
)

// skewLimit is the difference between two clocks that is worth a warning.
const skewLimit = time.Minute

// clockOf takes the other side's clock from a pong, half the way back it was read, and what else it says.
func (m *Mesh) clockOf(l *link, p ping, sent, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.node.offset = time.Duration(p.Clock - now.Add(-now.Sub(sent)/2).UnixNano())
	l.node.clocked = true
	l.node.sessions, l.node.answered = p.Sessions, p.Answered
}

// watchClock compares this node's clock with the others'. If it differs from more than half of all
// nodes it is the wrong one, and writes are stamped with the others' time until it is set right. Of
// two nodes nobody can say which is right; stamps never go back for one key all the same.
func (m *Mesh) watchClock() {
	m.mu.Lock()
	all, off := 1, []time.Duration{}
	for _, n := range m.nodes {
		if n.link == nil || !n.clocked {
			continue
		}
		all++
		if n.offset.Abs() > skewLimit {
			off = append(off, n.offset)
		}
	}
	skewed := len(off)*2 > all
	changed := skewed != m.skewed
	m.skewed = skewed
	m.mu.Unlock()
	if !skewed {
		if changed {
			m.store.SetClockOffset(0)
			m.log.Info("this machine's clock agrees with the other nodes' again")
		}
		return
	}
	slices.Sort(off)
	median := off[len(off)/2]
	m.store.SetClockOffset(median)
	if changed {
		m.log.Error("this machine's clock is wrong: it differs from most other nodes'; writes are stamped with their time; set the clock (time service, NTP)",
			"behind", median.Round(time.Second).String())
	}
}

// Skewed tells whether this node's clock differs from most others' by more than a minute.
func (m *Mesh) Skewed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.skewed
}
