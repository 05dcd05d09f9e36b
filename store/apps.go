package store

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// apps remembers under which application ids this node's web server has asked for sessions: not those of sessions that are
// here only because other nodes have given them. An application has one id on all nodes, unless somebody has made the
// classical mistake (see [Store.Lookalike]). Ids are noted where a session is created, and where the other nodes are asked
// for one, which is where an application first shows on a node; so requests that find their session cost nothing.
type apps struct {
	set atomic.Pointer[appSet] // never changed, only replaced
	mu  sync.Mutex             // of whoever replaces it
}

// mostApps bounds how many ids are remembered. A machine that has more is not looked after: it cannot be said of any id that
// the web server does not use it.
const mostApps = 512

type appSet struct {
	names map[string]struct{}
	alike map[uint64][]string // by likeness
	full  bool
}

// add notes the application of a key.
func (a *apps) add(key []byte) {
	n := bytes.LastIndexByte(key, '/')
	set := a.set.Load()
	if n <= 0 {
		return
	}
	if set != nil {
		if _, ok := set.names[string(key[:n])]; ok || set.full {
			return
		}
	}
	a.insert(string(key[:n]))
}

func (a *apps) insert(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := &appSet{names: map[string]struct{}{name: {}}, alike: map[uint64][]string{}}
	if set := a.set.Load(); set != nil {
		if set.full {
			return
		}
		for other := range set.names {
			next.names[other] = struct{}{}
		}
	}
	for other := range next.names {
		like := likeness(other)
		next.alike[like] = append(next.alike[like], other)
	}
	next.full = len(next.names) > mostApps
	a.set.Store(next)
}

// saw tells whether the web server has used an id, or may have.
func (a *apps) saw(name string) bool {
	set := a.set.Load()
	if set == nil {
		return false
	}
	_, ok := set.names[name]
	return ok || set.full
}

// siteNumber stands before the number that IIS gives to a site, in whatever case.
const siteNumber = "w3svc/"

// likeness is the same number for application ids that differ only in the site's number, in letter case, or in the hash, which is made
// from the id. It is an FNV-1a hash, as good as is needed for what is compared again.
func likeness(app string) uint64 {
	name := app
	if n := strings.LastIndexByte(app, '('); n > 0 && strings.HasSuffix(app, ")") {
		name = app[:n]
	}
	sum := uint64(14695981039346656037)
	matched, number := 0, false // how much of siteNumber came just now; the site's number is being passed over
	for i := range len(name) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if number = number && c >= '0' && c <= '9'; number {
			continue
		}
		switch {
		case c == siteNumber[matched]:
			matched++
		case c == siteNumber[0]:
			matched = 1
		default:
			matched = 0
		}
		if matched == len(siteNumber) {
			matched, number = 0, true
		}
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return sum
}

// Alike tells whether two application ids differ only in the number of the site, in letter case, or in the hash.
func Alike(a, b string) bool { return a != b && likeness(a) == likeness(b) }

// alikeFor is how long ago a session may have been used to be compared: the visitor has just been there.
const alikeFor = 10 * time.Minute

// Lookalike finds the mistake that one application has another id on each node. Another node asks for key, which is not here,
// and this node's web server has never used its application id; but it uses one that differs only in the number of the site, or in
// letter case, and under that there is a session with the same id here, which was used a moment ago. It gives that id. Two
// applications of one domain have the same session ids, too; so before anybody says anything, all nodes are to be asked
// whether one of them uses both ids ([Store.Saw]).
func (st *Store) Lookalike(key string) (mine string, ok bool) {
	app, id := SplitKey(key)
	set := st.apps.set.Load()
	if set == nil || app == "" || id == "" || set.full {
		return "", false
	}
	if _, known := set.names[app]; known {
		return "", false
	}
	for _, mine := range set.alike[likeness(app)] {
		if st.usedLately(mine + "/" + id) {
			return mine, true
		}
	}
	return "", false
}

// usedLately tells whether something is known here of a session that was used, or ended, a short time ago.
func (st *Store) usedLately(key string) bool {
	sh := st.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := st.clock.now().mono
	s := sh.sessions[key]
	return s != nil && s.state != absent && !s.expired(now) && (s.state == moved || s.used() >= now-int64(alikeFor))
}

// Saw tells, for each application id, whether this node's web server has used it since the node started, or may have.
func (st *Store) Saw(ids []string) []bool {
	saw := make([]bool, len(ids))
	for i, id := range ids {
		saw[i] = st.apps.saw(id)
	}
	return saw
}
