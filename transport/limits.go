package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"peerstate/store"
)

// A peer proves who it is, and may be in the wrong hands all the same. What it can make this node spend is bounded by
// its name, over all its links and runs, so that it gains nothing by linking anew. Each bound is some times what an
// honest node can do on the fastest machines: it asks some 20,000 questions a second at most, hundreds at a time.
// Where one is met, what only costs time waits for its turn, and the rest is refused in a way that keeps the
// promises: a question is answered "not known", and never "missing".

const (
	// questionRate is how many questions a second are answered over the links of a peer: twice what a node can ask,
	// and some more for what it passes on.
	questionRate = 50_000
	// onwardRate is how many of them are passed on to other nodes: what one node can ask. It is less than
	// questionRate, so that who floods through this node does not use up what the others allow this one.
	onwardRate = 20_000
	// recordRate is how many records a second are taken in or compared: several times what two nodes can do that are
	// on one machine.
	recordRate = 250_000
	// smallBody is up to which size bodies that are arriving are not counted: with 4096 streams they cannot be more
	// than 256 MiB. bodyBytes is for how many bytes larger ones may be under way at a time, or four of the largest
	// size if that is more: five hundred sessions of a megabyte. The next one waits for bodyWait, which is over before
	// a transfer that stands still is given up.
	smallBody = 64 << 10
	bodyBytes = 512 << 20
	bodyWait  = stall / 2
	// controlRate is how many frames a second are read from a control stream: a node sends a handful.
	controlRate  = 1000
	controlBurst = 4000
	// listRate is how many lists of links a second are taken in. When the largest farm starts at once, each of its
	// nodes may tell each of its changes.
	listRate  = 1000
	listBurst = maxLearned * maxLearned
	// hearsayRate is how many nodes a second may be named that were not known, or said to be gone for ever: an
	// operator's acts, and twice the whole of the largest farm at once.
	hearsayRate  = 1
	hearsayBurst = 2 * maxLearned
	// documentRate is how many documents a second are looked at, each for the cost of a signature's check, or sent.
	// They change when an operator does something.
	documentRate  = 10
	documentBurst = 100
	// knockRate is how many connections a second one node makes that may become links. A dialler pauses for two
	// seconds when it fails again and again, and so does one whose links break.
	knockRate  = 2
	knockBurst = 100
	// maxKnocking is how many connections with one node's certificate may be no links yet: one from each side, some
	// while certificates are replaced, and some that only look.
	maxKnocking = 32
)

// What is refused, for the metric. The names are the operator's.
const (
	refusedQuestion  = "question"
	refusedOnward    = "passing_on"
	refusedBody      = "body"
	refusedHearsay   = "hearsay"
	refusedDocument  = "document"
	refusedDoubt     = "doubt"
	refusedDeletion  = "deletion"
	refusedExplain   = "explain"
	refusedUse       = "use"
	refusedHello     = "hello"
	refusedHandshake = "handshake"
)

var refusals = []string{refusedQuestion, refusedOnward, refusedBody, refusedHearsay, refusedDocument, refusedDoubt, refusedHello, refusedHandshake}

// quota is what one node may make this one spend. Safe for concurrent use.
type quota struct {
	peer      string
	mesh      *Mesh
	questions *rate.Limiter
	onward    *rate.Limiter
	records   *rate.Limiter
	control   *rate.Limiter
	lists     *rate.Limiter
	hearsay   *rate.Limiter
	documents *rate.Limiter
	explains  *rate.Limiter
	uses      *rate.Limiter
	knocks    *rate.Limiter
	bodies    *semaphore.Weighted
	most      int64        // of bodies
	knocking  atomic.Int64 // connections that are no links yet
	asking
}

// quotas are those of all nodes that have shown a certificate.
type quotas struct {
	mu  sync.Mutex
	all map[string]*quota
}

// maxQuotas bounds for how many names: there are as many as the farm's CA has issued certificates.
const maxQuotas = 8 * maxLearned

