package store

import "sync"

// A peer can make this node remember things that are no sessions: that a key was deleted, that a session was given to
// it, that it is about to create a key. Each takes memory, a deletion for as long as the session could have lived elsewhere and at most
// a year. A peer in the wrong hands could name keys without end, so what each node may have remembered here is bounded,
// by its name: to an eighth of Options.MaxMemory, or 512 MiB. Past that
//
//   - a deletion ends the backup or session that is here, and is not remembered: the sender is told that it is refused;
//   - a question that would leave something behind is answered "not known".
const (
	claimShare = 8
	claimMost  = 512 << 20
)

// claims counts what each node has had remembered. Entries name theirs by its number.
type claims struct {
	mu      sync.Mutex
	numbers map[string]uint16
	used    []int64 // bytes, by number; 0 is nobody's
}

// mostClaims bounds the numbers; those above share the last one. A farm's CA has issued as many certificates hardly ever.
const mostClaims = 1<<16 - 1

// claim gives the number of a node.
func (c *claims) claim(node string) uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.numbers[node]; ok {
		return n
	}
	if c.numbers == nil {
		c.numbers, c.used = map[string]uint16{}, []int64{0}
	}
	if len(c.used) > mostClaims {
		return mostClaims
	}
	n := uint16(len(c.used))
	c.numbers[node], c.used = n, append(c.used, 0)
	return n
}

func (c *claims) add(number uint16, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[number] += bytes
}

// mayClaim tells whether a node may have one more key remembered.
func (m *room) mayClaim(node string, key string) bool {
	most := int64(claimMost)
	if m.most != 0 {
		most = m.most / claimShare
	}
	number := m.claims.claim(node)
	m.claims.mu.Lock()
	defer m.claims.mu.Unlock()
	return m.claims.used[number]+m.entryOf(key) <= most
}

// owe says for which node an entry is remembered; "": for none. The shard is locked.
func (sh *shard) owe(s *session, node string) {
	if s.whose != 0 {
		sh.room.claims.add(s.whose, -sh.room.entryOf(s.key))
		s.whose = 0
	}
	if node != "" {
		s.whose = sh.room.claims.claim(node)
		sh.room.claims.add(s.whose, sh.room.entryOf(s.key))
	}
}
