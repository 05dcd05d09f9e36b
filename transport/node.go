package transport

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"peerstate/certs"
	"peerstate/store"
)

// State is what this node knows of another one.
type State string

// The states.
const (
	Up         State = "up"         // linked, or reached through others
	Suspect    State = "suspect"    // linked, but it left a question unanswered
	Connecting State = "connecting" // not up, for less than the grace time
	Out        State = "out"        // not up for the grace time
	Lost       State = "lost"       // out for so long that what only it held is missing
	Drained    State = "drained"    // it has stopped, and left no session behind
	Refused    State = "refused"    // one of the two does not accept the other
)

// States are all of them, for tables.
var States = []State{Up, Suspect, Connecting, Out, Lost, Drained, Refused}

// node is another node of the farm, by name. Mesh.mu guards it.
type node struct {
	name     string
	site     string
	addr     string // where it was last reached
	program  string // its version
	link     *link  // nil: not linked
	instance uint64 // the run that was linked last
	state    State
	since    time.Time  // of the state
	reason   string     // why it is not up
	suspect  time.Time  // since when it has left questions unanswered; zero: it answers
	peer     certs.Peer // by its certificate, as it was linked last; or by its own word, as it was reached through others
	timer    *time.Timer
	offset   time.Duration // its clock minus ours
	clocked  bool          // offset has been measured
	sessions int64         // that it holds, by its own word
	answered []answeredTo  // how many questions of which nodes it has lately answered, by its own word; see alarm.go
	met      bool          // what both hold has been compared since they were linked
	parted   int           // how often that became untrue
	apart    time.Time     // since when that is not known to agree; zero: it never was
	reach                  // without a link of its own: through which others
	far      *link         // and the link that leads through them
	left     uint64        // the run of it that has said good-bye
	cut      bool          // it is revoked, and was not up since
	direct   bool          // it had a link of its own once
	strange  string        // how its aliases differ from this node's, as was said last
}

// node gives the entry of a name, made if need be. m.mu is held.
func (m *Mesh) node(name string) *node {
	n := m.nodes[name]
	if n == nil {
		n = &node{name: name, state: Connecting, since: time.Now()}
		m.nodes[name] = n
		if k, ok := m.unmet[name]; ok {
			n.site, n.addr = plain(k.Site), plain(k.Addr)
			delete(m.unmet, name)
		}
	}
	return n
}

// byName gives all nodes that are known, in an order, so that what is done with one after the other does not depend
// on that of a map. m.mu is held.
func (m *Mesh) byName() []*node {
	return slices.SortedFunc(maps.Values(m.nodes), func(a, b *node) int { return cmp.Compare(a.name, b.name) })
}

// gone: nobody waits for it. What only it held is missing, or it held nothing.
func (n *node) gone() bool { return n.state == Lost || n.state == Drained }

// longGone tells whether a node has been drained or lost for longer than a question is under way: where its
// sessions went has reached everybody who may be asked.
func (m *Mesh) longGone(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	return n != nil && n.gone() && time.Since(n.since) > 2*m.config.FetchTimeout
}

// cameSince tells whether a node has come up since then.
func (m *Mesh) cameSince(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.way() != nil && n.since.After(t) {
			return true
		}
	}
	return false
}

// awaits tells whether a node may hold a session that nobody else knows of: it is not up, and neither
// given up nor out. One that is out counts no more if a backup of what it held would be reachable: when no
// more nodes are out than there are backups of each session. A node that has just started may itself be one
// that has lost them, unless it has them from its journal, and waits until the others are lost. m.mu is held.
func (m *Mesh) awaits(n *node) bool {
	if n.way() != nil || n.gone() {
		return false
	}
	if n.state != Out || m.config.Backups == 0 || time.Since(m.started) < m.config.LostAfter && !m.store.Whole() {
		return true
	}
	out := 0
	for _, o := range m.nodes {
		if o.state == Out {
			out++
		}
	}
	return out > m.config.Backups
}

// wayTo gives the way to one run of a node, or nil.
func (m *Mesh) wayTo(p store.Peer) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[p.Node]; n != nil {
		if l := n.way(); l != nil && l.instance == p.Instance {
			return l
		}
	}
	return nil
}

// part notes that a node is up no more: what it and this one do from now on has to be compared when they meet.
// m.mu is held.
func (n *node) part() {
	if n.met {
		n.met, n.apart = false, time.Now()
		n.parted++
	}
}

// run notes which run of a node is up. m.mu is held.
func (m *Mesh) run(n *node, instance uint64) {
	if n.instance == instance {
		return
	}
	if n.far != nil {
		n.far.shut()
	}
	for _, l := range m.linksTo(n) {
		if l.instance != instance {
			l.shut()
		}
	}
	n.instance, n.met, n.apart = instance, false, time.Time{}
	n.parted++
}

// linked makes a node up. m.mu is held.
func (m *Mesh) linked(n *node, l *link) {
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	m.run(n, l.instance)
	n.link = l
	n.site, n.program, n.addr, n.peer = l.site, l.program, l.conn.RemoteAddr().String(), l.peer
	if !l.suspect.Load() { // a link that takes another's place is no answer
		n.suspect, n.reason = time.Time{}, ""
		if n.state != Up {
			n.state, n.since = Up, time.Now()
		}
	}
	n.left, n.cut, n.direct, m.cast = 0, false, true, time.Time{}
	m.remap()
	m.chart(l)
	m.changed()
	m.saveNodes()
}

// unlinked begins to wait for a node to come back, unless it is reached through others: it is out after
// the grace time and lost after LostAfter more. One that has said good-bye is not waited for. m.mu is held.
func (m *Mesh) unlinked(n *node, reason string) {
	if n.link.drained.Load() {
		n.left = n.link.instance
	}
	n.link, n.suspect, n.reason = nil, time.Time{}, reason
	m.remap()
	m.changed()
	m.saveNodes()
}

