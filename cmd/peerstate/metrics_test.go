package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestARunningSidecarHasTheMetricsOfTheManualAsPrometheusWantsThem(t *testing.T) {
	i := startIssuer(t, "PEERSTATE_DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	_, body := i.get(t, "/metrics")
	for name, kind := range map[string]string{
		"sessions_active": "gauge", "sessions_total": "counter", "sessions_abandoned_total": "counter", "sessions_timed_out_total": "counter",
		"sessions_bytes": "gauge", "requests_total": "counter", "request_seconds": "histogram", "lock_wait_seconds": "histogram", "lock_waiters": "gauge",
		"fetches_total": "counter", "fetch_seconds": "histogram", "handovers_total": "counter", "backups_total": "counter", "backup_pending": "gauge",
		"conflicts_total": "counter", "peers": "gauge", "certificate_expiry_seconds": "gauge", "journal_bytes": "gauge", "journal_unsynced_bytes": "gauge",
	} { // peerstate_peer_rtt_seconds is there with the first linked peer
		if !strings.Contains(body, "\n# TYPE peerstate_"+name+" "+kind+"\npeerstate_"+name) {
			t.Errorf("no %s peerstate_%s", kind, name)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "peerstate_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
