package journal

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the program that is killed in the middle of writing.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}
