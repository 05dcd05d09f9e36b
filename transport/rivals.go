package transport

import (
	"cmp"
	"context"
	"time"
)

// Two islands of a farm may each have a node of one name, and be linked later through other nodes. Then no
// hello is between the two; but a node with a link to one of them hears of the other by its list of links. It
// asks both whether they live. The run that began later is the one to go: every node that is linked with it
// closes that link, and so all decide alike. For that the list of the earlier run has to come to them, while
// everybody passes on only the newest list of a name: the earlier run is told of the other's, and renews its own.

// rival is another run of a node with which this one is linked.
type rival struct {
	run  uint64
	over *link // it was heard of over this one, and is asked over it
}

const (
	// rivalPause is between two tries. The nodes between may have to hear of a run first, or to close their own
	// link to the other.
	rivalPause = time.Second
	// rivalTries is how often a run is asked before its list is taken for that of one which is over.
	rivalTries = 5
)

// contested notes that a list of another run of a linked node has come over l, and has both asked. m.mu is
// held.
func (m *Mesh) contested(l *link, ll *linkList) {
	n := m.nodes[ll.Node]
	if n == nil || n.link == nil || n.link == l || n.link.instance == ll.Instance || ll.Left {
		return
	}
	if newer := m.atlas.lists[ll.Node]; newer != nil && newer.Version > ll.Version {
		m.tellSoon(l, ll.Node)
	}
	_, running := m.rivals[ll.Node]
	m.rivals[ll.Node] = rival{run: ll.Instance, over: l}
	if !running && !m.closed {
		m.wg.Go(func() { m.settleRivals(ll.Node) })
	}
}

// settleRivals asks two runs of one name until it is known that both live, or that there is only one.
func (m *Mesh) settleRivals(name string) {
	for i := 1; !m.settleRival(name, i >= rivalTries); i++ {
		select {
		case <-m.ctx.Done():
		case <-time.After(rivalPause):
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rivals, name)
}

// settleRival asks both runs once; done says that nothing is contested any more. last: the other one has had
// time enough to answer.
func (m *Mesh) settleRival(name string, last bool) (done bool) {
	m.mu.Lock()
	r := m.rivals[name]
	var own *link
	if n := m.nodes[name]; n != nil {
		own = n.link
	}
	m.mu.Unlock()
	if m.ctx.Err() != nil || own == nil || own.instance == r.run || own.conn.Context().Err() != nil {
		return true // there is only one by now
	}
	far := m.farLink(name, r.run)
	far.first = r.over
	theirs, lives := m.signOfLife(m.ctx, far)
	mine, answers := m.signOfLife(m.ctx, own)
	switch {
	case !answers && lives:
		own.close(closeReplaced, "it gives no sign of life, and another run of the node does")
		return true
	case !answers:
		return false
	case lives && cmp.Or(cmp.Compare(theirs, mine), cmp.Compare(r.run, own.instance)) < 0:
		m.twin(name, own.conn.RemoteAddr().String())
		own.close(closeTwin, "another live node is called "+name+", and has been there for longer")
		return true
	case lives:
		m.twin(name, "the one that is reached through "+r.over.node.name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if newest := m.atlas.lists[name]; newest == nil || newest.Instance == own.instance {
		return lives || last // the other one's neighbours hear of this one
	}
	if lives || last {
		m.tellSoon(own, name)
	}
	return false
}

// signOfLife asks a run whether it lives, and since when by its own clock (ns since 1970), for a second.
func (m *Mesh) signOfLife(ctx context.Context, l *link) (since int64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var back settlement
	err := m.converse(ctx, l, kindSettle, settle{}, kindSettlement, &back)
	return back.Started, err == nil
}