// await makes a node, after d without a path to it, out or lost. m.mu is held.
func (m *Mesh) await(n *node, d time.Duration, next State) {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		m.mu.Lock()
		if n.timer != t {
			m.mu.Unlock()
			return // it came back
		}
		n.timer = nil
		n.state, n.since = next, time.Now()
		if next == Out {
			m.await(n, m.config.LostAfter, Lost)
		}
		reason := n.reason
		m.changed()
		m.saveNodes()
		m.mu.Unlock()
		switch next {
		case Out:
			text := "sessions that it may hold are waited for"
			if m.config.Backups > 0 {
				text = "its sessions are served from their backups"
			}
			m.log.Warn("a node is out: it has not been reachable for the grace time; "+text,
				"peer", n.name, "reason", reason, "grace", m.config.Grace.String())
		case Lost:
			m.log.Error("a node is lost: sessions that only it held are missing from now on",
				"peer", n.name, "reason", reason)
		}
		m.start(func() { m.promote(n.name) })
		m.reviewSoon()
	})
	n.timer = t
}

// linkedBy tells whether a node is linked by this link, or by one that has taken its place. Mesh.mu is held.
func (n *node) linkedBy(l *link) bool { return n.link != nil && n.link.standing == l.standing }

// answered says that a node has answered a question.
func (m *Mesh) answered(l *link) {
	if !l.suspect.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := l.node
	if !n.linkedBy(l) || !l.suspect.Swap(false) {
		return
	}
	n.suspect = time.Time{}
	n.state, n.since, n.reason = Up, time.Now(), ""
	m.changed()
	m.log.Info("a node answers questions again", "peer", n.name)
}

// unanswered says that a node left a question unanswered which was put to it at begun. Nobody waits
// for it until it answers one. A question for which little time was left says nothing about the node.
func (m *Mesh) unanswered(l *link, begun time.Time) {
	now := time.Now()
	if now.Sub(begun) < m.config.FetchTimeout/2 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := l.node
	if !n.linkedBy(l) || l.suspect.Swap(true) {
		return
	}
	n.suspect = now
	n.state, n.since, n.reason = Suspect, now, "it left a question unanswered"
	m.changed()
	m.log.Warn("a node left a question unanswered; nobody waits for it until it answers", "peer", n.name)
}

// silent closes the link to a node that has been suspect for the grace time. It is called when a
// question has waited that much longer for a reply than its asker.
func (m *Mesh) silent(l *link) {
	m.mu.Lock()
	n := l.node
	mute := n.linkedBy(l) && !n.suspect.IsZero() && time.Since(n.suspect) >= m.config.Grace
	m.mu.Unlock()
	if mute {
		l.closeAll(closeSuspect, "no question answered for the grace time")
	}
}

// unknowable tells whether there is a node that may hold a session and cannot be asked (see awaits), or one
// that is configured, was never reached, and is waited for only a short time yet. m.mu is held.
func (m *Mesh) unknowable() bool {
	for _, n := range m.nodes {
		if m.awaits(n) {
			return true
		}
	}
	if time.Since(m.started) >= m.config.Grace {
		return false
	}
	return slices.ContainsFunc(m.diallers, m.unheard)
}

// PeerStatus is what is known of another node.
type PeerStatus struct {
	Node     string // empty: an address that never said who it is, and of which nobody else did
	Site     string
	Addr     string
	Program  string
	State    State
	RTT      time.Duration // zero: not linked
	Hops     int           // links on the shortest way to it; 0: there is none
	Since    time.Time     // of the state
	Reason   string        // why it is not up, or has no link of its own
	Cert     certs.Peer    // its certificate, as it was up last; without Issuer and CAExpires if it has no link; zero: not known
	Document uint64        // number of the farm's document that is in force there, as far as it is up; 0: none
	Issuer   bool          // it is the farm's issuer
	Offset   time.Duration // its clock minus this node's
	Sessions int64         // that it holds
	Aliases  string        // how its aliases of application ids differ from this node's; "": they do not, as far as is known
}

// Peers lists the nodes that are known and the configured addresses that never answered, by name.
func (m *Mesh) Peers() []PeerStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []PeerStatus
	for _, n := range m.nodes {
		p := PeerStatus{Node: n.name, Site: n.site, Addr: n.addr, Program: n.program, State: n.state,
			Since: n.since, Reason: n.reason, Cert: n.peer, Offset: n.offset, Sessions: n.sessions}
		p.Aliases = m.strangeAliases(n)
		if ll := m.atlas.lists[n.name]; ll != nil {
			p.Document, p.Issuer = ll.Number, ll.Issuer
			if n.link == nil && ll.Program != "" {
				p.Program = ll.Program
			}
		}
		if n.link != nil {
			p.RTT, p.Hops = n.link.conn.ConnectionStats().SmoothedRTT, 1
		} else {
			p.Hops = n.hops
			if n.cut {
				p.State = Refused
				all = append(all, p)
				continue
			}
			for _, d := range m.diallers {
				if d.node != n.name || d.reason == "" {
					continue
				}
				if n.state != Up {
					p.Reason = d.reason // newer than why the link ended
				}
				if d.refused && n.state == Connecting {
					p.State = Refused
				}
			}
		}
		all = append(all, p)
	}
	for _, d := range m.diallers {
		if !m.unheard(d) {
			continue
		}
		p := PeerStatus{Node: d.told, Addr: d.addr, State: Connecting, Since: d.since, Reason: d.reason}
		if d.refused {
			p.State = Refused
		} else if time.Since(m.started) >= m.config.Grace {
			p.State = Out
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Addr, b.Addr))
	})
	return all
}
