package admin

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plain is a source of a ready node without peers.
func plain() Source {
	return Source{
		Ready:   func() (string, []string) { return "", nil },
		Status:  func() Status { return Status{} },
		Metrics: func() Metrics { return Metrics{} },
		Page:    func(int64) Page { return Page{} },
	}
}

// ask sends one request past the network.
func ask(t *testing.T, s Source, method, host, path string, further ...prometheus.Collector) *http.Response {
	t.Helper()
	srv := New(Config{Source: s, Names: []string{"Web1", "localhost", "127.0.0.1", "", "node.example"}, Collectors: further})
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	srv.http.Handler.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryPageAnswers(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/metrics", "/page.js": "api/page", "/page.css": "prefers-color-scheme", "/api/page": `"samples":[]`, "/healthz": "ok\n", "/readyz": "ready\n",
		"/metrics": "peerstate_sessions_active 0\n", "/api/status": `"peers": []`,
	} {
		r := ask(t, plain(), "GET", "127.0.0.1:42426", path)
		if got := body(t, r); r.StatusCode != 200 || !strings.Contains(got, want) {
			t.Errorf("%s gives %d %q, want %q", path, r.StatusCode, got, want)
		}
	}
	if r := ask(t, plain(), "GET", "127.0.0.1", "/no/such"); r.StatusCode != 404 {
		t.Errorf("an unknown path gives %d", r.StatusCode)
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	for _, path := range []string{"/", "/page.js", "/api/page", "/healthz", "/readyz", "/metrics", "/api/status", "/no/such"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"} {
			r := ask(t, plain(), method, "localhost", path)
			if r.StatusCode != 405 || r.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s gives %d, Allow %q", method, path, r.StatusCode, r.Header.Get("Allow"))
			}
		}
	}
	if r := ask(t, plain(), "HEAD", "localhost", "/healthz"); r.StatusCode != 200 {
		t.Errorf("HEAD gives %d", r.StatusCode)
	}
}

func TestAForeignHostIsRefused(t *testing.T) {
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:42426": 200, "[::1]:42426": 200, "[::1]": 200, "10.1.2.3:80": 200, "": 200,
		"localhost": 200, "LOCALHOST.:42426": 200, "web1:42426": 200, "WEB1": 200, "web1.corp.example:42426": 200,
		"evil.example": 403, "evil.example:42426": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403,
		"web11": 403, "node.example": 200, "node.example.evil": 403, "xweb1": 403, "evil.example\x00": 403,
	} {
		for _, path := range []string{"/", "/page.js", "/api/page", "/api/status", "/metrics", "/readyz", "/no/such"} {
			r := ask(t, plain(), "GET", host, path)
			if (r.StatusCode == 403) != (want == 403) {
				t.Errorf("Host %q: %s gives %d, want %d", host, path, r.StatusCode, want)
			}
		}
	}
}

func TestEveryAnswerCarriesTheHeadersThatKeepBrowsersAway(t *testing.T) {
	for _, host := range []string{"localhost", "evil.example"} {
		h := ask(t, plain(), "GET", host, "/api/status").Header
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Access-Control-Allow-Origin": "",
		} {
			if h.Get(name) != want {
				t.Errorf("Host %s: %s is %q, want %q", host, name, h.Get(name), want)
			}
		}
	}
}

func TestNotReadyIsSaidWithItsReasonAndWarningsAreNot503(t *testing.T) {
	s := plain()
	warned := []string{"the certificate ends in 3 days"}
	s.Ready = func() (string, []string) { return "", warned }
	r := ask(t, s, "GET", "localhost", "/readyz")
	if got := body(t, r); r.StatusCode != 200 || got != "ready\nwarning: the certificate ends in 3 days\n" {
		t.Errorf("with a warning: %d %q", r.StatusCode, got)
	}
	s.Ready = func() (string, []string) { return "draining", nil }
	r = ask(t, s, "GET", "localhost", "/readyz")
	if got := body(t, r); r.StatusCode != 503 || got != "draining\n" {
		t.Errorf("while draining: %d %q", r.StatusCode, got)
	}
	if r := ask(t, s, "GET", "localhost", "/healthz"); r.StatusCode != 200 {
		t.Errorf("a draining node is alive, and /healthz gives %d", r.StatusCode)
	}
}

