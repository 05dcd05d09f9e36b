package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"peerstate/cmd/peerstate/admin"
	"peerstate/proxy"
	"peerstate/store"
)

// source is what the admin listener shows of the sidecar.
func (n *sidecar) source() admin.Source {
	return admin.Source{Ready: n.ready, Status: n.status, Metrics: n.metrics, Page: n.page}
}

func (n *sidecar) ready() (reason string, warnings []string) {
	if n.mesh != nil {
		warnings = n.farmWarnings()
	}
	warnings = append(warnings, n.journalWarnings()...)
	warnings = append(warnings, n.upstreamWarnings()...)
	reason, more := n.memoryState()
	if more != "" {
		warnings = append(warnings, more)
	}
	return cmp.Or(*n.phase.Load(), reason), warnings
}

// memoryState says that there is no memory left for sessions, or not much.
func (n *sidecar) memoryState() (reason, warning string) {
	m := n.store.Memory()
	used := fmt.Sprintf("sessions and backups take %d %% of the memory for them (%s of PEERSTATE_MAX_MEMORY=%s)",
		m.Used*100/max(m.Limit, 1), humanize.IBytes(uint64(max(m.Used, 0))), humanize.IBytes(uint64(m.Limit)))
	switch {
	case m.Refusing:
		return "no memory left for sessions: new ones are refused, and their pages get errors; " + used, ""
	case m.Warn > 0:
		return "", used + "; when 93 % are used, new sessions are refused"
	}
	return "", ""
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
	m := n.store.Memory()
	st.Memory = admin.Memory{Used: m.Used, Backups: m.Kept, Limit: m.Limit, Refusing: m.Refusing}
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
	memory := n.store.Memory()
	m.MemoryUsed, m.MemoryLimit = memory.Used, memory.Limit
	for what, name := range []string{store.RefusedWrite: "write", store.RefusedHandover: "handover", store.RefusedBackup: "backup"} {
		m.MemoryRefused = append(m.MemoryRefused, admin.Labelled{Labels: []string{name}, Value: memory.Refused[what]})
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
