package store

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the program of the memory benchmark's child process, whose memory then is that
// of a store and nothing else.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}
