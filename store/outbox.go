package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Outbox is what waits to be sent to one keeper, in one run of it: sessions that have changed, each once
// however often it has, and what the keeper is to forget. Its methods are safe for concurrent use.
type Outbox struct {
	Peer
	store     *Store
	hash      uint64
	preferred atomic.Bool
	gone      atomic.Bool  // given up, or its run is over: what it has counts no more
	fullUntil atomic.Int64 // monotonic ns: it has refused something

	// mu may be locked while a shard is.
	mu     sync.Mutex
	linked bool
	items  queue
	flying map[*Parcel]struct{} // sent, and not answered yet
	latest map[*session]*Parcel // of them: the last of a session
	ready  chan struct{}        // with room for one: there may be items
}

// item is one thing to be sent.
type item struct {
	out     *Outbox
	session *session // what it is at the time of sending; nil: the keeper is to forget the key
	key     string
	version Version // to be forgotten: this one, or an older one
	since   int64   // monotonic ns; when the session was changed; 0: it is only renewed
}

// fullFor is how long a keeper that has refused a session is sent no new ones.
const fullFor = int64(5 * time.Second)

func newOutbox(st *Store, p Peer) *Outbox {
	return &Outbox{Peer: p, store: st, hash: hashOf(p.Node), flying: map[*Parcel]struct{}{}, latest: map[*session]*Parcel{}, ready: make(chan struct{}, 1)}
}

func (o *Outbox) full(now int64) bool { return now < o.fullUntil.Load() }

// setLinked lets things in, or gives back what has not been sent.
func (o *Outbox) setLinked(linked bool) (back []item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.linked = linked
	if !linked {
		back = o.items.all()
	}
	return back
}

// push adds something; false: the keeper is not linked.
func (o *Outbox) push(it item) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.linked {
		return false
	}
	it.out = o
	o.items.push(it)
	o.signal()
	return true
}

// signal wakes one who waits in Take. o.mu is held.
func (o *Outbox) signal() {
	select {
	case o.ready <- struct{}{}:
	default: // woken already
	}
}

