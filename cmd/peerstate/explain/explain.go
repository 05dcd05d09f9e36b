// Package explain puts together what the nodes of a farm have told of a session (explain.go), says what is odd about it or why there
// may be none (reasons.go), and makes a page of it for an operator (text.go). The session's id is not in it.
package explain

import (
	"cmp"
	"slices"
	"time"

	"peerstate/store"
	"peerstate/transport"
)

// Explanation is what the farm knows of the sessions that were asked for. The JSON names are a promise to other people's
// programs.
type Explanation struct {
	At       time.Time          `json:"at"`
	Node     string             `json:"node"`  // that was asked, and has asked the others
	By       string             `json:"by"`    // what was given: key, id, hash or id
	Found    bool               `json:"found"` // there is one, somewhere: with the very key, or id, that was asked for
	Sessions []explainedSession `json:"sessions"`
	Reasons  []string           `json:"reasons"` // in plain words: what is odd, or why there may be none
	Nodes    []explainedNode    `json:"nodes"`

	application string // that was asked for, with a key
	upstream    string // the old state server, which may have what is nowhere here; "": there is none
}

// explainedNode is a node, and whether it has told what it knows.
type explainedNode struct {
	Node     string     `json:"node"`
	Site     string     `json:"site"`
	NotAsked string     `json:"not_asked,omitempty"` // why it has told nothing
	Up       bool       `json:"up"`
	Gone     bool       `json:"gone,omitempty"` // nobody waits for it: lost, or it has stopped and left nothing
	Started  *time.Time `json:"started,omitempty"`
	// Memory is from when on it remembers sessions that have ended.
	Memory *time.Time `json:"memory,omitempty"`
	More   bool       `json:"more,omitempty"` // it has more sessions than it has told of
}

// explainedSession is one session: what is known under one key.
type explainedSession struct {
	Hash        string `json:"hash"`
	Application string `json:"application"` // its id, with the hash
	Asked       bool   `json:"asked"`       // it has the very key that was asked for
	OtherCase   bool   `json:"other_case"`  // its session id is that in another letter case
	// State is held, moving, doubt, backup, deleted, moved or ended: the most that a node has of it.
	State  string           `json:"state"`
	Holder string           `json:"holder,omitempty"`
	To     string           `json:"to,omitempty"` // moving, doubt: to which node
	Since  *time.Time       `json:"since,omitempty"`
	Before bool             `json:"since_before,omitempty"` // it may have been there before that
	Lock   *explainedLock   `json:"lock,omitempty"`
	Wait   int              `json:"waiting"`
	Size   int64            `json:"bytes"`
	Mins   int32            `json:"timeout_minutes"`
	Ends   *time.Time       `json:"expires,omitempty"` // if nobody asks for it until then
	Wrote  *time.Time       `json:"written,omitempty"` // by the clock of the node that took the write
	New    bool             `json:"uninitialized"`
	Epoch  uint64           `json:"epoch"` // how often it has changed hands
	Copies []explainedCopy  `json:"backups"`
	Events []explainedEvent `json:"events"`
}

type explainedLock struct {
	Cookie  int32     `json:"cookie"`
	Since   time.Time `json:"since"`
	Client  string    `json:"client,omitempty"` // address of the connection that it was taken over
	Open    bool      `json:"client_open"`
	Process string    `json:"process,omitempty"` // at the other end, on the holder's machine
	PID     int       `json:"pid,omitempty"`
}

// explainedCopy is a backup.
type explainedCopy struct {
	Node    string `json:"node"`
	Current bool   `json:"current"` // by the holder's word, it has the last change
	Journal bool   `json:"journal"` // it comes from the node's journal, and has not been compared with the others yet
	Of      string `json:"of"`      // who held it, as that node knows
}

type explainedEvent struct {
	At   time.Time `json:"at"`
	Node string    `json:"node"` // where it happened
	What string    `json:"what"`
	Peer string    `json:"peer,omitempty"`
}

var eventNames = map[store.Event]string{
	store.EventCreated: "created", store.EventCame: "came", store.EventGiven: "given", store.EventPromoted: "promoted", store.EventTakenBack: "taken_back",
	store.EventDeleted: "deleted", store.EventExpired: "expired", store.EventOutdated: "outdated", store.EventTakenOver: "taken_over",
}

// liveStates are those in which there is a session, the best first.
var liveStates = []string{"held", "moving", "doubt", "backup"}

// live tells whether there is a session, somewhere.
func (s *explainedSession) live() bool { return slices.Contains(liveStates, s.State) }

