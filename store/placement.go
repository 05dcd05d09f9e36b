package store

// Keeper is another node that can keep backups of this node's sessions.
type Keeper struct {
	Peer
	// Preferred: it stands where backups should be. The others are taken when there are too few.
	Preferred bool
	// Linked: it can be sent backups. Otherwise it cannot be reached just now, and is not given up:
	// what it keeps still counts, and what has changed goes to another one.
	Linked bool
}

// keepers is who can keep backups at a moment. It is never changed, only replaced.
type keepers struct {
	by        map[string]*Outbox // by name, also those that are not linked just now
	linked    []*Outbox
	preferred int // of those linked
}

// SetKeepers says which nodes can keep backups from now on. A node that is not among them any more is
// given up: what it kept is sent to another one, by and by. Safe for concurrent use.
func (st *Store) SetKeepers(all []Keeper) {
	if st.backups == 0 {
		return
	}
	st.keepersMu.Lock()
	defer st.keepersMu.Unlock()
	before := st.keepers.Load()
	after := &keepers{by: make(map[string]*Outbox, len(all))}
	linked := map[*Outbox]bool{}
	for _, k := range all {
		o := before.by[k.Node]
		if o == nil || o.Peer != k.Peer {
			o = newOutbox(st, k.Peer)
		}
		o.preferred.Store(k.Preferred)
		after.by[k.Node] = o
		if k.Linked {
			linked[o] = true
			after.linked = append(after.linked, o)
			if k.Preferred {
				after.preferred++
			}
		}
	}
	for o := range linked {
		o.setLinked(true)
	}
	st.keepers.Store(after)
	var back []item
	for name, o := range before.by {
		if after.by[name] != o {
			o.gone.Store(true)
		}
		if !linked[o] {
			back = append(back, o.setLinked(false)...)
		}
	}
	for _, it := range back {
		it.again(st)
	}
	st.mendSoon()
}

// Outbox gives what waits to be sent to a keeper, or nil if it is none.
func (st *Store) Outbox(to Peer) *Outbox {
	if k := st.keepers.Load(); k != nil {
		if o := k.by[to.Node]; o != nil && o.Peer == to {
			return o
		}
	}
	return nil
}

// next gives the linked keeper that should have a copy of a session and has none yet; nil: there is none.
// Keepers in the preferred place come first, and then the order is that of Rank.
func (k *keepers) next(key string, c *copies, now int64) *Outbox {
	var best *Outbox
	var rank uint64
	var liked bool
	hash := hashOf(key)
	for _, o := range k.linked {
		if a := c.find(o); a != nil && a.wanted || o.full(now) {
			continue
		}
		r, preferred := mix(hash^o.hash), o.preferred.Load()
		if best == nil || preferred && !liked || preferred == liked && r > rank {
			best, rank, liked = o, r, preferred
		}
	}
	return best
}

// Rank is a node's place in the order in which nodes are to keep a session's backup: the highest comes
// first. It is the same on all nodes (rendezvous hashing: when a node goes, only what it had is placed
// anew).
func Rank(key, node string) uint64 { return mix(hashOf(key) ^ hashOf(node)) }

// hashOf is FNV-1a of 64 bits.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix is the finaliser of SplitMix64: FNV alone leaves similar names with similar ranks.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
