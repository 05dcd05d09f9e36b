package relay

import (
	"bytes"
	"strings"
	"testing"
)

// shows looks at what the screen has written so far.
func (s *scene) shows(text string) bool {
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	return bytes.Contains(s.seen.Bytes(), []byte(text))
}

// stuck is a terminal that takes nothing until it is let go.
type stuck struct {
	begun, free chan struct{}
	text        strings.Builder
}

func (w *stuck) Write(p []byte) (int, error) {
	select {
	case w.begun <- struct{}{}:
	default:
	}
	<-w.free
	return w.text.Write(p)
}

func TestATerminalThatStandsStillHoldsNobodyUpAndSaysWhatItMissed(t *testing.T) {
	w := &stuck{begun: make(chan struct{}, 1), free: make(chan struct{})}
	s := NewScreen(w, false, false)
	s.note(1, "first")
	<-w.begun
	long := strings.Repeat("x", 1<<20)
	for range 10 {
		s.note(2, "%s", long) // would not return if it waited
	}
	close(w.free)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if text := w.text.String(); !strings.Contains(text, "first") || !strings.Contains(text, "7 messages are not shown") || strings.Count(text, long) != 3 {
		t.Errorf("of 10 MiB there are %d bytes, and the end is %q", len(text), text[len(text)-100:])
	}
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	for _, colour := range []bool{false, true} {
		var b bytes.Buffer
		s := NewScreen(&b, colour, false)
		s.fault(1, "trouble")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "\x1b[31m") != colour {
			t.Errorf("colour %v: %q", colour, b.String())
		}
	}
}

func TestTextFromTheWireIsHarmlessForATerminal(t *testing.T) {
	if got := safe([]byte("a\x1b[2J\u202e\xff\"é")); got != `a\x1b[2J\u202e\xff"é` {
		t.Errorf("shown as %q", got)
	}
}