// quota gives that of a node.
func (m *Mesh) quota(name string) *quota {
	m.quotas.mu.Lock()
	defer m.quotas.mu.Unlock()
	if q := m.quotas.all[name]; q != nil {
		return q
	}
	if m.quotas.all == nil || len(m.quotas.all) >= maxQuotas {
		m.quotas.all = map[string]*quota{}
		m.metrics.peerQuestions.Reset()
	}
	most := max(bodyBytes, 4*m.config.MaxBody)
	q := &quota{
		peer: name, mesh: m, most: most, bodies: semaphore.NewWeighted(most),
		questions: rate.NewLimiter(questionRate, questionRate),
		onward:    rate.NewLimiter(onwardRate, onwardRate),
		records:   rate.NewLimiter(recordRate, recordRate),
		control:   rate.NewLimiter(controlRate, controlBurst),
		lists:     rate.NewLimiter(listRate, listBurst),
		hearsay:   rate.NewLimiter(hearsayRate, hearsayBurst),
		documents: rate.NewLimiter(documentRate, documentBurst),
		explains:  rate.NewLimiter(explainRate, explainBurst),
		uses:      rate.NewLimiter(useRate, useBurst),
		knocks:    rate.NewLimiter(knockRate, knockBurst),
		asking:    newAsking(m.metrics.peerQuestions, name),
	}
	m.quotas.all[name] = q
	return q
}

// refuse counts what is not done for a peer, and says so once in a while.
func (q *quota) refuse(what string) {
	q.mesh.metrics.refused.WithLabelValues(what).Inc()
	if q.mesh.repeats.first("quota " + what + " " + q.peer) {
		q.mesh.log.Warn("a peer sends more than any node has reason to, and the rest is refused; look at what runs on that machine, "+
			"and if it is not yours any more, revoke its certificate (peerstate cert revoke)", "peer", q.peer, "refused", what)
	}
}

// allow tells whether one more is within a limit, and counts it as refused otherwise.
func (q *quota) allow(limit *rate.Limiter, what string) bool {
	if limit.Allow() {
		return true
	}
	q.refuse(what)
	return false
}

// errTooMuch ends a stream that asks for more than a peer may.
var errTooMuch = errors.New("the peer asks for more than any node has reason to")

// body waits until a body of that size may come, for bodyWait at most. done is to be called
// when it has come, or has not.
func (q *quota) body(ctx context.Context, size int64) (done func(), err error) {
	if size <= smallBody {
		return func() {}, nil
	}
	size = min(size, q.most)
	if !q.bodies.TryAcquire(size) {
		ctx, cancel := context.WithTimeout(ctx, bodyWait)
		defer cancel()
		if err := q.bodies.Acquire(ctx, size); err != nil {
			q.refuse(refusedBody)
			return nil, fmt.Errorf("%w: bodies of more than %d bytes at a time", errTooMuch, q.most)
		}
	}
	return func() { q.bodies.Release(size) }, nil
}

// knock counts in a connection that is no link yet; in counts it out, once.
func (q *quota) knock() (in func(), ok bool) {
	if q.knocking.Add(1) > maxKnocking || !q.knocks.Allow() {
		q.knocking.Add(-1)
		q.refuse(refusedHello)
		return nil, false
	}
	return sync.OnceFunc(func() { q.knocking.Add(-1) }), true
}

// asking counts a peer's questions, for the metric and the alarm.
type asking struct {
	known, missing, unknown prometheus.Counter
	// since the alarm looked last; only questions for sessions that must be somewhere.
	asked, hits atomic.Int64
	before      atomic.Int64 // hits, between that and when it looked the time before
}

func newAsking(questions *prometheus.CounterVec, peer string) asking {
	return asking{
		known:   questions.WithLabelValues(peer, "known"),
		missing: questions.WithLabelValues(peer, "missing"),
		unknown: questions.WithLabelValues(peer, "not_known"),
	}
}

// answered counts a question by what this node has said to it. A node that is about to create a key asks for one that
// it expects to be missing: such a question is no sign of anything.
func (a *asking) answered(want store.Want, rep *store.Reply) {
	known := rep.Kind != store.ReplyMissing || rep.Deleted != 0
	if rep.Kind == store.ReplyNotKnown {
		a.unknown.Inc()
		return
	}
	if known {
		a.known.Inc()
	} else {
		a.missing.Inc()
	}
	if want == store.Create {
		return
	}
	a.asked.Add(1)
	if known {
		a.hits.Add(1)
	}
}
