package transport

import "time"

// A node asks for a session when a visitor comes with its id, so nearly all that it asks for is somewhere, or was a
// while ago. One that is in the wrong hands may try ids; it cannot hit one, but it is to be noticed that it tries.

const (
	// alarmEvery is over how long questions are counted, and alarmMisses how many of them for sessions that are not
	// here are unusual in that time: more visitors with an expired cookie, fifty a second, than come to one node.
	alarmEvery  = time.Minute
	alarmMisses = 3000
	// alarmHits: of so many times the hits that it has, chance would have given it one for each. An honest node hits
	// as often as the share of the farm's sessions that are here, the others being elsewhere.
	alarmHits = 10
	// toldLeast is from how many hits on nodes tell each other of them.
	toldLeast = 30
)

// The sessions that are here may be idle ones, and those that are asked for be others, which move among the other nodes. So these
// say in their pongs whose questions they have answered with something that they know; all of them together are to be some
// tenth of all questions (alarmHits). What a node says of itself does not count.

// hitsHere is how many questions of each node were answered so here since the alarm looked last, and between that and the time
// before, so that nothing is missing which a node that looks at another moment has counted.
func (m *Mesh) hitsHere() (all []answeredTo) {
	m.quotas.mu.Lock()
	defer m.quotas.mu.Unlock()
	for name, q := range m.quotas.all {
		if n := q.before.Load() + q.hits.Load(); n >= toldLeast && len(all) < maxLearned {
			all = append(all, answeredTo{name, n})
		}
	}
	return all
}

// hitsElsewhere is how many questions of a node others say that they have answered.
func (m *Mesh) hitsElsewhere(asker string) (n float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.nodes {
		if other.name == asker || other.link == nil {
			continue
		}
		for _, to := range other.answered {
			if to.Node == asker {
				n += float64(max(to.N, 0))
			}
		}
	}
	return n
}

// watchQuestions warns of peers that ask for many sessions which nobody has. It is called once in alarmEvery.
// Nothing is refused for it.
func (m *Mesh) watchQuestions() {
	m.quotas.mu.Lock()
	all := make([]*quota, 0, len(m.quotas.all))
	for _, q := range m.quotas.all {
		all = append(all, q)
	}
	m.quotas.mu.Unlock()
	for _, q := range all {
		asked, hits := q.asked.Swap(0), q.hits.Swap(0)
		q.before.Store(hits)
		missed := asked - hits
		if missed < alarmMisses || float64(hits*alarmHits) >= float64(asked)*m.share(q.peer) ||
			(float64(hits)+m.hitsElsewhere(q.peer))*alarmHits >= float64(asked) {
			continue
		}
		m.metrics.alarms.Inc()
		if m.repeats.first("questions of " + q.peer) {
			m.log.Warn("a peer asks, for others or itself, for very many sessions that nobody has: a client sends made-up cookies to its sites "+
				"(look at their logs), or somebody uses that node to try session ids (then revoke its certificate: peerstate cert revoke)",
				"peer", q.peer, "asked", asked, "missed", missed, "within", alarmEvery.String())
		}
	}
}

// share is which part of the sessions that a peer may ask for is here: those of the farm but for its own. Where there are none
// at all it is 1.
func (m *Mesh) share(asker string) float64 {
	mine := m.sessions.Load()
	all := mine
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.name != asker && n.way() != nil {
			all += max(n.sessions, 0)
		}
	}
	if all == 0 {
		return 1
	}
	return float64(mine) / float64(all)
}
