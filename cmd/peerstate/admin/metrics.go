package admin

import (
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is what /metrics shows, besides Config.Collectors: counted since the start where it is a
// count. The parts of the program count for themselves; it is all collected when somebody asks.
type Metrics struct {
	// The counters of the Windows performance object "ASP.NET State Service".
	SessionsActive    int
	SessionsTotal     uint64
	SessionsAbandoned uint64
	SessionsTimedOut  uint64

	LockWaiters   int // requests, and other nodes, that wait for a session
	SessionsBytes int64
	MemoryUsed    int64      // of what PEERSTATE_MAX_MEMORY allows, as it counts
	MemoryLimit   int64      // 0: none
	MemoryRefused []Labelled // what
	Conflicts     uint64     // stale copies dropped
	StampsAhead   uint64     // records from a clock that is far ahead

	Requests           []Labelled // op, status
	RequestSeconds     []Timed    // op
	Connections        int
	ConnectionsRefused uint64 // above PEERSTATE_MAX_CONNS
	BadRequests        uint64 // answered 400 for being no request of the state protocol
	Undone             uint64 // answers taken back as their client was gone
	SlowClients        uint64 // cut for sending or reading too slowly

	Journal      *Journal             // nil: memory only
	Farm         *Farm                // nil: stand-alone
	Certificates map[string]time.Time // "leaf" and "ca": when it ends
}

// Journal is what there is only with a data directory.
type Journal struct {
	Bytes    int64  // on disk
	Unsynced int64  // that are not
	Unforced uint64 // writes that were to wait for the disk and were answered without
}

// Farm is what there is only with peers.
type Farm struct {
	Document    uint64         // number of the farm's document in force
	InDoubt     int            // hand-overs of which it is not known whether they arrived
	Unsafe      int            // sessions whose last change too few other nodes have
	UnsafeFor   time.Duration  // how long the oldest of those has been on its way
	Unsynced    uint64         // writes that waited for backups in vain
	Backups     int            // kept for other nodes
	BackupBytes int64          // of their keys and contents
	Peers       map[string]int // by state; with a 0 for each state that no peer is in
	PeerRTT     map[string]time.Duration
}

// Labelled is a number under the labels of its metric, in their order.
type Labelled struct {
	Labels []string
	Value  uint64
}

// Timed is a histogram under one label.
type Timed struct {
	Label string
	Histogram
}

// Histogram is how long something took.
type Histogram struct {
	Count      uint64
	Seconds    float64   // in all
	Bounds     []float64 // in seconds, rising
	Cumulative []uint64  // how many took at most Bounds[i]
}

// The metrics' names and labels are a promise to other people's dashboards and alerts.
var (
	sessionsActive    = desc("sessions_active", "Sessions that this node holds.")
	sessionsTotal     = desc("sessions_total", "Sessions created.")
	sessionsAbandoned = desc("sessions_abandoned_total", "Sessions ended by the application.")
	sessionsTimedOut  = desc("sessions_timed_out_total", "Sessions ended by their own time.")
	lockWaiters       = desc("lock_waiters", "Requests, and other nodes, that wait for a session.")
	sessionsBytes     = desc("sessions_bytes", "Keys and contents of the sessions that this node holds.")
	memoryUsed        = desc("memory_bytes", "What sessions, backups and notes take, and what is being received, as PEERSTATE_MAX_MEMORY counts it.")
	memoryLimit       = desc("memory_limit_bytes", "PEERSTATE_MAX_MEMORY; 0 when there is no limit.")
	memoryRefused     = desc("memory_refused_total", "What was refused for want of memory: write, its page got an error; handover, the session stayed with its node; backup, it went to another node.", "what")
	conflicts         = desc("conflicts_total", "Stale copies of sessions that were dropped.")
	stampsAhead       = desc("stamps_ahead_total", "Records from a node whose clock is more than a minute ahead.")

	requests           = desc("requests_total", "Requests of the web server.", "op", "status")
	requestSeconds     = desc("request_seconds", "From a complete request to its answer, with all waiting for peers.", "op")
	connections        = desc("connections", "Connections from web servers.")
	connectionsRefused = desc("connections_refused_total", "Connections closed at once for being too many.")
	badRequests        = desc("bad_requests_total", "What was refused for being no request of the state protocol.")
	undone             = desc("answers_undone_total", "Locks taken back because their client was gone before it could be told.")
	slowClients        = desc("slow_clients_total", "Connections cut because a request or an answer took too long.")

	journalBytes    = desc("journal_bytes", "Size of the journal on disk.")
	journalUnsynced = desc("journal_unsynced_bytes", "Changes that are not on disk yet: a power cut now would take them.")
	journalUnforced = desc("journal_unforced_total", "Writes that were to wait for the disk (PEERSTATE_DATA_SYNC=always) and were answered without.")

	inDoubt       = desc("handovers_in_doubt", "Sessions of which it is not known yet whether they arrived.")
	backupPending = desc("backup_pending", "Sessions whose last change too few other nodes have: a crash of this node now may lose it.")
	backupAge     = desc("backup_pending_seconds", "How long the oldest change has been waiting to be sent to a node that keeps backups, or for its receipt.")
	backupUnsafe  = desc("backup_unsynced_total", "Writes, and first reads of sessions to be initialised, that were to wait for their backups (PEERSTATE_BACKUP_SYNC) and had none in time.")
	backupsKept   = desc("backups_kept", "Backups of other nodes' sessions that are kept here.")
	backupsBytes  = desc("backups_bytes", "Keys and contents of those backups.")
	peers         = desc("peers", "Peers by state.", "state")
	peerRTT       = desc("peer_rtt_seconds", "Round-trip time to a linked peer.", "peer")

	certificateExpiry = desc("certificate_expiry_seconds", "Time left until a certificate ends; below 0 when it has.", "kind")
	documentNumber    = desc("document_number", "Number of the farm's document that is in force here; 0 when there is none.")
	readiness         = desc("ready", "1 when /readyz answers 200.")
	buildInfo         = desc("build_info", "Always 1.", "version", "go_version")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("peerstate_"+name, help, labels, nil)
}

// metrics serves a registry of its own: nothing that a library registers on the side is shown.
func metrics(c Config) http.Handler {
	return promhttp.HandlerFor(registry(c), promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(c.Log.Handler(), slog.LevelError),
		MaxRequestsInFlight: 4,
	})
}

