package transport

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"peerstate/store"
)

// lockedValue is a session as the state protocol has it ([MS-ASP] 3.1.5), with all copies and moves left out:
// what a single state server would have.
type lockedValue struct {
	exists bool
	fresh  bool // nobody has been told to initialise it
	untold int  // not fresh any more by this read, whose client never got the answer, and not written since; 0: none
	unsure bool // it may be fresh: what nobody was told may have died with its holder, or not
	undo   int  // the read that has the lock, and takes it back; 0: none
	body   string
	cookie int32 // the last lock's
	lock   int32 // 0: unlocked; somebody: locked, by a cookie that nobody was told
	dead   int32 // cookies up to this one are of locks that died with their holder
	wrote  bool  // locked or written since
}

const somebody = -1

// input of an operation of the model: a request, or the crash of the node that held the session, or the two halves
// of a read of which the backups did not hear in time: it may have been carried out, and in the end it is taken back.
type input struct {
	r        store.Request
	crash    bool
	undo     int // the number of such a read; 0: it is none
	takeBack bool
}

// output: with unknown it is not known whether the request was carried out.
type output struct {
	answer  store.Answer
	unknown bool
}

var simHash = maphash.MakeSeed()

// counterModel is the specification that histories are compared with.
var counterModel = porcupine.Model{
	Init:  func() any { return lockedValue{} },
	Step:  func(state, in, out any) (bool, any) { return state.(lockedValue).step(in.(input), out.(output)) },
	Equal: func(a, b any) bool { return a.(lockedValue) == b.(lockedValue) },
	Hash:  func(state any) uint64 { return maphash.Comparable(simHash, state.(lockedValue)) },
	DescribeOperation: func(in, out any) string {
		return describe(in.(input), out.(output))
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
}

// step tells whether a request can be answered so in this state, and what the state is then. A
// request whose outcome is not known can always be put behind all others, where it changes nothing that
// anybody sees; so here it is carried out.
func (v lockedValue) step(in input, out output) (bool, lockedValue) {
	if in.crash {
		// Whether the copy that lives on shows the lock is not promised; if it does not, its cookie is dead.
		if v.lock != 0 {
			v.lock, v.dead, v.wrote = 0, v.cookie, false
		}
		v.unsure, v.untold = v.unsure || v.untold != 0, 0
		return true, v
	}
	if in.undo != 0 {
		return true, v.tentative(in)
	}
	a := out.answer
	switch in.r.Op {
	case store.Get, store.Acquire:
		return v.read(in.r, a, out.unknown)
	case store.Put:
		return v.put(in.r, a, out.unknown)
	case store.Release:
		if out.unknown {
			v.unsure = v.hush(somebody) || v.unsure // it may have been taken back
		} else if (a.Status == store.OK || a.Init) && !v.tell(a.Init) {
			return false, v
		}
		mine := v.lock == in.r.Cookie || v.lock == somebody && in.r.Cookie > v.cookie
		switch {
		case out.unknown:
			if v.exists && mine {
				v.lock = 0
			}
			return true, v
		case a.Status == store.NotFound:
			return !v.exists, v
		case a.Status == store.Locked:
			return v.exists && v.lock != 0 && v.lock != in.r.Cookie, v
		}
		if v.lock == 0 || mine {
			if mine {
				v.cookie, v.lock = max(v.cookie, in.r.Cookie), 0
			}
			return v.exists && a.Status == store.OK, v
		}
	}
	return false, v
}

// tell notes whether an answer says that the session is to be initialised. It is false if it must not say so:
// exactly one client is told, and no other one ever after.
func (v *lockedValue) tell(init bool) bool {
	if v.fresh != init && !v.unsure {
		return false
	}
	if v.fresh, v.unsure = false, false; init {
		v.untold = 0
	}
	return true
}

// hush is tell for an answer that nobody got; false: it would not have said so. Somebody else may be told instead, but
// only if the node that knew of it has crashed: what its backups know of stays so.
func (v *lockedValue) hush(read int) bool {
	if !v.exists || v.lock != 0 || !v.fresh && !v.unsure {
		return false
	}
	v.fresh, v.untold, v.unsure = false, read, false
	return true
}

// tentative is a half of a read that is taken back. Nobody was told anything by it, but meanwhile others see its lock,
// and are not told to initialise the session. Who got there in between stays.
func (v lockedValue) tentative(in input) lockedValue {
	if !in.takeBack {
		if v.hush(in.undo) && in.r.Op == store.Acquire {
			v.lock, v.undo = somebody, in.undo
		}
		return v
	}
	if v.undo == in.undo {
		v.lock, v.undo = 0, 0
	}
	if v.untold == in.undo && v.lock == 0 {
		v.unsure, v.untold = true, 0
	}
	return v
}

func (v lockedValue) read(r store.Request, a store.Answer, unknown bool) (bool, lockedValue) {
	switch {
	case unknown: // nobody was told the cookie
		v.hush(somebody)
		if r.Op == store.Acquire && v.exists && v.lock == 0 {
			v.lock, v.wrote, v.undo = somebody, true, 0
		}
		return true, v
	case a.Status == store.NotFound:
		return !v.exists, v
	case !v.exists:
		return false, v
	case a.Status == store.Locked:
		if a.Init && !v.tell(true) {
			return false, v
		}
		if v.lock == somebody && a.Cookie > v.cookie {
			v.lock, v.cookie = a.Cookie, a.Cookie
		}
		return v.lock == a.Cookie && a.Cookie != 0, v
	case a.Status != store.OK || v.lock != 0 || string(a.Body) != v.body || !v.tell(a.Init):
		return false, v
	}
	if r.Op == store.Acquire {
		if a.Cookie <= v.cookie {
			return false, v // given before
		}
		v.lock, v.cookie, v.wrote, v.undo = a.Cookie, a.Cookie, true, 0
	}
	return true, v
}

func (v lockedValue) put(r store.Request, a store.Answer, unknown bool) (bool, lockedValue) {
	insert := r.Flags&store.FlagUninitialized != 0
	died := r.Cookie > 0 && r.Cookie <= v.dead && v.wrote
	can := !v.exists || insert || !died && (v.lock == 0 || v.lock == r.Cookie)
	switch {
	case a.Status == store.Locked && !unknown:
		return v.exists && !insert && v.lock != 0 && v.lock != r.Cookie, v
	case !can:
		return unknown, v
	case a.Status != store.OK && !unknown:
		return false, v
	case !v.exists:
		return true, lockedValue{exists: true, fresh: insert, body: string(r.Body), cookie: max(v.cookie, 1), wrote: true}
	case !insert:
		v.body, v.lock, v.wrote, v.untold = string(r.Body), 0, true, 0
	}
	return true, v
}

// operations makes porcupine's history of a session up to a time. What was under way then has an unknown
// outcome, and so has what got no answer.
func (s *simulation) operations(session int, until time.Duration) (all []porcupine.Operation) {
	for i, op := range s.history {
		if op.session != session || op.call > until || op.reached == refused || s.plan.crashes() && s.sawLost(op) {
			continue
		}
		x := porcupine.Operation{ClientId: op.client, Input: input{r: op.r}, Call: int64(op.call), Return: int64(op.ret), Output: output{answer: op.answer}}
		if op.answer.Status == store.Locked {
			x.Call = int64(s.sharedSince(op))
		}
		if op.reached == broken || op.ret > until {
			x.Return, x.Output = math.MaxInt64, output{unknown: true}
		} else if op.answer.Status == store.Unknown {
			if s.plan.kind != simCrashes || op.call == op.ret {
				continue
			}
			x.Input, x.Return = input{r: op.r, undo: i + 1}, int64(op.ret-1)
			all = append(all, x)
			x.Input, x.Call, x.Return = input{r: op.r, undo: i + 1, takeBack: true}, int64(op.ret), int64(op.ret)
		}
		all = append(all, x)
	}
	for _, l := range s.losses {
		if l.session == session && l.at <= until {
			all = append(all, porcupine.Operation{ClientId: 0, Input: input{crash: true}, Output: output{},
				Call: int64(l.at), Return: math.MaxInt64})
		}
	}
	return all
}

// sawLost tells whether a page read what another had written shortly before a crash, and was never told to be
// stored: it was not safe, and is gone. What was seen of it is not held against the farm.
func (s *simulation) sawLost(op *visitOp) bool {
	if op.r.Op != store.Get && op.r.Op != store.Acquire || op.answer.Status != store.OK {
		return false
	}
	final := strings.Fields(s.final[op.session])
	return slices.ContainsFunc(strings.Fields(string(op.answer.Body)), func(id string) bool {
		return strings.Contains(id, ".") && strings.Trim(id, ".") != "" && !slices.Contains(final, id)
	})
}

// sharedSince is when the question may have been put whose answer a request got: requests of one node for one
// session share a question, and so one that comes late may be told that the session was locked a moment before
// it came. Its client asks again.
func (s *simulation) sharedSince(op *visitOp) time.Duration {
	since := op.call
	for _, o := range s.history {
		if o.session == op.session && o.node == op.node && o.call < op.call && o.ret >= op.call {
			since = min(since, o.call)
		}
	}
	return since
}

// checkFor is how long a history may be thought about, in real time.
const checkFor = 5 * time.Second

// linearizable compares the history of a session with the model. Where it does not fit, the text says up to which
// answer it does, with what went on before.
func (s *simulation) linearizable(t *testing.T, session int) (problem string, undecided bool) {
	all := s.operations(session, math.MaxInt64)
	switch porcupine.CheckOperationsTimeout(counterModel, all, checkFor) {
	case porcupine.Ok:
		return "", false
	case porcupine.Unknown:
		return "", true
	}
	var answers []time.Duration
	for _, op := range s.history {
		if op.session == session && op.reached == answered {
			answers = append(answers, op.ret)
		}
	}
	slices.Sort(answers)
	n, _ := slices.BinarySearchFunc(answers, true, func(at time.Duration, _ bool) int {
		if porcupine.CheckOperationsTimeout(counterModel, s.operations(session, at), checkFor) == porcupine.Illegal {
			return 0
		}
		return -1
	})
	at := answers[min(n, len(answers)-1)]
	if testing.Verbose() {
		_, info := porcupine.CheckOperationsVerbose(counterModel, s.operations(session, at), checkFor)
		path := filepath.Join(os.TempDir(), fmt.Sprintf("simulate-%s-%d-session-%d.html", s.plan.kind, s.plan.seed, session))
		if err := porcupine.VisualizePath(counterModel, info, path); err != nil {
			t.Errorf("drawing the history: %v", err)
		} else {
			t.Logf("the history, drawn: %s", path)
		}
	}
	return fmt.Sprintf("no single state server would have answered so; it fits until %v:\n%s", at, s.excerpt(session, at)), false
}

// excerpt is what went on in a session about a time.
func (s *simulation) excerpt(session int, about time.Duration) string {
	const before, after = 30, 6
	var ops []*visitOp
	for _, op := range s.history {
		if op.session == session {
			ops = append(ops, op)
		}
	}
	slices.SortStableFunc(ops, func(a, b *visitOp) int { return cmp.Compare(a.ret, b.ret) })
	n, _ := slices.BinarySearchFunc(ops, about, func(op *visitOp, at time.Duration) int { return cmp.Compare(op.ret, at+1) })
	var b strings.Builder
	for _, op := range ops[max(n-before, 0):min(n+after, len(ops))] {
		fmt.Fprintf(&b, "    %v\n", op)
	}
	for _, l := range s.losses {
		if l.session == session {
			fmt.Fprintf(&b, "    (%v: %s of %s, which held the session)\n", l.at, l.what, l.node)
		}
	}
	return b.String()
}

func (op *visitOp) String() string {
	out := describe(input{r: op.r}, output{answer: op.answer, unknown: op.reached == broken || op.answer.Status == store.Unknown})
	if op.reached == refused {
		out = op.r.Op.String() + ": nobody listens"
	}
	return fmt.Sprintf("%9.4fs to %9.4fs  client %d on %s: %s", op.call.Seconds(), op.ret.Seconds(), op.client, op.node, out)
}

func describe(in input, out output) string {
	if in.crash {
		return "crash"
	}
	s := in.r.Op.String()
	if in.takeBack {
		return s + ": taken back"
	}
	if in.r.Cookie >= 0 {
		s += fmt.Sprintf(" with cookie %d", in.r.Cookie)
	}
	if in.r.Op == store.Put {
		s += fmt.Sprintf(", %s", brief(in.r.Body))
	}
	if in.r.Flags != 0 {
		s += ", if there is none"
	}
	a := out.answer
	switch {
	case out.unknown:
		return s + ": not known"
	case a.Status == store.OK && in.r.Op == store.Acquire:
		s += fmt.Sprintf(": cookie %d, %s", a.Cookie, brief(a.Body))
	case a.Status == store.OK && in.r.Op == store.Get:
		s += fmt.Sprintf(": %s", brief(a.Body))
	case a.Status == store.Locked:
		s += fmt.Sprintf(": locked by %d for %v", a.Cookie, a.LockAge.Round(time.Millisecond))
	case a.Status == store.NotFound:
		s += ": not found"
	default:
		s += ": done"
	}
	if a.Init {
		s += ", to be initialised"
	}
	return s
}

// brief is a counter's value and its last additions.
func brief(body []byte) string {
	all := strings.Fields(string(body))
	if len(all) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d (.. %s)", len(all)-1, strings.Join(all[max(len(all)-3, 0):], " "))
}
