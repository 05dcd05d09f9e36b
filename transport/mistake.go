package transport

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"peerstate/store"
)

// The classical mistake in a farm is that IIS has given one application another site number on each machine, or that
// somebody has written its path in another case. Then each machine has its own key for one and the same visitor, and finds nothing of
// what the others keep. It shows when a node asks for a session that is not here, while its id is here under such
// another application id ([store.Store.Lookalike]). Two applications of one domain look the same, as they share the cookie. But they
// run on the same machines; so all nodes are asked whether one of them uses both ids, and it is said only if none does.

const (
	// mistakeAgain is how long a pair of ids is not looked at again, mistakeApart how long one that is two applications, and
	// mistakeKept how long it is warned of after it showed last.
	mistakeAgain = 10 * time.Second
	mistakeApart = 10 * time.Minute
	mistakeKept  = time.Hour
	// mostMistakes bounds how many pairs are remembered.
	mostMistakes = 64
	// useRate and useBurst bound how often a peer may ask: it asks when something shows, about each pair at most every ten
	// seconds.
	useRate  = 10
	useBurst = 100
)

// Mistake is a pair of application ids that seem to be one application, on different nodes.
type Mistake struct {
	IDs   [2]string   // with their hashes; the one that the other should be kept under comes first
	Nodes [2][]string // which nodes' web servers use them, this one among them
	First time.Time
	Last  time.Time // when a session was looked for under one that is here under the other
}

// MistakeOf is a pair of application ids in the order in which they should be joined, without its nodes.
func MistakeOf(a, b string) Mistake { return Mistake{IDs: pair(a, b)} }

// Alias is what joins the two ids, as in PEERSTATE_APP_ALIASES.
func (k *Mistake) Alias() string { return aliasSide(k.IDs[1]) + "=" + aliasSide(k.IDs[0]) }

// aliasSide writes an application's id as one side of an alias: outside of the hash, what has a meaning there is encoded.
func aliasSide(id string) string {
	name, hash := withoutHash(id)
	return "/" + strings.NewReplacer("%", "%25", ",", "%2c", "=", "%3d", "(", "%28", ")", "%29", "+", "%2b").Replace(name) + hash
}

// withoutHash parts an application's id from its hash, with the brackets.
func withoutHash(id string) (name, hash string) {
	if n := strings.LastIndexByte(id, '('); n > 0 && strings.HasSuffix(id, ")") {
		return id[:n], id[n:]
	}
	return id, ""
}

// String says it to the operator.
func (k *Mistake) String() string {
	return fmt.Sprintf("visitors come with the same session ids under /%s on %s and under /%s on %s, so they lose their sessions when they change between these nodes. "+
		"Are the two one application? Then set PEERSTATE_APP_ALIASES=%s on all nodes (add it, with a comma, to what stands there), or give the site the same number and the path the same case everywhere",
		k.IDs[0], strings.Join(k.Nodes[0], ", "), k.IDs[1], strings.Join(k.Nodes[1], ", "), k.Alias())
}

// mistakes are the pairs that have shown.
type mistakes struct {
	mu   sync.Mutex
	seen map[[2]string]*suspicion
}

// suspicion is a pair of ids. mistakes.mu guards it.
type suspicion struct {
	Mistake
	next   time.Time // when the other nodes may be asked again
	asking bool
	sure   bool // no node uses both
}

// pair puts two ids into the order of Mistake.IDs: the lower number of a site comes first, and upper case.
func pair(a, b string) [2]string {
	one, _ := withoutHash(a)
	other, _ := withoutHash(b)
	if cmp.Or(cmp.Compare(len(one), len(other)), cmp.Compare(one, other), cmp.Compare(a, b)) > 0 {
		a, b = b, a
	}
	return [2]string{a, b}
}

// compareIDs looks at a key that another node has asked for and that is not here.
func (m *Mesh) compareIDs(asker, key string) {
	mine, ok := m.store.Lookalike(key)
	if !ok {
		return
	}
	theirs, _ := store.SplitKey(key)
	if printable(theirs) != theirs {
		return // no web server's
	}
	ids, now := pair(mine, theirs), time.Now()
	k := &m.mistakes
	k.mu.Lock()
	s := k.seen[ids]
	if s == nil {
		if k.seen == nil {
			k.seen = map[[2]string]*suspicion{}
		}
		if len(k.seen) >= mostMistakes {
			k.mu.Unlock()
			return
		}
		s = &suspicion{Mistake: Mistake{IDs: ids, First: now}}
		k.seen[ids] = s
	}
	s.Last = now
	look := !s.asking && !now.Before(s.next)
	if look {
		s.asking, s.next = true, now.Add(mistakeAgain)
	}
	k.mu.Unlock()
	if look {
		m.start(func() { m.lookInto(s, asker) }) // not, if the mesh is closed
	}
}

