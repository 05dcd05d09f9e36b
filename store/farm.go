package store

import (
	"context"
	"errors"
	"time"
)

// Farm is the other nodes, as the store sees them.
type Farm interface {
	// Ask puts a question to every node that can be reached, and returns when it is decided or ctx
	// ends (NotKnown). A session that is found has been delivered by Store.Receive before Ask
	// returns.
	Ask(ctx context.Context, q Question) Verdict
	// Forward has a node carry out a request on a session that it holds. ErrNotHere: it does not,
	// and nothing was changed. Any other error: it may have been carried out. It is never sent twice.
	Forward(ctx context.Context, node string, r *Request) (Answer, error)
}

// ErrNotHere says that a node asked to carry out a request does not hold the session, and has
// changed nothing.
var ErrNotHere = errors.New("this node does not hold the session")

// Peer is another node, in one of its runs.
type Peer struct {
	Node     string
	Instance uint64
}

// Want is what the asker of a question is after.
type Want uint8

// The kinds of questions.
const (
	Move   Want = iota + 1 // to have the session, if it is not locked
	Locate                 // to know who holds it
	Create                 // to store it, if nobody has it
)

// Question is a question about one key.
type Question struct {
	Key  string
	Want Want
	Wait time.Duration // Move: how long to wait for a lock before it is answered "held"
	// Inquiry is a number of the asker's that rises with each question; the same goes to all nodes.
	Inquiry uint64
}

// Creator is a node that is about to create a key, and the number of its question about it.
type Creator struct {
	Peer
	Inquiry uint64
}

// Outcome is what came of a question.
type Outcome uint8

// The outcomes, as far as the store has to tell them apart.
const (
	// NotKnown: a node that may have the session could not be asked.
	NotKnown Outcome = iota
	// Missing: all that count said that they do not have it, or that they are creating it
	// (then they are named in Verdict.Creating).
	Missing
	// Arrived: the session was found, and is here now.
	Arrived
	// Held: Verdict.Node holds it, and keeps it: it is locked there, or was only to be located.
	Held
	// AtUpstream: no node has it, and the old state server does (see Upstream): it is locked there, or was only to be located.
	AtUpstream
)

// Verdict is the answer of the whole farm to a question.
type Verdict struct {
	Outcome  Outcome
	Node     string        // Held: who
	Locked   bool          // Held, AtUpstream: whether it is locked there
	Cookie   int32         // and locked: by which cookie
	LockAge  time.Duration // and locked: for how long
	Init     bool          // AtUpstream and locked: its client is the one that must initialise the session
	Deleted  Stamp         // Missing: the latest deletion that a node remembers; 0: none
	Creating []Creator     // Missing, NotKnown: nodes that are about to create it
}

// ReplyKind is what a node says to a question.
type ReplyKind uint8

// The replies of one node.
const (
	ReplyNotKnown ReplyKind = iota // it cannot say just now
	ReplyMissing                   // it does not have the session
	ReplyFound                     // here it comes
	ReplyHeld                      // it has it and keeps it
	ReplyMoved                     // it gave it to another node a moment ago
	ReplyCreating                  // it is about to create it
	ReplyBackup                    // it has a backup, and another node may hold it
)

// Reply is a node's answer to a question.
type Reply struct {
	Kind     ReplyKind
	Handover *Handover     // Found
	TooMuch  bool          // NotKnown: the asker has had more remembered here than any node has reason to
	Locked   bool          // Held
	Cookie   int32         // Held and locked
	LockAge  time.Duration // Held and locked
	Node     string        // Moved: to which node; Backup: whose session it is
	Instance uint64        // Backup, Moved: and in which run of it; Moved: 0 where that is not known
	Epoch    uint64        // Moved: the epoch that it has there
	Stamp    Stamp         // Moved: the stamp that it had then. Of two notes the later stamp is newer, then the higher epoch
	Deleted  Stamp         // Missing, Creating: when it was deleted; 0: not known to have been
	Creating uint64        // Creating, Moved, Backup: the number of its own question about the key; 0: it is not creating it
}
