package control

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for goroutines left behind. On Windows go-winio has one for the whole life of the process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/Microsoft/go-winio.ioCompletionProcessor"))
}

// listening runs a server with some commands and gives its socket.
func listening(t *testing.T) string {
	t.Helper()
	socket := socketIn(t)
	l, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(map[string]Handler{
		"count": func(_ context.Context, args url.Values, report func(any)) error {
			for i := range 3 {
				report(i)
			}
			return nil
		},
		"fail": func(_ context.Context, args url.Values, _ func(any)) error {
			return errors.New("no " + args.Get("what") + " today")
		},
	}, slog.New(slog.DiscardHandler))
	ended := make(chan error)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func TestACommandReportsItsProgress(t *testing.T) {
	socket := listening(t)
	var got []string
	err := Call(t.Context(), socket, "count", nil, func(p json.RawMessage) { got = append(got, string(p)) })
	if err != nil || !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAFailedCommandSaysWhy(t *testing.T) {
	socket := listening(t)
	if err := Call(t.Context(), socket, "fail", url.Values{"what": {"bread"}}, nil); err == nil || err.Error() != "no bread today" {
		t.Errorf("%v", err)
	}
	if err := Call(t.Context(), socket, "dance", nil, nil); err == nil || !strings.Contains(err.Error(), `does not know the command "dance" (404 Not Found): it is of another version; restart it`) {
		t.Errorf("%v", err)
	}
}

func TestWithoutASidecarTheCallerIsToldSo(t *testing.T) {
	if err := Call(t.Context(), socketIn(t), "count", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

func TestASecondSidecarDoesNotTakeTheSocket(t *testing.T) {
	socket := listening(t)
	if l, err := Listen(t.Context(), socket); err == nil {
		t.Errorf("it was opened twice (%v)", l.Close())
	}
	if err := Call(t.Context(), socket, "count", nil, nil); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}
