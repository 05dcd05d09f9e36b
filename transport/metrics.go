package transport

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"peerstate/store"
)

const (
	incoming = "in"
	outgoing = "out"
)

// metrics are the counters of the mesh.
type metrics struct {
	fetches    *prometheus.CounterVec
	seconds    prometheus.Histogram
	handovers  *prometheus.CounterVec
	backups    *prometheus.CounterVec
	questions  *prometheus.CounterVec
	misbehaved prometheus.Counter
	// peerQuestions are counted by the node that they came from, or through; refused is what was not done since
	// somebody wanted too much.
	peerQuestions *prometheus.CounterVec
	refused       *prometheus.CounterVec
	alarms        prometheus.Counter
	documents     *prometheus.CounterVec
	handled       prometheus.Counter
	seen          prometheus.Counter
	followed      prometheus.Counter
}

func newMetrics() *metrics {
	x := makeMetrics()
	// Each is there from the beginning, so that a first event is seen as a rise.
	for _, o := range outcomes {
		x.fetches.WithLabelValues(o)
	}
	for _, result := range []string{"received", "declined", "broken"} {
		x.handovers.WithLabelValues(outgoing, result)
		x.handovers.WithLabelValues(incoming, result)
	}
	for _, result := range []string{"kept", "refused"} {
		x.backups.WithLabelValues(outgoing, result)
	}
	x.backups.WithLabelValues(incoming, "kept")
	return x
}

func makeMetrics() *metrics {
	questions := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peerstate_questions_total",
		Help: "Questions that came from other nodes: handled; seen, when they had come before another way; followed, when the session was said to be here."}, []string{"result"})
	x := &metrics{
		questions: questions, handled: questions.WithLabelValues("handled"), seen: questions.WithLabelValues("seen"), followed: questions.WithLabelValues("followed"),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peerstate_fetches_total",
			Help: "Questions to the other nodes for a session that is not here, by result."}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "peerstate_fetch_seconds",
			Help:    "Time until a question to the other nodes was decided.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12)}),
		handovers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peerstate_handovers_total",
			Help: "Sessions handed over, by direction and result."}, []string{"direction", "result"}),
		backups: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peerstate_backups_total",
			Help: "Changes of sessions sent to other nodes that keep backups, and received from others, by result."}, []string{"direction", "result"}),
		documents: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peerstate_documents_total",
			Help: "Documents of the farm's issuer that came and were not known yet: accepted, or refused."}, []string{"result"}),
		peerQuestions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peerstate_peer_questions_total",
			Help: "Questions for sessions that came from a node, for itself or others: known, when something is known of the session here; missing; not_known, when it could not be said, or the node asks too much."},
			[]string{"peer", "result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "peerstate_peer_refused_total",
			Help: "What was refused since a peer, or a stranger (handshake), sent more than any node has reason to, by what it was."}, []string{"what"}),
		alarms: prometheus.NewCounter(prometheus.CounterOpts{Name: "peerstate_peer_alarms_total",
			Help: "Minutes in which a peer asked for very many sessions that nobody has."}),
		misbehaved: prometheus.NewCounter(prometheus.CounterOpts{Name: "peerstate_peer_violations_total",
			Help: "Links closed because a peer sent what no peer sends."}),
	}
	x.begin()
	return x
}

// begin shows what can be counted as 0 from the start: an alert on an increase misses the first one otherwise.
func (x *metrics) begin() {
	for _, result := range outcomes {
		x.fetches.WithLabelValues(result)
	}
	for direction, results := range map[string][]string{
		incoming: {"received", "declined", "refused", "no memory", "broken"},
		outgoing: {"received", "declined", "doubt", "resolved", "broken"},
	} {
		for _, result := range results {
			x.handovers.WithLabelValues(direction, result)
		}
	}
	for direction, results := range map[string][]string{
		incoming: {"kept", "not kept", "promoted"},
		outgoing: {"kept", "lacking", "busy", "newer", "refused"},
	} {
		for _, result := range results {
			x.backups.WithLabelValues(direction, result)
		}
	}
	for _, result := range []string{"accepted", "refused"} {
		x.documents.WithLabelValues(result)
	}
	for _, what := range refusals {
		x.refused.WithLabelValues(what)
	}
}

var outcomes = map[store.Outcome]string{store.NotKnown: "not_known", store.Missing: "missing", store.Arrived: "arrived", store.Held: "held"}

func (x *metrics) asked(o store.Outcome, d time.Duration) {
	x.fetches.WithLabelValues(outcomes[o]).Inc()
	x.seconds.Observe(d.Seconds())
}

func (x *metrics) handover(direction, result string) {
	x.handovers.WithLabelValues(direction, result).Inc()
}

func (x *metrics) backup(direction, result string) {
	x.backups.WithLabelValues(direction, result).Inc()
}

// Collectors are the mesh's metrics, for the admin listener.
func (m *Mesh) Collectors() []prometheus.Collector {
	x := m.metrics
	return []prometheus.Collector{x.fetches, x.seconds, x.handovers, x.backups, x.questions, x.misbehaved, x.documents, x.peerQuestions, x.refused, x.alarms}
}

// Fetches are the questions to the other nodes since the mesh was made.
type Fetches struct {
	Results map[string]uint64 // by result, as in peerstate_fetches_total
	Count   uint64
	Seconds float64   // in all
	Bounds  []float64 // in seconds
	// Cumulative is how many took at most Bounds[i].
	Cumulative []uint64
}

// Fetches reads the counters of questions.
func (m *Mesh) Fetches() (Fetches, error) {
	x := Fetches{Results: map[string]uint64{}}
	for _, result := range outcomes {
		var c dto.Metric
		if err := m.metrics.fetches.WithLabelValues(result).Write(&c); err != nil {
			return x, err
		}
		x.Results[result] = uint64(c.GetCounter().GetValue())
	}
	var h dto.Metric
	if err := m.metrics.seconds.Write(&h); err != nil {
		return x, err
	}
	x.Count, x.Seconds = h.GetHistogram().GetSampleCount(), h.GetHistogram().GetSampleSum()
	for _, b := range h.GetHistogram().GetBucket() {
		x.Bounds, x.Cumulative = append(x.Bounds, b.GetUpperBound()), append(x.Cumulative, b.GetCumulativeCount())
	}
	return x, nil
}
