// Package systemd has no code: what to do on Linux.
package systemd

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestTheBuffersAreAsLargeAsQUICWants(t *testing.T) {
	data, err := os.ReadFile("60-peerstate.conf")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]int{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Errorf("%q: %v", line, err)
			}
			values[strings.TrimSpace(name)] = n
		}
	}
	for _, name := range []string{"net.core.rmem_max", "net.core.wmem_max"} {
		if values[name] < 7<<20 { // quic-go's desiredBufferSize
			t.Errorf("%s is %d", name, values[name])
		}
	}
}
