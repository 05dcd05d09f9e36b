package control

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

func socketIn(*testing.T) string { return `\\.\pipe\peerstate-test-` + rand.Text() }

func TestAPipeThatAStrangerHasMadeIsNotAsked(t *testing.T) {
	pipe := socketIn(t)
	// Another user makes it his own by making it; this one has to be allowed to say so. The group of all users is no administrator.
	l, err := winio.ListenPipe(pipe, &winio.PipeConfig{SecurityDescriptor: "O:BUD:(A;;GA;;;WD)"})
	if errors.Is(err, windows.ERROR_INVALID_OWNER) {
		t.Skip("Windows lets no program make a pipe that belongs to another account")
	}
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	s := NewServer(func() Node { return Node{} }, map[string]Handler{"count": func(context.Context, url.Values, func(any)) error {
		asked = true
		return nil
	}}, slog.New(slog.DiscardHandler))
	ended := make(chan error)
	go func() { ended <- s.Serve(l) }()
	err = Call(t.Context(), pipe, Node{}, "count", nil, nil)
	if !errors.Is(err, ErrForeign) || !strings.HasPrefix(err.Error(), ErrForeign.Error()+": the pipe "+pipe+" was made by ") || strings.Contains(err.Error(), "http:") {
		t.Errorf("it says %v", err)
	}
	if err := errors.Join(s.Shutdown(t.Context()), <-ended); err != nil {
		t.Error(err)
	}
	if asked {
		t.Error("the command was asked for all the same")
	}
}
