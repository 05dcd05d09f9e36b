package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"peerstate/store/journal"
)

// remnant is what the old server may have of a session that is here, or was.
type remnant struct {
	cookie int32        // of this node's lock there; NoCookie: it is not known whether there is one
	stamp  Stamp        // that the session has here since it was taken over; 0: it was safe before
	mark   journal.Mark // of it in the journal; 0: there is none
	again  int64        // not before then (monotonic ns)
}

// suspected: this run has not taken it over, and the old server hardly ever has it.
func (r remnant) suspected() bool { return r.cookie == NoCookie }

// remnants are deleted at the old server, as soon as the sessions are safe here, until it says that they are gone. Nothing of
// them is taken over again meanwhile. If this node is killed before, whoever promotes a session from a backup or a journal
// deletes what is left. One that has moved on to another node by then stays there, locked, until its time is over there: that
// is no later than here, unless the application has made the session's timeout shorter.
type remnants struct {
	store *Store
	// What goes on with the old server, by what a stop waits for: deletions not at all, as they are tried once more; sessions
	// that are being taken over for remnantsLast; and those that are given back then, once more as long.
	deleting, taking, giving context.Context
	stop                     [3]context.CancelFunc // of each
	running                  sync.WaitGroup
	dropped                  atomic.Uint64
	orphans                  orphans

	mu   sync.Mutex
	over bool // nothing is started any more
	by   map[string]remnant
	sure int           // of by: those that are not only suspected
	more chan struct{} // with room for one
}

const (
	// remnantsMost is how many of those taken over there may be before no further session is taken over. There are so many only if the
	// sessions cannot be made safe, or the old server does not delete.
	remnantsMost = 200_000
	// remnantsAtOnce is how many are deleted at a time.
	remnantsAtOnce = 8
	// remnantsAgain is the pause before another try, and remnantsGather how long some are gathered, for one force of the journal.
	remnantsAgain  = time.Second
	remnantsGather = 20 * time.Millisecond
	// remnantsLast is how long each of the last things takes at most, when the store is closed.
	remnantsLast = 2 * time.Second
)

func newRemnants(st *Store) *remnants {
	m := &remnants{store: st, by: map[string]remnant{}, more: make(chan struct{}, 1)}
	for i, ctx := range []*context.Context{&m.deleting, &m.taking, &m.giving} {
		*ctx, m.stop[i] = context.WithCancel(context.Background())
	}
	m.start(m.run)
	return m
}

// add remembers a remnant.
func (m *remnants) add(key string, r remnant) {
	m.mu.Lock()
	m.remove(key)
	m.by[key] = r
	if !r.suspected() {
		m.sure++
	}
	m.mu.Unlock()
	select {
	case m.more <- struct{}{}:
	default: // it is told already
	}
}

// remove forgets a remnant, if there is one. m.mu is held.
func (m *remnants) remove(key string) {
	r, ok := m.by[key]
	if ok && !r.suspected() {
		m.sure--
	}
	delete(m.by, key)
}

// suspect remembers a session that is held here, and that an earlier run, or another node, may have taken over and not
// deleted there. There may be no upstream.
func (m *remnants) suspect(s *session) {
	if m != nil && !m.has(s.key) {
		m.add(s.key, remnant{cookie: NoCookie, stamp: s.stamp})
	}
}

// start has f run, which ends with m.deleting, m.taking or m.giving. It is false if the store is closed.
func (m *remnants) start(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return false
	}
	m.running.Go(f)
	return true
}

func (m *remnants) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.by[key]
	return ok
}

func (m *remnants) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.by)
}

// full tells that nothing more is to be taken over. Those that are only suspected do not count: after a restart, or when a node
// is lost, that is every session, and others must be found meanwhile.
func (m *remnants) full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sure >= remnantsMost
}

