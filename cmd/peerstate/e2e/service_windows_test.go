package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A service is the machine's, not the test's. So this runs only where it is said that the machine is for tests.
func TestTheServiceIsInstalledRunsAndIsRemovedAndLeavesItsFiles(t *testing.T) {
	if os.Getenv("E2E_SERVICE") == "" {
		t.Skip("it would install a service on this machine: set E2E_SERVICE=yes where that does no harm")
	}
	service := func(good bool, says string, args ...string) {
		t.Helper()
		out, err := exec.Command(program, append([]string{"service"}, args...)...).CombinedOutput()
		if (err == nil) != good || !strings.Contains(string(out), says) {
			t.Fatalf("service %s: %v, without %q:\n%s", args, err, says, out)
		}
	}
	dir := filepath.Join(os.Getenv("ProgramData"), "peerstate")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	service(false, "not installed", "status")
	service(true, "(new)", "install")
	t.Cleanup(func() { _ = exec.Command(program, "service", "uninstall").Run() }) // if the test did not come to it
	service(false, "installed already", "install")
	settings := "PEERSTATE_LISTEN=127.0.0.1:0\nPEERSTATE_ADMIN_LISTEN=127.0.0.1:0\nPEERSTATE_CONTROL=" + newSocket(t) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "peerstate.env"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	service(true, "runs", "start")
	service(true, "as process", "status")
	service(true, "stopped", "stop")
	service(false, "does not run", "status")
	service(true, dir, "uninstall")
	service(false, "not installed", "status")
	log, err := os.ReadFile(filepath.Join(dir, "log", "peerstate.log"))
	for _, line := range []string{"INF ready ", "INF stopping", "INF stopped"} {
		if err != nil || !strings.Contains(string(log), line) {
			t.Errorf("the log has no %q (%v):\n%s", line, err, log)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "peerstate.env")); err != nil {
		t.Errorf("the settings have not stayed: %v", err)
	}
}

func TestAServiceWithWrongSettingsIsSaidNotToStart(t *testing.T) {
	if os.Getenv("E2E_SERVICE") == "" {
		t.Skip("it would install a service on this machine: set E2E_SERVICE=yes where that does no harm")
	}
	if out, err := exec.Command(program, "service", "install").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(program, "service", "uninstall").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	file := filepath.Join(os.Getenv("ProgramData"), "peerstate", "peerstate.env")
	if err := os.WriteFile(file, []byte("PEERSTATE_LISTEN=nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	out, err := exec.Command(program, "service", "start").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "has stopped again") {
		t.Errorf("%v\n%s", err, out)
	}
}
