package store

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// What the store keeps is counted: the keys and contents of sessions and backups, what each record takes besides, and
// contents that are being received or sent. With Options.MaxMemory all that stays below the limit:
//
//   - A new session, or a change that needs more, is refused when fifteen sixteenths are used, after everything
//     whose time is over has been let go. Nothing is ever pushed out for it. What needs no more than there is, and
//     every deletion, is taken as ever.
//   - A session that a visitor's page has fetched from another node comes in for a little longer than that, one of a node that
//     stops, which would have to leave it behind, longer still, and one of which the backup is here always. Otherwise it
//     stays with its holder.
//   - Backups take half of it at most; the holder of one that is refused chooses another node.
//   - The last sixteenth is for what is being received, so that a session can be replaced when nothing else is left.
//   - What the journal has is loaded in any case, also when the limit is lower than it was. It is served, and the node is full until enough of it
//     has ended or gone (overfull).

// What a record takes besides its key and contents, in bytes of the heap: measured with keys of 100 bytes, by
// TestWhatIsCountedIsWhatTheHeapHas.
const (
	entryCost  = 184                    // what is known of a key: a session, a note of a move or a deletion
	copiesCost = 96                     // what a holder knows of its session's backups, counted for every entry where there are any
	backupCost = entryCost + copiesCost // so that a backup that becomes a session takes no more
	diskCost   = 136                    // in the journal; a backup's name takes its key once more
)

// The marks up to which something is taken in, as shares of the limit.
const (
	aside        = 16 // one such part stays free but for what is being received
	asideFetched = 32 // and what a page has fetched may take half of that
	asideGiven   = 64 // and what a node that stops would have to leave behind, still more
)

// warnAt are the percentages of the limit at which it warns; it warns again when it has been warnAgain below.
var warnAt = [...]int64{80, 90}

const warnAgain = 5

// Refusable is what can be refused for want of memory.
type Refusable uint8

// The kinds.
const (
	RefusedWrite    Refusable = iota // a new session, or contents that are larger than before
	RefusedHandover                  // a session of another node, which stays there
	RefusedBackup                    // of another node's session, which chooses another node
	Refusables                       // how many kinds there are
)

// room is how much memory there is, and what it is used for.
type room struct {
	most  int64        // 0: no limit
	used  atomic.Int64 // all that is counted
	kept  atomic.Int64 // of it: backups
	entry int64        // what an entry takes besides its key and body; set before the first
	extra int64        // and a backup
	disk  bool         // a backup's key is in memory twice

	over   atomic.Int64 // so much more than the limit may be reserved, as so much was loaded and is here still
	claims claims

	refused  [Refusables]atomic.Uint64
	refusing atomic.Bool  // something was refused, and would be again
	wanted   atomic.Int64 // refusing: the least that was refused since then
	last     atomic.Int64 // when (monotonic ns) something was
	level    atomic.Int32 // how many of warnAt have been passed
	lines    *rate.Limiter
	// sweeping is held while a shard is swept; cleared is when (monotonic ns) all that had expired was last let go at once.
	sweeping sync.Mutex
	cleared  int64
}

func (m *room) setCosts(backups, disk bool) {
	m.entry, m.extra, m.disk = entryCost, backupCost, disk
	if backups {
		m.entry += copiesCost
	}
	if disk {
		m.entry += diskCost
		m.extra += diskCost
	}
}

// entryOf is what an entry counts without a body, and backupOf what a backup of so many bytes does.
func (m *room) entryOf(key string) int64 { return m.entry + int64(len(key)) }

func (m *room) backupOf(key string, body []byte) int64 {
	n := m.extra + int64(len(key)+len(body))
	if m.disk {
		n += int64(len(key))
	}
	return n
}

// fits tells whether so much more would leave a part of the limit free, one of those above. What is not more always fits. So
// much of it is counted already, as being received.
func (m *room) fits(more, counted, part int64) bool {
	return more <= 0 || m.most == 0 || m.used.Load()+more-counted <= m.most-m.most/part
}

