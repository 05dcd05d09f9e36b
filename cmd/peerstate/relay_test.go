package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"peerstate/cmd/peerstate/bench"
)

// relaying is a relay in this process.
type relaying struct {
	addr string
	stop func() (shown string, err error)
}

// announced waits for the line with the address.
type announced struct{ lines chan string }

func (a announced) Write(p []byte) (int, error) {
	a.lines <- string(p)
	return len(p), nil
}

func startRelay(t *testing.T, o relayOptions) relaying {
	t.Helper()
	o.listen = "127.0.0.1:0"
	edits, err := o.check()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var shown bytes.Buffer
	said := announced{make(chan string, 10)}
	ended := make(chan error, 1)
	go func() { ended <- runRelay(ctx, o, edits, &shown, said) }()
	select {
	case line := <-said.lines:
		_, line, _ = strings.Cut(line, "relaying from ")
		addr, _, _ := strings.Cut(line, " ")
		return relaying{addr, func() (string, error) {
			cancel()
			err := <-ended
			return shown.String(), err
		}}
	case err := <-ended:
		t.Fatal(err)
		panic("unreachable")
	}
}

func TestARecordingOfOneServerProvesThatAnotherAnswersTheSame(t *testing.T) {
	was, same, other := startSidecar(t), startSidecar(t), startSidecar(t, "PEERSTATE_STATUS_LINE=bare")
	for name, bodies := range map[string]bool{"with bodies": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.rec")
			r := startRelay(t, relayOptions{to: was.web, record: file, bodies: bodies})
			load := bench.Config{To: []string{r.addr}, Connections: 3, Duration: 200 * time.Millisecond, Size: 70000, Sessions: 2, Retry: time.Second}
			if result, err := bench.Run(t.Context(), load); err != nil || result.Errors > 0 {
				t.Fatalf("%v: %v", result, err)
			}
			shown, err := r.stop()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(shown, "<-- 200 OK to GET (acquire)") || strings.Contains(shown, "\x1b") {
				t.Errorf("shown was %.1000s", shown)
			}
			var out, errs bytes.Buffer
			if code := run([]string{"replay", file, "--to", same.web}, &out, &errs); code != exitDone {
				t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
			}
			out.Reset()
			if code := run([]string{"replay", file, "--to", other.web, "--json"}, &out, &errs); code != exitFailed ||
				!strings.Contains(out.String(), `"replayed": "200 OK"`) || !strings.Contains(errs.String(), "answers differ") {
				t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
			}
		})
	}
}

func TestARelayThatCannotListenSaysWhy(t *testing.T) {
	was := startSidecar(t)
	var out, errs bytes.Buffer
	code := run([]string{"relay", "--listen", was.web, "--to", "127.0.0.1:1"}, &out, &errs)
	if code != exitFailed || !strings.Contains(errs.String(), "--listen: cannot listen on") || !strings.Contains(errs.String(), "a state server") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}