func TestTheStatusHasTheNamesOfTheManual(t *testing.T) {
	rtt, sessions, when := 1.5, int64(3), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := plain()
	s.Status = func() Status {
		return Status{
			Node: "london", Site: "London", Farm: "shop", Version: "1.0", UptimeSeconds: 60,
			Sessions: Sessions{Active: 1, Bytes: 2, Backups: 0}, Memory: Memory{Used: 400, Backups: 100, Limit: 512, Refusing: true}, Largest: []Large{{Hash: "1f2e3d4c", Bytes: 2}},
			Peers: []Peer{
				{Node: "tokyo", Site: "Tokyo", Addr: "10.0.0.7:42425", State: "up", RTTMillis: &rtt, Since: when,
					CertIssuer: "0a", CertSerial: "2b", CertExpires: &when, Document: 8, Rotation: "done", Issuer: true, Sessions: &sessions, Aliases: "it has none"},
				{Addr: "10.0.0.8:42425", State: "connecting", Since: when, Reason: "no answer"},
			},
			Links:       []Link{{"london", "tokyo", &rtt}, {"paris", "tokyo", nil}},
			Certificate: &Certificate{Node: "london", Issuer: "shop CA", IssuerKey: "0a", Serial: "1a", Expires: when, CAExpires: when, Document: 9, Rotation: "renew"},
			Mistakes:    []Mistake{{[2]string{"/1(a)", "/7(b)"}, [2][]string{{"london"}, {"tokyo", "paris"}}, "/7(b)=/1(a)", when, when}},
		}
	}
	const want = `{
		"node": "london", "site": "London", "farm": "shop", "version": "1.0", "uptime_seconds": 60,
		"sessions": {"active": 1, "bytes": 2, "backups": 0},
		"memory": {"used": 400, "backups": 100, "limit": 512, "refusing": true},
		"largest": [{"hash": "1f2e3d4c", "bytes": 2}],
		"peers": [
			{"node": "tokyo", "site": "Tokyo", "addr": "10.0.0.7:42425", "state": "up", "rtt_ms": 1.5, "hops": 0, "since": "2026-01-02T03:04:05Z",
			 "reason": "", "cert_issuer": "0a", "cert_serial": "2b", "cert_expires": "2026-01-02T03:04:05Z", "document": 8, "rotation": "done", "issuer": true, "sessions": 3, "aliases": "it has none"},
			{"node": "", "site": "", "addr": "10.0.0.8:42425", "state": "connecting", "rtt_ms": null, "hops": 0, "since": "2026-01-02T03:04:05Z",
			 "reason": "no answer", "cert_issuer": "", "cert_serial": "", "cert_expires": null, "document": 0, "rotation": "", "issuer": false, "sessions": null, "aliases": ""}
		],
		"links": [{"a": "london", "b": "tokyo", "rtt_ms": 1.5}, {"a": "paris", "b": "tokyo", "rtt_ms": null}],
		"certificate": {"node": "london", "issuer": "shop CA", "issuer_key": "0a", "serial": "1a", "expires": "2026-01-02T03:04:05Z",
			"ca_expires": "2026-01-02T03:04:05Z", "document": 9, "rotation": "renew"},
		"mistakes": [{"applications": ["/1(a)", "/7(b)"], "nodes": [["london"], ["tokyo", "paris"]], "alias": "/7(b)=/1(a)",
			"first": "2026-01-02T03:04:05Z", "last": "2026-01-02T03:04:05Z"}]
	}`
	r := ask(t, s, "GET", "localhost", "/api/status")
	if ct := r.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type is %q", ct)
	}
	var got, right any
	if err := json.Unmarshal([]byte(body(t, r)), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &right); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(right, got); diff != "" {
		t.Error(diff)
	}
}

// full is a source with a value for every metric.
func full() Source {
	s := plain()
	h := Histogram{Count: 3, Seconds: 0.5, Bounds: []float64{0.1, 1}, Cumulative: []uint64{1, 3}}
	s.Metrics = func() Metrics {
		return Metrics{
			SessionsActive: 5, SessionsTotal: 9, SessionsAbandoned: 1, SessionsTimedOut: 3, SessionsBytes: 1024, Conflicts: 2,
			MemoryUsed: 400, MemoryLimit: 512, MemoryRefused: []Labelled{{[]string{"write"}, 4}, {[]string{"backup"}, 0}},
			Requests:       []Labelled{{[]string{"get", "200"}, 7}, {[]string{"get", "423"}, 1}},
			RequestSeconds: []Timed{{"get", h}},
			Farm: &Farm{
				InDoubt: 1, Document: 1763728190000,
				Peers:   map[string]int{"up": 1, "lost": 0},
				PeerRTT: map[string]time.Duration{"tokyo": 250 * time.Millisecond},
			},
			Certificates: map[string]time.Time{"leaf": time.Now().Add(time.Hour), "ca": time.Now().Add(-time.Hour)},
		}
	}
	return s
}

func TestTheMetricsHaveTheNamesAndLabelsOfTheManual(t *testing.T) {
	given := prometheus.NewGauge(prometheus.GaugeOpts{Name: "peerstate_given", Help: "One that another part keeps."})
	given.Set(7)
	got := body(t, ask(t, full(), "GET", "localhost", "/metrics", given))
	for _, want := range []string{
		"peerstate_sessions_active 5", "peerstate_sessions_total 9", "peerstate_sessions_abandoned_total 1",
		"peerstate_sessions_timed_out_total 3", "peerstate_sessions_bytes 1024", "peerstate_conflicts_total 2",
		"peerstate_memory_bytes 400", "peerstate_memory_limit_bytes 512", `peerstate_memory_refused_total{what="write"} 4`,
		`peerstate_requests_total{op="get",status="423"} 1`,
		`peerstate_request_seconds_bucket{op="get",le="0.1"} 1`, `peerstate_request_seconds_bucket{op="get",le="+Inf"} 3`,
		`peerstate_request_seconds_sum{op="get"} 0.5`,
		"peerstate_handovers_in_doubt 1", "peerstate_given 7", "peerstate_document_number 1.76372819e+12",
		`peerstate_peers{state="up"} 1`, `peerstate_peers{state="lost"} 0`, `peerstate_peer_rtt_seconds{peer="tokyo"} 0.25`,
		`peerstate_certificate_expiry_seconds{kind="leaf"} 3`, `peerstate_certificate_expiry_seconds{kind="ca"} -3`,
		"peerstate_ready 1", "peerstate_build_info{", "go_goroutines",
	} {
		if !strings.Contains(got, "\n"+want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
}

func TestTheMetricsFollowThePracticeOfPrometheus(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collector{Config{Source: full(), Version: "1.0"}})
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestAStopEndsTheListenerAndItsConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Source: plain()})
	served := make(chan error)
	go func() { served <- s.Serve(l) }()

	client := &http.Client{Transport: &http.Transport{}} // keeps its connection alive
	r, err := client.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil || r.StatusCode != 200 {
		t.Fatalf("got %v, %v", r, err)
	}
	body(t, r)
	if err := r.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := client.Get("http://" + l.Addr().String() + "/healthz"); err == nil {
		t.Error("it still answers")
	}
}