// lookInto asks all nodes which of two ids their web servers use, and concludes.
func (m *Mesh) lookInto(s *suspicion, asker string) {
	ids := s.IDs[:] // never changed
	ctx, cancel := context.WithTimeout(m.ctx, m.config.FetchTimeout)
	defer cancel()
	nodes, both, complete := m.usersOf(ctx, ids)
	k := &m.mistakes
	k.mu.Lock()
	defer k.mu.Unlock()
	s.asking = false
	was := s.sure
	switch {
	case both != "":
		s.sure, s.next = false, time.Now().Add(mistakeApart)
	case complete && len(nodes[0]) > 0 && len(nodes[1]) > 0 && (asker == "" || slices.Contains(slices.Concat(nodes[0], nodes[1]), asker)):
		s.sure, s.Nodes = true, nodes
	default:
		return // somebody cannot say: not now
	}
	switch {
	case s.sure && !was:
		m.log.Warn("visitors come with the same session ids under two application ids, each on other nodes, and lose their sessions when they change between these. "+
			"Are the two one application? Then set the alias on all nodes (add it, with a comma, to what stands in PEERSTATE_APP_ALIASES), "+
			"or give the site the same number and its path the same case everywhere",
			"application", "/"+s.IDs[0], "nodes", strings.Join(s.Nodes[0], ","), "other", "/"+s.IDs[1], "other_nodes", strings.Join(s.Nodes[1], ","),
			"alias", "PEERSTATE_APP_ALIASES="+s.Alias())
	case was && !s.sure:
		m.log.Info("two application ids that seemed to be one application are two: "+both+" uses both; there is nothing to be done",
			"application", "/"+ids[0], "other", "/"+ids[1])
	}
}

// usersOf asks all nodes that are up, this one included, which of two ids they use. both names one that uses both. It is
// not complete if one could not be asked.
func (m *Mesh) usersOf(ctx context.Context, ids []string) (nodes [2][]string, both string, complete bool) {
	type said struct {
		node string
		used used
		err  error
	}
	m.mu.Lock()
	ways := map[string]*link{}
	complete = true
	for _, n := range m.byName() {
		if way := n.way(); way != nil {
			ways[n.name] = way
			complete = complete && m.understands(n, kindUse)
		}
	}
	m.mu.Unlock()
	if !complete {
		return nodes, "", false
	}
	all := make(chan said, len(ways)+1)
	all <- said{node: m.me, used: used{m.store.Saw(ids)}}
	waiting := 1
	for name, way := range ways {
		asked := m.start(func() {
			x := said{node: name}
			if x.err = m.converse(ctx, way, kindUse, use{ids}, kindUsed, &x.used); x.err == nil && len(x.used.Saw) != len(ids) {
				x.err = fmt.Errorf("%w: %d answers to %d application ids", errFrame, len(x.used.Saw), len(ids))
				way.misbehaved(x.err)
			}
			all <- x
		})
		if !asked {
			return nodes, "", false
		}
		waiting++
	}
	for range waiting {
		x := <-all
		switch {
		case x.err != nil:
			complete = false
		case x.used.Saw[0] && x.used.Saw[1]:
			both = x.node
		case x.used.Saw[0]:
			nodes[0] = append(nodes[0], x.node)
		case x.used.Saw[1]:
			nodes[1] = append(nodes[1], x.node)
		}
	}
	slices.Sort(nodes[0])
	slices.Sort(nodes[1])
	return nodes, both, complete
}

// reviewMistakes looks again at what is warned of, and forgets what does not show any more.
func (m *Mesh) reviewMistakes() {
	k := &m.mistakes
	k.mu.Lock()
	defer k.mu.Unlock()
	for ids, s := range k.seen {
		switch {
		case time.Since(s.Last) > mistakeKept:
			delete(k.seen, ids)
		case s.sure && !s.asking:
			s.asking = true
			if !m.start(func() { m.lookInto(s, "") }) {
				return
			}
		}
	}
}

// Mistakes are the pairs of application ids that seem to be one application, on different nodes, in a fixed order.
func (m *Mesh) Mistakes() (all []Mistake) {
	k := &m.mistakes
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.seen {
		if s.sure {
			all = append(all, s.Mistake)
		}
	}
	slices.SortFunc(all, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.IDs[0], b.IDs[0]), cmp.Compare(a.IDs[1], b.IDs[1]))
	})
	return all
}

// use asks which of some application ids a node's web server uses.
type use struct {
	IDs []string `cbor:"1,keyasint"`
}

// used answers each of them, in order.
type used struct {
	Saw []bool `cbor:"1,keyasint"`
}

func (l *link) serveUse(s *stream, header []byte) error {
	var q use
	if err := decode(header, &q); err != nil {
		return err
	}
	if len(q.IDs) == 0 || len(q.IDs) > useMost || slices.ContainsFunc(q.IDs, func(id string) bool { return len(id) > maxKey }) {
		return fmt.Errorf("%w: %d application ids", errFrame, len(q.IDs))
	}
	if !s.link.quota.allow(s.link.quota.uses, refusedUse) {
		return errTooMuch
	}
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	return writeFrame(s, kindUsed, used{l.mesh.store.Saw(q.IDs)})
}
