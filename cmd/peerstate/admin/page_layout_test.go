package admin

import (
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// crowded is a farm of some nodes with names as long as they come, of which much is wrong, at the end of ten busy minutes.
func crowded(nodes int) Page {
	const long = "web-frontend-amsterdam-schiphol-production-blue-0017.shop.example"
	now := time.Now()
	end, soon := now.Add(81*24*time.Hour), now.Add(4*24*time.Hour)
	trip, sessions := 187.5, int64(1_234_567)
	reasons := []string{
		"no answer from 203.0.113.17:42425: UDP is blocked on the way, or nobody is there",
		"it is linked over " + long + ", as 2001:db8:85a3:1111:2222:8a2e:370:7334 cannot be reached from here",
		"its certificate was signed by another CA (key 0123456789abcdef0123456789abcdef01234567), which this node does not trust",
	}
	p := Page{
		Now: now, Run: "1", Mesh: "auto", WantedBackups: 2, Keepers: 1, Connections: 9999, EverySeconds: 2, ContendedOver: 599, RotationDone: "done",
		Reason: "no memory left for sessions: new ones are refused, and their pages get errors; sessions and backups take 97 % of the memory for them (497 MiB of PEERSTATE_MAX_MEMORY=512MiB)",
		Warnings: []string{
			"PEERSTATE_BACKUPS is 2, and of the other nodes 1 can keep any: a crash now may lose sessions",
			"the applications /LM/W3SVC/7/ROOT(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE=) and /LM/W3SVC/1/ROOT(xZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE=) seem to be one; if they are: " +
				"PEERSTATE_APP_ALIASES=/LM/W3SVC/7/ROOT(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE=)=/LM/W3SVC/1/ROOT(xZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE=)",
			`C:\ProgramData\peerstate\certificates\` + strings.Repeat("production-", 10) + `web1\node.crt: it ends soon, on 2026-12-02`,
		},
		Status: Status{Node: long, Site: "amsterdam-schiphol-rijk-north-holland", Farm: "shop-of-the-world-production", Version: "v1.24.17-0.20261128134215-79e4a21bcdef+dirty", UptimeSeconds: 98_765_432,
			Sessions: Sessions{Active: 1_234_567, Bytes: 9_876_543_210, Backups: 2_345_678}, Memory: Memory{Used: 97, Limit: 100, Refusing: true},
			Certificate: &Certificate{Node: long, Issuer: "peerstate CA shop", IssuerKey: strings.Repeat("0123456789", 4), Serial: strings.Repeat("5e71a1b2", 5), Expires: soon, CAExpires: end, Rotation: "renew"}},
	}
	states := []string{"up", "suspect", "out", "lost", "refused", "connecting", "drained", "up"}
	for i := range nodes - 1 {
		peer := Peer{Node: fmt.Sprintf("%02d-%s", i, long), Site: []string{"amsterdam-schiphol-rijk-north-holland", "tokyo", ""}[i*3/nodes], Addr: "203.0.113.17:42425", State: states[i%len(states)],
			Reason: reasons[i%len(reasons)], Since: now.Add(-time.Duration(i) * 77 * time.Hour), Sessions: &sessions, CertExpires: &end, Rotation: []string{"done", "behind", "old certificate"}[i%3], Issuer: i == 3}
		if peer.State == "up" {
			peer.RTTMillis, peer.Hops = &trip, 1
			p.Status.Links = append(p.Status.Links, Link{A: peer.Node, B: long, RTTMillis: &trip})
		}
		p.Status.Peers = append(p.Status.Peers, peer)
	}
	for i := range 10 {
		p.Status.Largest = append(p.Status.Largest, Large{Hash: fmt.Sprintf("a1b2c3%02d", i), Bytes: 67_108_864})
		p.Contended = append(p.Contended, Contended{Hash: fmt.Sprintf("d4e5f6%02d", i), Met: 1_234_567, LongestMS: 123_456, Waiting: 64, LockedMS: 3_599_000})
		p.Events = append(p.Events, Event{Number: int64(i + 1), At: now.Add(-time.Duration(i) * 5 * time.Hour), Level: []string{"info", "warn", "error"}[i%3],
			Text: reasons[i%3], Details: []Detail{{"peer", long}, {"key", strings.Repeat("0123456789abcdef", 4)}, {"directory", `C:\ProgramData\peerstate\certificates\` + strings.Repeat("production", 9)}}, Times: 12_345})
	}
	half, most, here, slow := 0.031, 1234.5, 0.333, 2499.0
	for i := range 300 {
		p.Samples = append(p.Samples, Sample{Number: int64(i + 1), At: now.Add(time.Duration(i-299) * Every).UnixMilli(), Requests: 25_678.9, Refused: 12_345, Locked: 4_321, P50: &half, P99: &most,
			Fetches: 19_876, Arrived: 12_345, NotKnown: 777, Fetch50: &slow, Fetch99: &slow, Here: &here, Wait99: &slow, Waiting: 12_345, Sessions: 1_234_567, Bytes: 9_876_543_210,
			Backups: 2_345_678, Pending: 123_456, PendFor: 3599})
	}
	return p
}

// framed serves status pages below their names so that they may stand in the frames of testdata/layout.html, which measures them.
func framed(t *testing.T, pages map[string]Page) (addr string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/layout", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join("testdata", "layout.html"))
	})
	for name, p := range pages {
		s := plain()
		s.Page = func(int64) Page { return p }
		srv := New(Config{Source: s})
		mux.Handle("/"+name+"/", http.StripPrefix("/"+name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			srv.http.Handler.ServeHTTP(answer, r)
			maps.Copy(w.Header(), answer.Header())
			w.Header().Del("X-Frame-Options")
			w.Header().Set("Content-Security-Policy", strings.ReplaceAll(pagePolicy, "frame-ancestors 'none'", "frame-ancestors 'self'"))
			w.WriteHeader(answer.Code)
			if _, err := answer.Body.WriteTo(w); err != nil {
				t.Logf("write to the browser: %v", err) // which may have gone
			}
		})))
	}
	l := httptest.NewServer(mux)
	t.Cleanup(l.Close)
	return l.Listener.Addr().String()
}

// The widths are a phone's, a tablet's and a screen's. What is asked for is that nothing has to be scrolled sideways, sticks out, is cut off
// or stands over something else, and that all text can be read, in both schemes of colours.
func TestThePageFitsIntoPhonesAndScreensInLightAndDark(t *testing.T) {
	pages := map[string]Page{"alone": {Now: time.Now(), Run: "1", EverySeconds: 2, Status: Status{Node: "web1", Version: "1.2.3"}},
		"two": crowded(2), "three": crowded(3), "few": crowded(7), "many": crowded(40)}
	var frames []string
	for name := range pages {
		for _, width := range []int{360, 768, 1280} {
			frames = append(frames, fmt.Sprintf("%s-%d", name, width))
		}
	}
	for scheme, c := range map[string]struct{ flag, ground string }{
		"light": {"--blink-settings=preferredColorScheme=1", "rgb(243, 244, 246)"},
		"dark":  {"--blink-settings=preferredColorScheme=0", "rgb(14, 17, 21)"},
	} {
		t.Run(scheme, func(t *testing.T) {
			dom, console := open(t, framed(t, pages), "/layout?"+strings.Join(frames, ","), c.flag, "--hide-scrollbars")
			if console != "" {
				t.Errorf("on the console: %s", console)
			}
			_, found, _ := strings.Cut(dom, `<pre id="found">`)
			found, _, _ = strings.Cut(found, "</pre>")
			looked := 0
			for line := range strings.Lines(html.UnescapeString(found)) {
				if strings.Contains(line, ": looked at ") && strings.HasSuffix(strings.TrimSpace(line), " on "+c.ground) {
					looked++
					continue
				}
				t.Error(strings.TrimSpace(line))
			}
			if looked != len(frames) {
				t.Errorf("%d pages were measured, of %d", looked, len(frames))
			}
		})
	}
}