// Of puts together what the nodes have told. Upstream is the address of the old state server, which nobody has asked.
func Of(l store.Lookup, accounts []transport.Account, upstream string, now time.Time) *Explanation {
	x := &Explanation{At: now, Node: accounts[0].Node, By: "id", Sessions: []explainedSession{}, Reasons: []string{}, upstream: upstream}
	switch {
	case l.Key != "":
		x.By = "key"
		app, _ := store.SplitKey(l.Key)
		x.application = "/" + app
	case l.Hash != "":
		x.By = "hash or id"
	}
	byKey := map[[2]string]*explainedSession{}
	for _, a := range accounts {
		n := explainedNode{Node: a.Node, Site: a.Site, NotAsked: a.NotAsked, More: a.More, Up: a.State == transport.Up || a.State == transport.Suspect,
			Gone: a.State == transport.Lost || a.State == transport.Drained}
		if a.NotAsked == "" {
			started, memory := now.Add(-a.Up), now.Add(-a.Memory)
			n.Started, n.Memory = &started, &memory
		}
		x.Nodes = append(x.Nodes, n)
		for i := range a.Traces {
			t := &a.Traces[i]
			s := byKey[[2]string{t.Hash, t.App}]
			if s == nil {
				s = &explainedSession{Hash: t.Hash, Application: "/" + t.App, Asked: t.Asked, OtherCase: t.OtherCase, State: "ended",
					Copies: []explainedCopy{}, Events: []explainedEvent{}}
				byKey[[2]string{t.Hash, t.App}] = s
			}
			s.add(&a, t, now)
		}
	}
	for _, s := range byKey {
		s.settle()
		x.Found = x.Found || s.live() && !s.OtherCase && (l.Key == "" || s.Asked)
		x.Sessions = append(x.Sessions, *s)
	}
	slices.SortFunc(x.Sessions, func(a, b explainedSession) int {
		return cmp.Or(trueFirst(a.Asked, b.Asked), trueFirst(a.live(), b.live()), cmp.Compare(a.Application, b.Application), cmp.Compare(a.Hash, b.Hash))
	})
	x.Reasons = append(x.Reasons, x.reasons()...)
	return x
}

// trueFirst compares so that what is true comes first.
func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// add takes in what one node has of the session.
func (s *explainedSession) add(a *transport.Account, t *transport.Trace, now time.Time) {
	for _, e := range t.Events {
		event := explainedEvent{At: now.Add(-e.Ago), Node: a.Node, What: eventNames[e.What], Peer: e.Peer}
		if !slices.Contains(s.Events, event) { // a node may tell of a session and of a backup of it
			s.Events = append(s.Events, event)
		}
	}
	state := map[store.TraceState]string{store.TraceHeld: "held", store.TraceMoving: "moving", store.TraceDoubt: "doubt", store.TraceMoved: "moved",
		store.TraceDeleted: "deleted", store.TraceBackup: "backup", store.TraceLoaded: "backup", store.TraceEnded: "ended"}[t.State]
	if state == "backup" {
		s.Copies = append(s.Copies, explainedCopy{Node: a.Node, Journal: t.State == store.TraceLoaded, Of: t.Peer})
	}
	order := append(slices.Clone(liveStates), "deleted", "moved", "ended")
	if slices.Index(order, state) > slices.Index(order, s.State) || state == s.State && s.Wrote != nil && t.Stamp <= store.Stamp(s.Wrote.UnixNano()) {
		return
	}
	s.State, s.Holder, s.To, s.Since, s.Before, s.Lock, s.Ends, s.Wrote = state, "", "", nil, false, nil, nil, nil
	s.Wait, s.Size, s.Mins, s.New, s.Epoch = t.Waiting, t.Size, t.Timeout, t.Uninitialized, t.Epoch
	if t.Stamp >= firstStamp { // of what comes from an old state server it is not known
		wrote := time.Unix(0, int64(t.Stamp))
		s.Wrote = &wrote
	}
	if t.Timeout != 0 && state != "backup" { // which lives longer than the session
		ends := now.Add(t.Left)
		s.Ends = &ends
	}
	switch state {
	case "held", "moving", "doubt":
		s.Holder, s.To = a.Node, t.Peer
	default:
		return
	}
	since := now.Add(-t.Since)
	if s.Before = t.Since == 0; s.Before {
		since = now.Add(-a.Memory)
	}
	s.Since = &since
	for _, c := range t.Copies {
		s.Copies = append(s.Copies, explainedCopy{Node: c.Node, Current: c.Current, Of: a.Node})
	}
	if t.Lock != 0 {
		s.Lock = &explainedLock{Cookie: t.Lock, Since: now.Add(-t.LockAge)}
		if c := t.Client; c != nil {
			s.Lock.Client, s.Lock.Open, s.Lock.Process, s.Lock.PID = c.Addr, c.Open, c.Process, c.PID
		}
	}
}

// firstStamp is before any write of this program.
const firstStamp = store.Stamp(1e18) // in 2001

// oneMoment is how far apart two nodes may put the same event: the time that their answers were on their way.
const oneMoment = 5 * time.Second

// settle puts in order what several nodes have told of the same things.
func (s *explainedSession) settle() {
	slices.SortStableFunc(s.Copies, func(a, b explainedCopy) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), trueFirst(a.Of == s.Holder, b.Of == s.Holder), trueFirst(a.Current, b.Current))
	})
	s.Copies = slices.CompactFunc(s.Copies, func(a, b explainedCopy) bool { return a.Node == b.Node })
	slices.SortStableFunc(s.Events, func(a, b explainedEvent) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Node, b.Node)) })
	var told []explainedEvent
	for _, e := range s.Events {
		same := func(o explainedEvent) bool {
			return o.At.Sub(e.At).Abs() < oneMoment && (e.What == "given" && o.What == "came" && o.Node == e.Peer && o.Peer == e.Node ||
				e.What == "deleted" && o.What == "deleted" && o != e && slices.Contains(told, o))
		}
		if !slices.ContainsFunc(s.Events, same) {
			told = append(told, e)
		}
	}
	s.Events = append([]explainedEvent{}, told...)
}
