package transport

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestWhatIsCountedIsShownAsNothingFromTheStart(t *testing.T) {
	x := newMetrics()
	for name, c := range map[string]prometheus.Collector{"fetches": x.fetches, "handovers": x.handovers, "backups": x.backups,
		"questions": x.questions, "documents": x.documents, "refused": x.refused} {
		if testutil.CollectAndCount(c) == 0 {
			t.Errorf("an alert on %s misses the first one", name)
		}
	}
	if n := value(t, x.refused.WithLabelValues(refusedHandshake)); n != 0 {
		t.Errorf("%v are counted", n)
	}
}
