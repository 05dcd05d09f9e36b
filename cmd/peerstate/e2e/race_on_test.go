//go:build race

package e2e

import "os"

// The program is built as the tests are.
var buildFlags = []string{"-race"}

// The race detector has each program wait a second before it ends, for races of what would have been ended with it. Here
// that is each of some hundred commands.
func init() {
	if os.Getenv("GORACE") == "" {
		if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
			panic(err)
		}
	}
}