// Take waits until there is something to be sent, and gives up to most of it, in order. Each parcel has
// to be reported on, by one of its methods. The error is that of ctx.
func (o *Outbox) Take(ctx context.Context, most int) ([]*Parcel, error) {
	for {
		o.mu.Lock()
		batch := o.items.take(most)
		if o.items.size > 0 {
			o.signal()
		}
		o.mu.Unlock()
		var out []*Parcel
		for _, it := range batch {
			if p := o.store.pack(it); p != nil {
				out = append(out, p)
			}
		}
		if len(out) > 0 {
			o.mu.Lock()
			for _, p := range out {
				o.flying[p] = struct{}{}
				if p.item.session != nil {
					o.latest[p.item.session] = p
				}
			}
			o.mu.Unlock()
			return out, nil
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-o.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// landed: a parcel was reported on.
func (o *Outbox) landed(p *Parcel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.flying, p)
	if o.latest[p.item.session] == p {
		delete(o.latest, p.item.session)
	}
	if p.superseded {
		o.store.GiveBack(int64(len(p.Record.Body)))
	}
}

// superseded counts contents that a session had until now, for as long as they are on their way to its keepers. The shard is
// locked.
func (s *session) superseded() {
	if s.copies == nil || len(s.body) == 0 {
		return
	}
	for i := range s.copies.at {
		if a := &s.copies.at[i]; a.queued {
			a.out.superseded(s)
		}
	}
}

func (o *Outbox) superseded(s *session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.latest[s]; p != nil && !p.superseded {
		p.superseded = true
		o.store.room.used.Add(int64(len(p.Record.Body)))
	}
}

// oldest is since when (monotonic ns) the oldest change waits that is not known to have arrived; 0: none does.
func (o *Outbox) oldest() (since int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	older := func(t int64) {
		if t != 0 && (since == 0 || t < since) {
			since = t
		}
	}
	for _, it := range o.items.first() {
		older(it.since)
	}
	for p := range o.flying {
		older(p.item.since)
	}
	return since
}

// ParcelKind is what a keeper is to do with a parcel.
type ParcelKind uint8

// The kinds of parcels.
const (
	ParcelCopy   ParcelKind = iota + 1 // keep this record
	ParcelRenew                        // the body is the one it has; the rest of the record is new
	ParcelBury                         // the session was deleted: only key, stamp and timeout count
	ParcelForget                       // let this version, or an older one, go
)

// Parcel is one thing for a keeper. Whoever sends it calls one of Kept, Lacking, Refused and Failed.
type Parcel struct {
	Kind   ParcelKind
	Record Record // ParcelBury, ParcelForget: without a body

	item    item
	expires int64 // what the keeper learns of it, monotonic ns
	// superseded: the session has other contents by now, so these count by themselves. Guarded by the outbox's mu.
	superseded bool
}

// pack makes a parcel of an item; nil: it is not to be sent any more.
func (st *Store) pack(it item) *Parcel {
	if it.session == nil {
		return &Parcel{Kind: ParcelForget, Record: Record{Key: it.key, Stamp: it.version.Stamp, Epoch: it.version.Epoch}, item: it}
	}
	s := it.session
	sh := st.shardOf(s.key)
	now := st.clock.now().mono
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a := st.copyOf(sh, s, it.out)
	if a == nil || !a.queued {
		return nil
	}
	p := &Parcel{Kind: ParcelCopy, item: it, expires: s.expires, Record: s.record(now)}
	// No lock is shown. It is that of a page beside this node, most likely gone with it, and taking and
	// releasing a lock tells the keepers nothing: one that was released long ago would come back, and keep
	// everybody out until web servers break it, which is after 110 s. The page whose lock is forgotten
	// may still write while nobody else was there.
	p.Record.Lock, p.Record.LockAge = 0, 0
	switch {
	case s.state == deleted:
		p.Kind, p.Record = ParcelBury, Record{Key: s.key, Stamp: s.stamp, Timeout: s.timeout}
	case s.state != held: // on its way to another node, which has backups made if it takes it
		a.queued = false
		return nil
	case a.stamp == s.stamp:
		p.Kind, p.Record.Body = ParcelRenew, nil
	}
	for _, o := range s.copies.at {
		if o.wanted && o.out != it.out {
			p.Record.Keepers = append(p.Record.Keepers, o.out.Peer)
		}
	}
	return p
}

// copyOf finds the entry of a keeper's copy in a session that is still in the store. The shard is locked.
func (st *Store) copyOf(sh *shard, s *session, o *Outbox) *copyAt {
	if sh.sessions[s.key] != s || s.copies == nil {
		return nil
	}
	return s.copies.find(o)
}

// report ends a parcel's flight: f changes the entry, and then the session is seen to again. It is false if the session has gone.
func (p *Parcel) report(f func(a *copyAt)) bool {
	st := p.item.out.store
	p.item.out.landed(p)
	s := p.item.session
	if s == nil {
		return false
	}
	sh := st.shardOf(s.key)
	now := st.clock.now().mono
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a := st.copyOf(sh, s, p.item.out)
	if a == nil {
		return false
	}
	a.queued = false
	f(a)
	st.tended(sh, s, now)
	return true
}

// Kept says that the keeper has it. If the session has moved meanwhile, its new holder does not know of that copy, and the
// keeper is to forget it.
func (p *Parcel) Kept() {
	here := p.report(func(a *copyAt) { a.stamp, a.told = p.Record.Stamp, max(p.expires, 1) })
	if !here && p.Kind == ParcelCopy {
		p.item.out.push(item{key: p.Record.Key, version: p.Record.Version()}) // not linked: it lets it expire
	}
}

// Lacking says that the keeper has not got the body that it should have: all of the record is sent.
func (p *Parcel) Lacking() { p.report(func(a *copyAt) { a.stamp = 0 }) }

// Refused says that the keeper does not take it. Another one is chosen. What has gone on meanwhile, or is just going, says nothing of
// the keeper: most likely it is the new holder.
func (p *Parcel) Refused() {
	p.report(func(a *copyAt) {
		if a.wanted = false; p.Kind == ParcelBury {
			a.stamp = p.Record.Stamp // it has a later session of that key, and need not know, or remembers no more for this node
			return
		}
		if o := p.item.out; p.item.session.state == held {
			o.fullUntil.Store(o.store.clock.now().mono + fullFor)
		}
	})
}

// Failed says that it is not known whether the keeper has it: the link has ended.
func (p *Parcel) Failed() { p.report(func(*copyAt) {}) }

// again puts back what was to be sent to a keeper that is not linked any more.
func (it item) again(st *Store) {
	s := it.session
	if s == nil {
		return // it finds out when it is linked again, or lets it expire
	}
	sh := st.shardOf(s.key)
	now := st.clock.now().mono
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if a := st.copyOf(sh, s, it.out); a != nil {
		a.queued = false
		st.tended(sh, s, now)
	}
}

// Flushed tells whether everything that was to be sent to keepers has been, and was answered.
func (st *Store) Flushed() bool {
	for _, o := range st.keepers.Load().by {
		o.mu.Lock()
		empty := o.items.size == 0 && len(o.flying) == 0
		o.mu.Unlock()
		if !empty {
			return false
		}
	}
	return true
}
