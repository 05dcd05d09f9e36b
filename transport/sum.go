package transport

import (
	"cmp"
	"slices"

	"peerstate/store"
)

// sum is what several nodes say to a question of which none has the session.
type sum struct {
	Unknown  bool
	deleted  store.Stamp
	creating []creatorRef
	moved    note      // the newest; of no node: there is none
	asked    []peerRef // who has answered, this node not among them
	holders  []peerRef // of whose session somebody has a backup
}

// note says that a session was given to a node.
type note struct {
	store.Peer
	stamp store.Stamp
	epoch uint64
}

func (r *reply) note() note {
	return note{store.Peer{Node: r.Node, Instance: r.Instance}, r.Stamp, r.Epoch}
}

// newer tells whether a note is of a later move. A session that was created under the id of one that has ended
// begins with a later stamp, but not with a higher epoch than all notes of that one.
func (n note) newer(o note) bool {
	return cmp.Or(cmp.Compare(n.stamp, o.stamp), cmp.Compare(n.epoch, o.epoch)) > 0
}

// sum begins with what this node says.
func (m *Mesh) sum(own store.Reply) *sum {
	a := &sum{deleted: own.Deleted, creating: m.creates(own)}
	switch own.Kind {
	case store.ReplyMoved:
		a.moved = note{store.Peer{Node: own.Node, Instance: own.Instance}, own.Stamp, own.Epoch}
	case store.ReplyBackup:
		a.holders = []peerRef{{own.Node, own.Instance}}
	case store.ReplyNotKnown:
		a.Unknown = true
	}
	return a
}

// add adds what came over a link; not ok: nothing did.
func (a *sum) add(r *passed) {
	if !r.ok || r.Kind == store.ReplyNotKnown || r.reply.Unknown {
		a.Unknown = true
	}
	if !r.ok || r.Seen {
		return
	}
	a.asked = append(a.asked, r.Asked...)
	a.holders = append(a.holders, r.backups()...)
	if r.Kind == store.ReplyNotKnown {
		return
	}
	a.asked = append(a.asked, peerRef{r.link.node.name, r.link.instance})
	a.deleted = max(a.deleted, r.Deleted)
	a.creating = append(a.creating, r.creators(r.link)...)
	if r.Kind == store.ReplyMoved && (a.moved.Node == "" || r.note().newer(a.moved)) {
		a.moved = r.note()
	}
}

// reply says it in one.
func (a *sum) reply() reply {
	r := reply{Kind: store.ReplyMissing, Deleted: a.deleted, Unknown: a.Unknown, Creating: most(a.creating, compareCreators),
		Asked: most(a.asked, comparePeers), Holders: most(a.holders, comparePeers)}
	switch {
	case a.moved.Node != "":
		r.Kind, r.Node, r.Instance, r.Stamp, r.Epoch = store.ReplyMoved, a.moved.Node, a.moved.Instance, a.moved.stamp, a.moved.epoch
	case len(a.creating) > 0:
		r.Kind = store.ReplyCreating
	case a.Unknown:
		r.Kind = store.ReplyNotKnown
	}
	return r
}

// most sorts, and bounds how many others are told of.
func most[T comparable](all []T, compare func(a, b T) int) []T {
	slices.SortFunc(all, compare)
	all = slices.Compact(all)
	return all[:min(len(all), maxLearned)]
}

func compareCreators(a, b creatorRef) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Inquiry, b.Inquiry))
}

func comparePeers(a, b peerRef) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Instance, b.Instance))
}

// backups gives of whose sessions there are backups, by one reply.
func (r *reply) backups() []peerRef {
	if r.Kind == store.ReplyBackup {
		return append(r.Holders, peerRef{r.Node, r.Instance})
	}
	return r.Holders
}
