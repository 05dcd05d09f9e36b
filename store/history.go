package store

// Event is something that became of a session on this node.
type Event uint8

// The events.
const (
	EventCreated   Event = iota + 1 // stored here first
	EventCame                       // another node gave it
	EventGiven                      // it was given to another node
	EventPromoted                   // this node's backup became the session: its holder was gone
	EventTakenBack                  // it was on its way to a node that is gone, and is served here again
	EventDeleted                    // by a client, here or elsewhere
	EventExpired                    // nobody asked for it in time
	EventOutdated                   // another node has a newer record of it
	EventTakenOver                  // from an old state server
)

// history is what became of a shard's sessions lately: for people who ask (see [Store.Explain]), and for nothing else.
// All of a store's shards together remember the last 32,768 events, in some 1.5 MB, and 3 MB more for the keys of sessions that have
// ended. The shard's lock guards it.
type history struct {
	ring []happened
	next int // in ring, once that is full
}

// happened is an event of one key.
type happened struct {
	key  string
	peer string
	at   int64 // monotonic ns
	what Event
}

// eventsKept is how many events a shard remembers.
const eventsKept = 128

// note remembers an event. The shard is locked.
func (sh *shard) note(key string, what Event, peer string, now int64) {
	h := &sh.history
	if len(h.ring) < eventsKept {
		h.ring = append(h.ring, happened{key, peer, now, what})
		return
	}
	h.ring[h.next] = happened{key, peer, now, what}
	h.next = (h.next + 1) % eventsKept
}

// since is from when on all events are remembered, monotonic ns; 0 is the start of the store.
func (h *history) since() int64 {
	if len(h.ring) < eventsKept {
		return 0
	}
	return h.ring[h.next].at
}

// each calls f with all events, the oldest first.
func (h *history) each(f func(*happened)) {
	for i := range h.ring {
		f(&h.ring[(h.next+i)%len(h.ring)])
	}
}
