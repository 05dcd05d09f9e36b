package transport

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"peerstate/store"
)

// strict tells whether a plan promises that nothing at all is lost.
func (p *plan) strict() bool { return p.kind != simSplits }

// check compares what came of a plan with what its kind promises, and gives all that is wrong.
func (s *simulation) check(t *testing.T) (wrong []string, undecided int) {
	for i := range s.plan.sessions {
		report := func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("session %d: ", i)+fmt.Sprintf(format, args...))
		}
		s.checkEnd(i, report)
		s.checkAdditions(i, report)
		s.checkLocks(i, report)
		if !s.plan.strict() {
			continue
		}
		problem, open := s.linearizable(t, i)
		if problem != "" {
			report("%s", problem)
		}
		if open {
			undecided++
		}
	}
	if n := len(s.dropped("")); n != s.conflicts() {
		wrong = append(wrong, fmt.Sprintf("%d stale copies are counted, and %d logged", s.conflicts(), n))
	}
	if s.plan.strict() {
		for _, f := range s.failed {
			if s.plan.kind == simJournals && strings.Contains(f, "from the journal could not be compared") {
				continue // another node that may have them was off, too; they are there when both are back
			}
			wrong = append(wrong, "a stop did not hand everything over: "+f)
		}
	}
	return wrong, undecided
}

// checkEnd: one node holds the session in the end.
func (s *simulation) checkEnd(session int, report func(string, ...any)) {
	switch holders := s.holders[session]; {
	case s.final[session] == "unreadable":
		report("it cannot be read in the end")
	case len(holders) > 1:
		report("held by %v in the end", holders)
	case len(holders) == 0 && s.plan.strict() && s.began(session):
		report("it is nowhere in the end")
	}
}

// began tells whether anybody was told that the session is stored.
func (s *simulation) began(session int) bool {
	return slices.ContainsFunc(s.history, func(op *visitOp) bool {
		return op.session == session && op.r.Op == store.Put && op.reached == answered && op.answer.Status == store.OK
	})
}

// checkAdditions: what was acknowledged is there in the end, once; what was refused is not. Where a plan
// allows for losses, each is accounted for.
func (s *simulation) checkAdditions(session int, report func(string, ...any)) {
	final := strings.Fields(s.final[session])
	for i, id := range final {
		if slices.Contains(final[:i], id) {
			report("addition %s is there twice", id)
		}
	}
	var missing []*visitOp
	for _, op := range s.history {
		if op.session != session || op.r.Op != store.Put || op.r.Flags != 0 {
			continue
		}
		there := slices.Contains(final, op.id())
		stored := op.reached == answered && op.answer.Status == store.OK
		switch {
		case stored && !there:
			missing = append(missing, op)
		case !stored && op.reached != broken && there:
			report("addition %s was refused, and is there:\n%s", op.id(), s.excerpt(session, op.ret))
		}
	}
	// Additions that were lost with one copy follow each other; the last of them stands for them all.
	last := slices.DeleteFunc(slices.Clone(missing), func(op *visitOp) bool {
		return slices.ContainsFunc(missing, func(later *visitOp) bool {
			return later != op && slices.Contains(strings.Fields(string(later.r.Body)), op.id())
		})
	})
	accounts := 0
	if !s.plan.strict() {
		accounts = len(s.dropped(store.KeyHash(s.key(session))))
		for _, l := range s.losses {
			if l.session == session {
				accounts++
			}
		}
	}
	if len(last) > accounts {
		first := missing[0]
		report("%d additions are acknowledged and missing, from %d copies, and %d conflicts or crashes account for them; the first is %s:\n%s",
			len(missing), len(last), accounts, first.id(), s.excerpt(session, first.ret))
	}
}

// dropped are the lines that nodes have logged about stale copies of a session that they dropped; of all
// sessions, without a hash.
func (s *simulation) dropped(hash string) (lines []string) {
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "two nodes had a copy of one session") && strings.Contains(line, "session="+hash) {
			lines = append(lines, line)
		}
	}
	return lines
}

// tenure is the time in which a page may write with a lock.
type tenure struct {
	got      *visitOp
	from, to time.Duration
}

// tenures are the times in which pages had the session's lock, in the order in which they got it.
func (s *simulation) tenures(session int) (all []tenure) {
	for i, op := range s.history {
		if op.session != session || op.r.Op != store.Acquire || op.reached != answered || op.answer.Status != store.OK {
			continue
		}
		t := tenure{op, op.ret, s.plan.load + time.Hour}
		for _, next := range s.history[i+1:] {
			ends := next.session == session && next.r.Cookie == op.answer.Cookie
			if next.client == op.client && next.call >= op.ret || ends && next.call >= op.ret {
				t.to = next.call // the page is over, or somebody breaks its lock
				break
			}
		}
		for _, l := range s.losses {
			if l.session == session && l.at >= op.call {
				t.to = min(t.to, l.at) // it died with its holder
			}
		}
		all = append(all, t)
	}
	slices.SortStableFunc(all, func(a, b tenure) int { return cmp.Compare(a.from, b.from) })
	return all
}

// checkLocks: no lock is given while another page has it. Where both sides of a split may serve a session
// that is promised only for those of one side.
func (s *simulation) checkLocks(session int, report func(string, ...any)) {
	all := s.tenures(session)
	for i, a := range all {
		for _, b := range all[i+1:] {
			if b.from >= a.to {
				break
			}
			if s.together(a.got, b.got) {
				report("its lock is held twice, by clients %d and %d:\n%s", a.got.client, b.got.client, s.excerpt(session, b.from))
				return
			}
		}
	}
	for _, op := range s.history {
		if op.session == session && s.plan.strict() && op.r.Op == store.Put && op.reached == answered && op.answer.Status == store.Locked && !s.brokenBy(session, op.r.Cookie) {
			report("client %d lost its lock %d:\n%s", op.client, op.r.Cookie, s.excerpt(session, op.ret))
		}
	}
}

// brokenBy tells whether somebody has broken a lock for its age.
func (s *simulation) brokenBy(session int, cookie int32) bool {
	return slices.ContainsFunc(s.history, func(op *visitOp) bool {
		return op.session == session && op.r.Op == store.Release && op.r.Cookie == cookie
	})
}

// meet is how long after a split two copies of a session may both be served.
const meet = 20 * time.Second

// together tells whether two locks were given on the same side of everything that was cut, at times between which
// nothing was cut or joined again.
func (s *simulation) together(a, b *visitOp) bool {
	if s.plan.strict() {
		return true
	}
	for _, t := range s.plan.troubles {
		if t.what == "loss" || t.what == "slow" {
			continue
		}
		in := func(op *visitOp) bool { return op.ret >= t.from && op.call < t.to+meet }
		if !in(a) && !in(b) {
			continue
		}
		same := slices.Contains(t.nodes, a.node) == slices.Contains(t.nodes, b.node)
		during := func(op *visitOp) bool { return op.call >= t.from && op.ret < t.to }
		if t.what == "split" && same && during(a) && during(b) {
			continue
		}
		return false
	}
	// A crash may bring an older copy back, as a receiver that is out does.
	for _, l := range s.losses {
		if l.at <= b.ret && b.call < l.at+meet {
			return false
		}
	}
	return true
}
