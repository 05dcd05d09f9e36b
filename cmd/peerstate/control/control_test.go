package control

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"peerstate/certs"
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
	s := NewServer(func() Node { return Node{"shop", "web1", []string{"old", "new"}} }, map[string]Handler{
		"count": func(_ context.Context, args url.Values, report func(any)) error {
			for i := range 3 {
				report(i)
			}
			return nil
		},
		"fail": func(_ context.Context, args url.Values, _ func(any)) error {
			return errors.New("no " + args.Get("what") + " today")
		},
		"mumble": func(_ context.Context, _ url.Values, report func(any)) error {
			report(make(chan int)) // which JSON has no words for
			return nil
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
	err := Call(t.Context(), socket, Node{}, "count", nil, func(p json.RawMessage) { got = append(got, string(p)) })
	if err != nil || !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAFailedCommandSaysWhy(t *testing.T) {
	socket := listening(t)
	if err := Call(t.Context(), socket, Node{}, "fail", url.Values{"what": {"bread"}}, nil); err == nil || err.Error() != "no bread today" {
		t.Errorf("%v", err)
	}
	if err := Call(t.Context(), socket, Node{}, "dance", nil, nil); err == nil || !strings.Contains(err.Error(), `does not know the command "dance" (404 Not Found): it is of another version; restart it`) {
		t.Errorf("%v", err)
	}
}

func TestACommandThatCannotSayWhatItFoundHasFailed(t *testing.T) {
	if err := Call(t.Context(), listening(t), Node{}, "mumble", nil, nil); err == nil || !strings.Contains(err.Error(), "unsupported type") {
		t.Errorf("%v", err)
	}
}

func TestWithoutASidecarTheCallerIsToldSo(t *testing.T) {
	if err := Call(t.Context(), socketIn(t), Node{}, "count", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

func TestASecondSidecarDoesNotTakeTheSocket(t *testing.T) {
	socket := listening(t)
	if l, err := Listen(t.Context(), socket); err == nil {
		t.Errorf("it was opened twice (%v)", l.Close())
	}
	if err := Call(t.Context(), socket, Node{}, "count", nil, nil); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}

func TestASidecarDoesNothingThatIsMeantForAnother(t *testing.T) {
	socket := listening(t)
	for _, c := range []struct {
		whose Node
		says  string // "": it is done
	}{
		{Node{}, ""},
		{Node{"shop", "web1", nil}, ""},
		{Node{"shop", "web1", []string{"older", "old"}}, ""}, // the CA is replaced
		{Node{"shop", "web2", []string{"new"}}, "answers the node web1 of the farm shop, and the certificates in PEERSTATE_CERT_DIR are of the node web2 of the farm shop; name the settings"},
		{Node{"bank", "web1", []string{"new"}}, "are of the node web1 of the farm bank"},
		{Node{"shop", "web1", []string{"third"}}, "answers the node web1 of the farm shop, and the certificates in PEERSTATE_CERT_DIR are of another farm of that name, with another CA"},
	} {
		reports, another := 0, new(AnotherError)
		err := Call(t.Context(), socket, c.whose, "count", nil, func(json.RawMessage) { reports++ })
		switch {
		case c.says == "" && (err != nil || reports != 3):
			t.Errorf("for %+v: %d reports, %v", c.whose, reports, err)
		case c.says != "" && (!errors.As(err, &another) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), socket) || reports > 0):
			t.Errorf("for %+v: %d reports, %v", c.whose, reports, err)
		}
	}
	if err := (Node{Farm: "shop", Name: "web1"}).Another(Node{}, "there"); err == nil || !strings.Contains(err.Error(), "at there answers one that runs stand-alone") {
		t.Errorf("of one that runs stand-alone: %v", err)
	}
}

func TestANodeIsKnownByItsDirectory(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	ca, err := certs.CreateCA(filepath.Join(dir, "ca"), "shop", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	web1 := filepath.Join(dir, "web1")
	if _, err := ca.Issue(web1, "web1", time.Hour, now); err != nil {
		t.Fatal(err)
	}
	s, err := certs.Load(web1, now)
	if err != nil {
		t.Fatal(err)
	}
	n := NodeOf(web1)
	if n.Farm != "shop" || n.Name != "web1" || !slices.Equal(n.CAs, []string{ca.Authority().KeyID}) || n.Another(Running(s), "") != nil {
		t.Errorf("it is %+v", n)
	}
	for _, none := range []string{"", dir, filepath.Join(dir, "ca"), filepath.Join(dir, "absent")} {
		if n := NodeOf(none); n.Name != "" {
			t.Errorf("in %q is %+v", none, n)
		}
	}
}