// fitsBackup is fits for backups.
func (m *room) fitsBackup(more, counted int64) bool {
	return m.fits(more, counted, aside) && (more <= 0 || m.most == 0 || m.kept.Load()+more <= m.most/2)
}

// Memory says how much is counted, and what of it is left.
type Memory struct {
	Limit    int64 // PEERSTATE_MAX_MEMORY; 0: none
	Used     int64 // bytes counted
	Kept     int64 // of them: backups of other nodes' sessions
	Warn     int   // the percentage of Limit that was passed last, of those at which it warns; 0: none
	Refusing bool  // writes are refused, or were and would be again
	Refused  [Refusables]uint64
}

// Memory gives the counters. Safe for concurrent use; it waits for nothing.
func (st *Store) Memory() Memory {
	m := &st.room
	x := Memory{Limit: m.most, Used: m.used.Load(), Kept: m.kept.Load(), Refusing: m.refusing.Load()}
	if l := m.level.Load(); l > 0 {
		x.Warn = int(warnAt[l-1])
	}
	for i := range m.refused {
		x.Refused[i] = m.refused[i].Load()
	}
	return x
}

const (
	// reserveWait is how long what is being received waits for room at most, and reserveAgain how often it looks.
	reserveWait  = 2 * time.Second
	reserveAgain = 20 * time.Millisecond
)

// Reserve counts so many bytes that are about to be received, until GiveBack, or a Request or Record that has them as
// Counted. If there is no room it waits for some, for two seconds at most; false: there is none, or ctx has ended.
func (st *Store) Reserve(ctx context.Context, n int64) bool {
	if st.room.reserve(n) {
		return true
	}
	st.clear()
	end := time.NewTimer(reserveWait)
	defer end.Stop()
	again := time.NewTicker(reserveAgain)
	defer again.Stop()
	for {
		if st.room.reserve(n) {
			return true
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return false
		case <-end.C:
			return false
		}
	}
}

func (m *room) reserve(n int64) bool {
	if used := m.used.Add(n); m.most != 0 && used > m.most+m.over.Load() {
		m.used.Add(-n)
		return false
	}
	return true
}

// ReserveNow is Reserve without waiting.
func (st *Store) ReserveNow(n int64) bool {
	return st.room.reserve(n) || st.clear() && st.room.reserve(n)
}

// GiveBack ends a reservation of so many bytes.
func (st *Store) GiveBack(n int64) { st.room.used.Add(-n) }

// clearAgain is how long all that has expired is not looked for again at once.
const clearAgain = int64(time.Second)

// clear lets everything go whose time is over, which the sweeper would come to within sweepRound; false: that was done
// within the last second. A million entries take some tenths of a second.
func (st *Store) clear() bool {
	st.room.sweeping.Lock()
	defer st.room.sweeping.Unlock()
	if !st.dirty() {
		return false
	}
	for i := range st.shards {
		st.sweepShard(&st.shards[i])
		runtime.Gosched()
	}
	st.room.cleared = max(st.clock.now().mono, 1)
	return true
}

// dirty tells whether something may have expired that could be let go at once. room.sweeping is held.
func (st *Store) dirty() bool {
	return st.room.cleared == 0 || st.clock.now().mono-st.room.cleared >= clearAgain
}

// retry is for a write that was answered Full: it clears, and tells whether it is worth to be tried again.
func (st *Store) retry(a Answer) bool { return a.Status == Full && st.clear() }

