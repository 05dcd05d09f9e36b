package store

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

const (
	// mendRate is how many bytes of sessions a second are given new backups after a node was lost, and
	// mendBurst how many of them at once: the visitors' own requests come first.
	mendRate  = 16 << 20
	mendBurst = 1 << 20
	// mendAgain is when keepers are tried again that have refused a session.
	mendAgain = 10 * time.Second
	// mendEach is what a session counts at least: it costs a message.
	mendEach = 1 << 10
)

// mendSoon has all sessions looked at for whether they have enough backups.
func (st *Store) mendSoon() {
	select {
	case st.toMend <- struct{}{}:
	default: // it will be
	}
}

// mend restores the number of backups at a limited rate: after a keeper has gone or come, and for sessions
// that were promoted here. It ends with ctx.
func (st *Store) mend(ctx context.Context) {
	limit := rate.NewLimiter(mendRate, mendBurst)
	again := time.NewTicker(mendAgain)
	defer again.Stop()
	for {
		select {
		case <-st.toMend:
		case <-again.C:
			if st.unsafe.Load() == 0 || len(st.keepers.Load().linked) == 0 {
				continue
			}
		case <-ctx.Done():
			return
		}
		for i := range st.shards {
			if err := st.mendShard(ctx, &st.shards[i], limit); err != nil {
				return // ctx has ended
			}
		}
	}
}

func (st *Store) mendShard(ctx context.Context, sh *shard, limit *rate.Limiter) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	seen := 0
	for _, s := range sh.sessions {
		now := st.clock.now()
		cost := 0
		if s.copies != nil && !s.expired(now.mono) && st.wanting(s) {
			st.tended(sh, s, now.mono)
			cost = min(max(len(s.body), mendEach), mendBurst)
		}
		if seen++; cost == 0 && seen%sweepChunk != 0 {
			continue
		}
		sh.mu.Unlock()
		err := limit.WaitN(ctx, cost)
		sh.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// wanting tells whether something is to be done about a session's backups. The shard is locked.
func (st *Store) wanting(s *session) bool {
	if s.state != held && s.state != deleted {
		return false
	}
	if s.copies.since != 0 {
		return true
	}
	n, preferred := 0, 0
	for i := range s.copies.at {
		switch a := &s.copies.at[i]; {
		case !a.wanted:
			return true // it can perhaps be told by now
		case a.has(s.stamp):
			n++
			if a.out.preferred.Load() {
				preferred++
			}
		}
	}
	return n < st.backups || preferred < min(st.backups, st.keepers.Load().preferred)
}

// renew tells the keepers of a session that it lives longer than they know. It is called by the sweeper,
// so that a request only writes the new time into the session. The shard is locked.
func (st *Store) renew(s *session) {
	if s.state != held || s.timeout == 0 {
		return
	}
	late := deadline(0, s.timeout) / 10
	for i := range s.copies.at {
		if a := &s.copies.at[i]; a.wanted && !a.queued && a.has(s.stamp) && s.expires-a.told > late {
			a.queued = a.out.push(item{session: s})
		}
	}
}
