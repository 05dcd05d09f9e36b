package main

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"peerstate/certs"
	"peerstate/cmd/peerstate/admin"
	"peerstate/proxy"
	"peerstate/store"
)

// keepHistory begins to take samples of the counters, for the status page and "peerstate status". It costs some tens of
// microseconds each time.
func (n *sidecar) keepHistory() {
	n.history = admin.NewHistory(n.reading)
	ctx, cancel := context.WithCancel(context.Background())
	n.running.Go(func() { n.history.Run(ctx) })
	n.onStop(func(context.Context) error {
		cancel()
		return nil
	})
}

// reading is what the parts have counted so far.
func (n *sidecar) reading() admin.Reading {
	stats, web := n.store.Stats(), n.web.Metrics()
	r := admin.Reading{
		Sessions: stats.Active, Bytes: stats.Bytes, Backups: stats.Backups, BackupBytes: stats.BackupBytes,
		Waiting: stats.Waiting, Pending: stats.Unsafe, PendingFor: stats.UnsafeFor,
		Took: admin.Histogram{Bounds: proxy.Bounds()}, Waited: n.histogram(n.waits),
	}
	r.Took.Cumulative = make([]uint64, len(r.Took.Bounds))
	for op := range store.Ops {
		countRequests(&r, &web.Requests[op])
		t := web.Times[op]
		r.Took.Count += t.Count
		for i, count := range t.Cumulative {
			r.Took.Cumulative[i] += count
		}
	}
	if n.mesh != nil {
		f, err := n.mesh.Fetches()
		if err != nil {
			n.log.Debug("the counters of questions cannot be read", "error", err)
		}
		r.Fetches, r.Arrived, r.NotKnown = f.Count, f.Results["arrived"], f.Results["not_known"]
		r.Fetched = admin.Histogram{Count: f.Count, Seconds: f.Seconds, Bounds: f.Bounds, Cumulative: f.Cumulative}
	}
	return r
}

// countRequests adds those of one kind, by outcome.
func countRequests(r *admin.Reading, outcomes *[proxy.Statuses]uint64) {
	for status, count := range outcomes {
		r.Requests += count
		switch store.Status(status) {
		case store.Unknown, store.Full:
			r.Refused += count
		case store.Locked:
			r.Locked += count
		}
	}
}

// histogram reads one of Prometheus'.
func (n *sidecar) histogram(from prometheus.Histogram) (h admin.Histogram) {
	var m dto.Metric
	if err := from.Write(&m); err != nil {
		n.log.Debug("a histogram cannot be read", "error", err)
		return h
	}
	h.Count, h.Seconds = m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
	for _, b := range m.GetHistogram().GetBucket() {
		h.Bounds, h.Cumulative = append(h.Bounds, b.GetUpperBound()), append(h.Cumulative, b.GetCumulativeCount())
	}
	return h
}

// page is what the status page shows.
func (n *sidecar) page(after int64) admin.Page {
	p := admin.Page{
		Now: time.Now().UTC(), Run: strconv.FormatUint(n.instance, 16), Status: n.status(), WantedBackups: int(n.settings.Backups),
		Connections: n.web.Metrics().Open, EverySeconds: admin.Every.Seconds(), Samples: n.history.Since(after), Events: n.events.Last(),
	}
	p.Reason, p.Warnings = n.ready()
	contended, over := n.store.Contended()
	p.ContendedOver = over.Seconds()
	for _, c := range contended {
		p.Contended = append(p.Contended, admin.Contended{Hash: c.Hash, Met: c.Met, WaitedMS: millis(c.Waited), LongestMS: millis(c.Longest),
			Waiting: c.Waiting, LockedMS: millis(c.Locked)})
	}
	if n.mesh != nil {
		p.Mesh, p.Issuer, p.Keepers = string(n.settings.Mesh), n.issuer != nil, n.mesh.Keepers()
		s := n.mesh.Certs()
		if d := s.Document(); d != nil && d.Rotation.Stage != certs.NoRotation {
			p.RotationTo, p.RotationDone = d.Rotation.To, rotationOf(s, s.Self(), s.DocumentNumber())
		}
	}
	return p
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (n *sidecar) statusByCommand(_ context.Context, _ url.Values, report func(any)) error {
	report(n.page(0))
	return nil
}