// turnDown counts a write that there is no room for. The page that has the session locked has nothing more to write: it
// gets an error, and its lock must not keep its visitor out for as long as it takes to be broken.
func (st *Store) turnDown(r *Request) {
	st.Refuse(RefusedWrite, int64(len(r.Body)))
	if r.Cookie <= 0 {
		return
	}
	sh := st.shard(r.Key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.sessions[string(r.Key)]; s != nil && s.state == held && s.lock == r.Cookie {
		s.lock = 0
		sh.disk.session(s)
		st.serveTurns(sh, s, now)
		s.wake()
		s.idle()
	}
}

const (
	// easeAfter is how long nothing may have been refused for the node to count as one that takes writes again, even
	// if the last that was refused would be again: it was a large one.
	easeAfter = int64(time.Minute)
	// slackShare is the part of the limit that has to be free beyond the mark until it does.
	slackShare = 20
)

// Refuse counts something of so many bytes that there was no room for, and says so: at once, and then once a minute.
func (st *Store) Refuse(what Refusable, bytes int64) {
	m := &st.room
	m.refused[what].Add(1)
	if what == RefusedBackup && m.fits(bytes, 0, aside) || bytes > m.most/2 {
		return // backups have their half, or it is what this node cannot be expected to have room for
	}
	m.last.Store(st.clock.now().mono)
	if !m.refusing.Swap(true) {
		m.wanted.Store(bytes)
	} else if bytes < m.wanted.Load() {
		m.wanted.Store(bytes)
	}
	if m.lines.Allow() {
		st.log.Error("there is no memory left for sessions (PEERSTATE_MAX_MEMORY): what needs more is refused, and its page gets an error; sessions that are here are served",
			"limit", m.most, "used", m.used.Load(), "sessions", st.Stats().Active, "refused_writes", m.refused[RefusedWrite].Load(),
			"refused_handovers", m.refused[RefusedHandover].Load(), "refused_backups", m.refused[RefusedBackup].Load())
	}
}

// overfull says what it means that more was loaded than there is room for, if it was.
func (st *Store) overfull() {
	m := &st.room
	used := m.used.Load()
	if m.most == 0 || used <= m.most {
		return
	}
	m.over.Store(used - m.most + m.most/aside)
	m.last.Store(st.clock.now().mono)
	m.wanted.Store(1)
	m.refusing.Store(true)
	m.level.Store(int32(len(warnAt))) // which this line says as well
	s := st.Stats()
	enough := (used+used/4)>>20 + 1
	st.log.Error("more sessions were loaded than PEERSTATE_MAX_MEMORY has room for: all are served, but until enough have ended or moved to other nodes, this one takes no new ones, "+
		"and none may grow; if the machine has the memory, raise the setting and restart", "limit", m.most, "used", used, "sessions", s.Active+s.Recalled,
		"backups", s.Backups-s.Recalled, "enough", fmt.Sprintf("PEERSTATE_MAX_MEMORY=%dMiB", enough))
}

// shrink notes that less is here of what was loaded beyond the limit.
func (m *room) shrink() {
	if over := m.over.Load(); over > 0 {
		m.over.Store(max(min(over, m.used.Load()-m.most+m.most/aside), 0))
	}
}

// eased tells whether writes would be taken again.
func (m *room) eased(now int64) bool {
	free := m.most - m.most/aside - m.most/slackShare - m.used.Load()
	return free > 0 && (free > m.wanted.Load() || now-m.last.Load() > easeAfter)
}

// watch warns when much of the limit is used, and says when writes are taken again. The sweeper calls it every second.
func (m *room) watch(log *slog.Logger, now int64) {
	if m.most == 0 {
		return
	}
	m.shrink()
	percent, was := m.used.Load()*100/m.most, int(m.level.Load())
	level := was
	for level < len(warnAt) && percent >= warnAt[level] {
		level++
	}
	for level > 0 && percent < warnAt[level-1]-warnAgain {
		level--
	}
	m.level.Store(int32(level))
	if level > was {
		log.Warn("much of the memory for sessions is used (PEERSTATE_MAX_MEMORY); when 93 percent are, new sessions are refused",
			"percent", percent, "used", m.used.Load(), "limit", m.most)
	}
	if m.refusing.Load() && m.eased(now) {
		m.refusing.Store(false)
		log.Info("there is memory for sessions again; new ones are taken", "percent", percent)
	}
}
