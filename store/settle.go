package store

// SettleKind is a node's answer when it is told which record of a key another node has.
type SettleKind uint8

// The answers to Settle.
const (
	SettleNone    SettleKind = iota // it knows nothing of the key
	SettleDropped                   // its own has lost, and is gone
	SettleMine                      // its own has won, and stays
	SettleMoved                     // it gave its own to another node
	SettleBusy                      // its own is in a hand-over: ask again
	SettleKept                      // it has a backup; it is said only to a zero version
)

// Settlement is the answer to Settle.
type Settlement struct {
	Kind    SettleKind
	Version Version // Mine, Kept; Moved: with the epoch that it has there, or had
	Node    string  // Moved
	Holder  Peer    // Kept: whose session it is; Moved: to whom, in run 0 where that is not known
}

// Settle tells this node that another one, holder, has the record v of a key. If the one here is
// older it is dropped, so that one node holds the session in the end; of two equal ones that of the
// smaller node name stays, or two nodes that tell each other at the same moment would both drop
// theirs. With a zero v it only asks which record is here.
func (st *Store) Settle(key string, v Version, holder string) Settlement {
	sh := st.shardOf(key)
	now := st.clock.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[key]
	if b := sh.backup(key, now.mono); b != nil && v == (Version{}) && (s == nil || s.state == absent || s.state == moved) {
		return Settlement{Kind: SettleKept, Version: b.version(), Holder: b.holder}
	}
	if s == nil || s.expired(now.mono) {
		return Settlement{Kind: SettleNone}
	}
	switch s.state {
	case absent:
		return Settlement{Kind: SettleNone}
	case frozen:
		return Settlement{Kind: SettleBusy}
	case moved:
		if v != (Version{}) && s.version().Compare(v) <= 0 {
			return Settlement{Kind: SettleNone} // it has come to the other one since
		}
		return Settlement{Kind: SettleMoved, Version: s.version(), Node: s.busy.to.Node, Holder: s.busy.to}
	}
	mine := s.version()
	if c := mine.Compare(v); c > 0 || c == 0 && st.node <= holder {
		return Settlement{Kind: SettleMine, Version: mine}
	}
	if s.state == held {
		st.conflict(sh, s, holder, v, now)
	}
	return Settlement{Kind: SettleDropped}
}