func registry(c Config) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(c.Collectors...)
	r.MustRegister(collector{c}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// collector turns a snapshot into Prometheus' form.
type collector struct{ Config }

// Describe sends nothing: what is collected depends on whether there are peers.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	histogram := func(d *prometheus.Desc, h Histogram, labels ...string) {
		below := make(map[float64]uint64, len(h.Bounds))
		for i, bound := range h.Bounds {
			below[bound] = h.Cumulative[i]
		}
		out <- prometheus.MustNewConstHistogram(d, h.Count, h.Seconds, below, labels...)
	}

	m := c.Source.Metrics()
	gauge(sessionsActive, float64(m.SessionsActive))
	counter(sessionsTotal, m.SessionsTotal)
	counter(sessionsAbandoned, m.SessionsAbandoned)
	counter(sessionsTimedOut, m.SessionsTimedOut)
	gauge(lockWaiters, float64(m.LockWaiters))
	gauge(sessionsBytes, float64(m.SessionsBytes))
	gauge(memoryUsed, float64(m.MemoryUsed))
	gauge(memoryLimit, float64(m.MemoryLimit))
	for _, r := range m.MemoryRefused {
		counter(memoryRefused, r.Value, r.Labels...)
	}
	counter(conflicts, m.Conflicts)
	counter(stampsAhead, m.StampsAhead)

	for _, r := range m.Requests {
		counter(requests, r.Value, r.Labels...)
	}
	for _, h := range m.RequestSeconds {
		histogram(requestSeconds, h.Histogram, h.Label)
	}
	gauge(connections, float64(m.Connections))
	counter(connectionsRefused, m.ConnectionsRefused)
	counter(badRequests, m.BadRequests)
	counter(undone, m.Undone)
	counter(slowClients, m.SlowClients)

	if j := m.Journal; j != nil {
		gauge(journalBytes, float64(j.Bytes))
		gauge(journalUnsynced, float64(j.Unsynced))
		counter(journalUnforced, j.Unforced)
	}
	if f := m.Farm; f != nil {
		gauge(documentNumber, float64(f.Document))
		gauge(inDoubt, float64(f.InDoubt))
		gauge(backupPending, float64(f.Unsafe))
		gauge(backupAge, f.UnsafeFor.Seconds())
		counter(backupUnsafe, f.Unsynced)
		gauge(backupsKept, float64(f.Backups))
		gauge(backupsBytes, float64(f.BackupBytes))
		for state, n := range f.Peers {
			gauge(peers, float64(n), state)
		}
		for peer, rtt := range f.PeerRTT {
			gauge(peerRTT, rtt.Seconds(), peer)
		}
	}
	for kind, end := range m.Certificates {
		gauge(certificateExpiry, time.Until(end).Seconds(), kind)
	}
	ready := 0.0
	if reason, _ := c.Ready(); reason == "" {
		ready = 1
	}
	gauge(readiness, ready)
	gauge(buildInfo, 1, c.Version, runtime.Version())
}
