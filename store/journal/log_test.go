package journal

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

func testLog(t testing.TB, log *slog.Logger) *slog.Logger {
	if log != nil {
		return log
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// spoken collects what is logged.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *spoken) log() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func (s *spoken) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}
