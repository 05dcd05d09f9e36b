// Package systemd has no code: what to do on Linux.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"peerstate/examples/demo/demotest"
)

// TestSystemdTakesWhatInstallPrints is what a careful administrator does before he installs it.
func TestSystemdTakesWhatInstallPrints(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("on this system peerstate prints no unit of systemd")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here, which judges units (Debian: apt-get install systemd)")
	}
	dir := t.TempDir()
	unit, err := exec.Command(demotest.Build(t, dir, "peerstate/cmd/peerstate"), "service", "install", "--print").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "peerstate.service")
	verify := func(text string) string {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", file).CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		return string(out)
	}
	if says := verify(string(unit)); says != "" {
		t.Errorf("systemd says %s\nof\n%s", says, unit)
	}
	if says := verify(strings.Replace(string(unit), "ExecStart=/", "ExecStart=/nowhere/", 1)); says == "" {
		t.Error("systemd says nothing of a program that is not there")
	}
}

func TestTheSystemsSettingsAreAsLargeAsQUICWantsAndKeepOurPorts(t *testing.T) {
	data, err := os.ReadFile("60-peerstate.conf")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	for _, name := range []string{"net.core.rmem_max", "net.core.wmem_max"} {
		if n, err := strconv.Atoi(values[name]); err != nil || n < 7<<20 { // quic-go's desiredBufferSize
			t.Errorf("%s is %q, %v", name, values[name], err)
		}
	}
	if reserved := values["net.ipv4.ip_local_reserved_ports"]; reserved != "42424-42426" { // the defaults of the three listeners
		t.Errorf("reserved are the ports %q", reserved)
	}
}
