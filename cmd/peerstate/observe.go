package main

import (
	"time"

	"peerstate/cmd/peerstate/admin"
	"peerstate/proxy"
	"peerstate/store"
)

// source is what the admin listener shows of the sidecar.
func (n *sidecar) source() admin.Source {
	return admin.Source{Ready: n.ready, Status: n.status, Metrics: n.metrics}
}

func (n *sidecar) ready() (reason string, warnings []string) {
	if n.mesh != nil {
		warnings = n.farmWarnings()
	}
	warnings = append(warnings, n.journalWarnings()...)
	return *n.phase.Load(), warnings
}

func (n *sidecar) status() admin.Status {
	stats := n.store.Stats()
	st := admin.Status{
		Node:          n.name,
		Site:          string(n.settings.Site),
		Version:       buildVersion(),
		UptimeSeconds: int64(time.Since(n.started).Seconds()),
		Sessions:      admin.Sessions{Active: stats.Active, Bytes: stats.Bytes, Backups: stats.Backups},
	}
	for _, l := range n.store.Largest(largestShown) {
		st.Largest = append(st.Largest, admin.Large{Hash: l.Hash, Bytes: l.Bytes})
	}
	if n.mesh != nil {
		n.farmStatus(&st)
	}
	return st
}

// largestShown is how many of the largest sessions the status has.
const largestShown = 10

func (n *sidecar) metrics() admin.Metrics {
	stats, web := n.store.Stats(), n.web.Metrics()
	m := admin.Metrics{
		SessionsActive:    stats.Active,
		SessionsTotal:     stats.Total,
		SessionsAbandoned: stats.Abandoned,
		SessionsTimedOut:  stats.TimedOut,
		LockWaiters:       stats.Waiting,
		SessionsBytes:     stats.Bytes,
		Conflicts:         stats.Conflicts,
		StampsAhead:       stats.Ahead,

		Connections:        web.Open,
		ConnectionsRefused: web.Refused,
		BadRequests:        web.Bad,
		Undone:             web.Undone,
		SlowClients:        web.Slow,
	}
	bounds := proxy.Bounds()
	for op := range store.Ops {
		name := store.Op(op).String()
		for status, count := range web.Requests[op] {
			m.Requests = append(m.Requests, admin.Labelled{
				Labels: []string{name, proxy.StatusName(store.Status(status))}, Value: count})
		}
		t := web.Times[op]
		m.RequestSeconds = append(m.RequestSeconds, admin.Timed{Label: name,
			Histogram: admin.Histogram{Count: t.Count, Seconds: t.Seconds, Bounds: bounds, Cumulative: t.Cumulative}})
	}
	if n.mesh != nil {
		n.farmMetrics(&m)
	}
	if j, ok := n.store.Journal(); ok {
		m.Journal = &admin.Journal{Bytes: j.Bytes, Unsynced: j.Unsynced, Unforced: stats.Unforced}
	}
	return m
}
