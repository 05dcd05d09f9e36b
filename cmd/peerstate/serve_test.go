package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"peerstate/cmd/peerstate/bench"
	"peerstate/cmd/peerstate/service"
	"peerstate/cmd/peerstate/settings"
)

// serve runs a sidecar that nobody supervises.
func serve(ctx context.Context, s *settings.Settings, log *slog.Logger) error {
	return supervised(ctx, s, log, service.Alone{})
}

// logged is a log that a test can wait on.
type logged struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string // each line with "ready"
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(p, []byte("msg=ready")) {
		l.lines <- string(p)
	}
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// field takes the value of an attribute out of the line.
func field(line, name string) string {
	_, after, _ := strings.Cut(line, " "+name+"=")
	value, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	return value
}

// running is a sidecar in this process.
type running struct {
	web, admin string
	log        *logged
	stop       func() error // and gives serve's error
}

func startSidecar(t *testing.T, environ ...string) running {
	t.Helper()
	return startSidecarWith(t, mustSettings(t, append([]string{"PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=127.0.0.1:0"}, environ...)...))
}

func startSidecarWith(t *testing.T, s *settings.Settings) running {
	t.Helper()
	log := &logged{lines: make(chan string, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, s, slog.New(slog.NewTextHandler(log, nil))) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case line := <-log.lines:
		return running{field(line, "listen"), field(line, "admin"), log, stop}
	case err := <-ended:
		t.Fatalf("serve ended before it was ready: %v", err)
		panic("unreachable")
	}
}

// get asks the admin listener.
func (r running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + r.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	return answer.StatusCode, string(body)
}

func TestTheReadyLineNamesTheAddressesThatAnswer(t *testing.T) {
	r := startSidecar(t)
	nc, err := net.Dial("tcp", r.web)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := fmt.Fprint(nc, "GET %2fapp%2fid HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(nc, answer); err != nil || string(answer) != "HTTP/1.1 404" {
		t.Errorf("the state protocol answers %q, %v", answer, err)
	}
	if code, body := r.get(t, "/readyz"); code != 200 || body != "ready\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
}

func TestAStopIsNoError(t *testing.T) {
	r := startSidecar(t)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.log.String(), "msg=stopped") || strings.Contains(r.log.String(), "level=WARN") {
		t.Errorf("the log says\n%s", r.log)
	}
	if _, err := net.Dial("tcp", r.web); err == nil {
		t.Error("it still listens")
	}
}

func TestANodeWithoutAWebServerAndOneWithoutAnAdminListenerRun(t *testing.T) {
	if r := startSidecar(t, "PEERSTATE_LISTEN="); r.web != "" || r.admin == "" {
		t.Errorf("listens on %q and %q, want only the admin listener", r.web, r.admin)
	}
	if r := startSidecar(t, "PEERSTATE_ADMIN_LISTEN="); r.web == "" || r.admin != "" {
		t.Errorf("listens on %q and %q, want only the state protocol", r.web, r.admin)
	}
}

func TestAPortThatIsTakenStopsTheStartWithAnExplanation(t *testing.T) {
	r := startSidecar(t)
	for _, name := range []string{"PEERSTATE_LISTEN", "PEERSTATE_ADMIN_LISTEN"} {
		s := mustSettings(t, "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=")
		if name == "PEERSTATE_LISTEN" {
			s.Listen = settings.ListenAddr(r.web)
		} else {
			s.AdminListen = settings.ListenAddr(r.web)
		}
		err := serve(t.Context(), s, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "another program has the port; a state server") {
			t.Errorf("%s taken: %v", name, err)
		}
	}
}

func TestBenchCountsTheCyclesOfOurOwnServerWithoutErrors(t *testing.T) {
	r := startSidecar(t)
	var out, errs bytes.Buffer
	args := []string{"bench", "--to", r.web, "--connections", "3", "--sessions", "2", "--duration", "200ms", "--json"}
	if code := run(args, &out, &errs); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var got bench.Result
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Cycles == 0 || got.Errors != 0 || got.Undeleted != 0 || got.Sessions != 6 {
		t.Errorf("got %+v", got)
	}
	var status struct {
		Version  string
		Sessions struct{ Active int }
	}
	_, body := r.get(t, "/api/status")
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if status.Version == "" || status.Sessions.Active != 0 {
		t.Errorf("afterwards the status is %+v, want no sessions", status)
	}
	_, body = r.get(t, "/metrics")
	for _, want := range []string{
		"peerstate_sessions_total 6\n", "peerstate_sessions_abandoned_total 6\n", "peerstate_ready 1\n",
		fmt.Sprintf("peerstate_requests_total{op=\"put\",status=\"200\"} %d\n", got.Cycles+6),
		fmt.Sprintf("peerstate_request_seconds_count{op=\"acquire\"} %d\n", got.Cycles),
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
}

func TestANodeWithADataDirectoryHasItsSessionsAfterARestart(t *testing.T) {
	data := "PEERSTATE_DATA_DIR=" + filepath.Join(t.TempDir(), "new")
	ask := func(r running, request string) string {
		nc, err := net.Dial("tcp", r.web)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 12)
		if _, err := io.ReadFull(nc, answer); err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	r := startSidecar(t, data)
	if got := ask(r, "PUT %2fapp%2fid HTTP/1.1\r\nTimeout:20\r\nContent-Length:4\r\n\r\ncart"); got != "HTTP/1.1 200" {
		t.Fatal(got)
	}
	if _, body := r.get(t, "/metrics"); !strings.Contains(body, "\npeerstate_journal_bytes ") || !strings.Contains(body, "\npeerstate_journal_unsynced_bytes ") {
		t.Errorf("no metrics of the journal in\n%s", body)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.log.String(), `msg="the sessions stay in the journal, for the next start" sessions=1 `) || strings.Contains(r.log.String(), "lost") {
		t.Errorf("the log says\n%s", r.log)
	}
	r = startSidecar(t, data)
	if got := ask(r, "GET %2fapp%2fid HTTP/1.1\r\n\r\n"); got != "HTTP/1.1 200" {
		t.Error(got)
	}
	s := mustSettings(t, data, "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=")
	err := serve(t.Context(), s, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "PEERSTATE_DATA_DIR") || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("a second one on the same directory: %v", err)
	}
}
