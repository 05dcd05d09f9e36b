package transport

import (
	"slices"

	"peerstate/store"
)

// sum is what several nodes say to a question of which none has the session.
type sum struct {
	Unknown  bool
	deleted  store.Stamp
	creating []string
	moved    string // where the session is by the newest note
	epoch    uint64
	asked    []string // who has answered, this node not among them
}

// sum begins with what this node says.
func (m *Mesh) sum(own store.Reply) *sum {
	a := &sum{deleted: own.Deleted}
	switch own.Kind {
	case store.ReplyCreating:
		a.creating = []string{m.me}
	case store.ReplyMoved:
		a.moved, a.epoch = own.Node, own.Epoch
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
	if r.Kind == store.ReplyNotKnown {
		return
	}
	a.asked = append(a.asked, r.link.node.name)
	a.deleted = max(a.deleted, r.Deleted)
	a.creating = append(a.creating, r.creators(r.link)...)
	if r.Kind == store.ReplyMoved && (a.moved == "" || r.Epoch > a.epoch) {
		a.moved, a.epoch = r.Node, r.Epoch
	}
}

// reply says it in one.
func (a *sum) reply() reply {
	most := func(names []string) []string {
		slices.Sort(names)
		names = slices.Compact(names)
		return names[:min(len(names), maxLearned)]
	}
	r := reply{Kind: store.ReplyMissing, Deleted: a.deleted, Unknown: a.Unknown, Creating: most(a.creating), Asked: most(a.asked)}
	switch {
	case a.moved != "":
		r.Kind, r.Node, r.Epoch = store.ReplyMoved, a.moved, a.epoch
	case len(a.creating) > 0:
		r.Kind = store.ReplyCreating
	case a.Unknown:
		r.Kind = store.ReplyNotKnown
	}
	return r
}
