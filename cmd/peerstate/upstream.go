package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"peerstate/proxy"
	"peerstate/proxy/upstream"
	"peerstate/store"
)

// joinUpstream has the store take sessions over from the old state server.
func (n *sidecar) joinUpstream() {
	n.old = upstream.New(string(n.settings.Upstream), int64(n.settings.MaxBody), n.store)
	n.store.JoinUpstream(n.old)
	ctx, cancel := context.WithCancel(context.Background())
	n.running.Go(func() { n.old.Watch(ctx) })
	n.running.Go(func() { n.tellOfUpstream(ctx) })
	n.onStop(func(context.Context) error {
		cancel()
		return nil
	})
	n.log.Info("sessions that are nowhere else are taken over from the old state server", "upstream", string(n.settings.Upstream))
}

// closeUpstream ends the connections with the old state server, when the store needs them no more.
func (n *sidecar) closeUpstream() error {
	if n.old == nil {
		return nil
	}
	return n.old.Close()
}

// upstreamSilentFor is how long the old state server may be silent before it is spoken of: one lost connection is no news.
const upstreamSilentFor = 2 * time.Second

// upstreamSilent tells since when the old state server has not answered, and why; nil: it does, or may yet.
func (n *sidecar) upstreamSilent() (since time.Time, err error) {
	since, err = n.old.Failing()
	if err != nil && time.Since(since) <= upstreamSilentFor {
		err = nil
	}
	return since, err
}

// tellOfUpstream logs when the old state server falls silent, and when it answers again, until ctx ends.
func (n *sidecar) tellOfUpstream(ctx context.Context) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	silent := false
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		switch since, err := n.upstreamSilent(); {
		case err != nil && !silent:
			n.log.Warn("the old state server does not answer; the pages of visitors whose sessions may be there wait",
				"upstream", string(n.settings.Upstream), "since", since, "error", err)
			silent = true
		case err == nil && silent:
			n.log.Info("the old state server answers again", "upstream", string(n.settings.Upstream))
			silent = false
		}
	}
}

// upstreamWarnings says that sessions may be out of reach.
func (n *sidecar) upstreamWarnings() (warnings []string) {
	if n.old == nil {
		return nil
	}
	if since, err := n.upstreamSilent(); err != nil {
		warnings = append(warnings, fmt.Sprintf("the old state server (PEERSTATE_UPSTREAM) does not answer since %s, so the pages of visitors whose sessions may be there wait: %v",
			since.Format(time.TimeOnly), err))
	}
	return warnings
}

// upstreamCollector gives the metrics of a migration.
type upstreamCollector struct{ n *sidecar }

var (
	upstreamTaken = prometheus.NewDesc("peerstate_upstream_sessions_total", "Sessions taken over from the old state server.", nil, nil)
	upstreamLeft  = prometheus.NewDesc("peerstate_upstream_remnants",
		"Sessions that are here, and that the old state server may still have as well: they are deleted there when they are safe here.", nil, nil)
	upstreamUp       = prometheus.NewDesc("peerstate_upstream_up", "1 if the old state server answers, or was not asked yet.", nil, nil)
	upstreamRequests = prometheus.NewDesc("peerstate_upstream_requests_total",
		"Requests to the old state server, by operation and outcome; failed: there was no answer.", []string{"op", "result"}, nil)
)

// Describe implements prometheus.Collector.
func (c upstreamCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upstreamTaken, upstreamLeft, upstreamUp, upstreamRequests} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c upstreamCollector) Collect(out chan<- prometheus.Metric) {
	stats, _ := c.n.store.Upstream()
	up := 1.0
	if _, err := c.n.old.Failing(); err != nil {
		up = 0
	}
	out <- prometheus.MustNewConstMetric(upstreamTaken, prometheus.CounterValue, float64(stats.Taken))
	out <- prometheus.MustNewConstMetric(upstreamLeft, prometheus.GaugeValue, float64(stats.Remnants))
	out <- prometheus.MustNewConstMetric(upstreamUp, prometheus.GaugeValue, up)
	counts := c.n.old.Counts()
	for op := range counts {
		for status, count := range counts[op] {
			result := "failed"
			if store.Status(status) != upstream.Failed {
				result = proxy.StatusName(store.Status(status))
			}
			out <- prometheus.MustNewConstMetric(upstreamRequests, prometheus.CounterValue, float64(count), store.Op(op).String(), result)
		}
	}
}