// run deletes remnants until the store is closed.
func (m *remnants) run() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-m.deleting.Done():
			return
		case <-m.more:
		case <-pause.C:
		}
		t := time.NewTimer(remnantsGather)
		select {
		case <-t.C:
		case <-m.deleting.Done():
		}
		t.Stop()
		m.round(m.deleting)
		if m.count() > 0 {
			pause.Reset(remnantsAgain)
		}
	}
}

// ending: nothing is taken over any more, as the store is being closed.
func (m *remnants) ending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.over
}

// close ends what is under way and waits for it: what is being taken over is given back, or would be locked at the old server until
// somebody breaks the lock. Then it tries once more to delete remnants, and gives how many are left.
func (m *remnants) close() int {
	m.mu.Lock()
	m.over = true
	m.mu.Unlock()
	for i, stop := range m.stop {
		defer time.AfterFunc(time.Duration(i)*remnantsLast, stop).Stop()
	}
	m.running.Wait()
	for _, stop := range m.stop {
		stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), remnantsLast)
	defer cancel()
	m.mu.Lock()
	for key, r := range m.by {
		r.again = 0
		m.by[key] = r
	}
	m.mu.Unlock()
	m.round(ctx)
	return m.count()
}

// round deletes those that are due and safe here.
func (m *remnants) round(ctx context.Context) {
	keys := make(chan string)
	var workers sync.WaitGroup
	for range remnantsAtOnce {
		workers.Go(func() {
			for key := range keys {
				m.drop(ctx, key)
			}
		})
	}
	for _, key := range m.due(ctx) {
		if ctx.Err() == nil {
			keys <- key
		}
	}
	close(keys)
	workers.Wait()
}

// due gives the keys whose time it is, and whose sessions are safe.
func (m *remnants) due(ctx context.Context) (keys []string) {
	now := m.store.clock.now().mono
	var mark journal.Mark
	m.mu.Lock()
	all := make(map[string]remnant, len(m.by))
	for key, r := range m.by {
		if r.again <= now {
			all[key] = r
			mark = max(mark, r.mark)
		}
	}
	m.mu.Unlock()
	forced := m.forced(ctx, mark)
	for key, r := range all {
		if forced && m.safe(key, r) {
			keys = append(keys, key)
		} else {
			m.later(key)
		}
	}
	return keys
}

// forced waits until the journal, if there is one, is on disk up to a mark.
func (m *remnants) forced(ctx context.Context, mark journal.Mark) bool {
	if m.store.journal == nil || mark == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTime)
	defer cancel()
	return m.store.journal.Wait(ctx, mark) == nil // the journal says by itself what is wrong with it
}

// safe tells whether a session has another copy than that in this node's memory, where it is to have one.
func (m *remnants) safe(key string, r remnant) bool {
	if r.mark != 0 || m.store.backups == 0 || r.stamp == 0 {
		return true
	}
	enough, _ := m.store.backedUp(key, r.stamp)
	return enough || m.store.gaveAway(key)
}

// gaveAway tells whether a session has gone to another node, which sees to its backups.
func (st *Store) gaveAway(key string) bool {
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[key]
	return s != nil && s.state == moved
}

func (m *remnants) later(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.by[key]; ok {
		r.again = m.store.clock.now().mono + int64(remnantsAgain)
		m.by[key] = r
	}
}

// drop deletes one at the old server, whoever has locked it there.
func (m *remnants) drop(ctx context.Context, key string) {
	m.mu.Lock()
	r, ok := m.by[key]
	m.mu.Unlock()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTime)
	defer cancel()
	cookie := r.cookie
	for range 2 {
		a, err := m.store.upstream.Do(ctx, &Request{Op: Delete, Key: []byte(key), Cookie: cookie})
		switch {
		case err != nil:
			m.later(key)
			return
		case a.Status == OK || a.Status == NotFound:
			if a.Status == OK {
				m.dropped.Add(1)
			}
			m.mu.Lock()
			m.remove(key)
			m.mu.Unlock()
			return
		}
		cookie = a.Cookie // of a lock that nobody needs: the session is here
	}
	m.later(key)
}
