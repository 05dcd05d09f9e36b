package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
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
	// Made beforehand, as by somebody who prepares the machine: others may write there, until the service is installed.
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	openToEverybody(t, dir)
	service(true, "was there, and others could use it", "install")
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

// openToEverybody gives a directory the access list with which all may do everything.
func openToEverybody(t *testing.T, dir string) {
	t.Helper()
	open, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := open.DACL()
	if err != nil {
		t.Fatal(err)
	}
	err = windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION,
		nil, nil, list, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// The port of Microsoft's service stands in the registry, and so does the service that this test plays it with.
func TestTheServiceTakesThePortOfMicrosoftsAndSaysThatThatRuns(t *testing.T) {
	if os.Getenv("E2E_SERVICE") == "" {
		t.Skip("it would install a service on this machine: set E2E_SERVICE=yes where that does no harm")
	}
	const microsofts = "aspnet_state"
	m, err := mgr.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Disconnect() }) // nothing is lost with it
	if s, err := m.OpenService(microsofts); err == nil {
		s.Close()
		t.Skip("Microsoft's own state service is installed on this machine, and is left alone")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "microsofts.env")
	settings := "PEERSTATE_LISTEN=127.0.0.1:0\nPEERSTATE_ADMIN_LISTEN=\nPEERSTATE_CONTROL=" + newSocket(t) + "\n"
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(os.Getenv("ProgramData"), "peerstate", "peerstate.env")
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	run := func(good bool, args ...string) string {
		t.Helper()
		out, err := exec.Command(program, args...).CombinedOutput()
		if (err == nil) != good {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := run(false, "service", "install", "--take-port"); !strings.Contains(out, "is not installed on this machine, so there is no port") {
		t.Errorf("without Microsoft's service it says\n%s", out)
	}

	other, err := m.CreateService(microsofts, program, mgr.Config{StartType: mgr.StartManual}, "serve", "--env-file", file,
		"--log-file", filepath.Join(dir, "microsofts.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(registry.DeleteKey(registry.LOCAL_MACHINE, aspnetParameters), other.Delete(), other.Close()); err != nil {
			t.Error(err)
		}
	})
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, aspnetParameters, registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	port := func(n uint32) {
		if err := k.SetDWordValue("Port", n); err != nil {
			t.Fatal(err)
		}
	}
	port(70000)
	if out := run(false, "service", "install", "--take-port"); !strings.Contains(out, "is 70000") {
		t.Errorf("with a port that is none it says\n%s", out)
	}
	port(42500)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	await := func(state svc.State) {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if s, err := other.Query(); err != nil || s.State == state {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("Microsoft's service is not in state %d", state)
			}
		}
	}
	await(svc.Running)
	t.Cleanup(func() { _ = exec.Command(program, "service", "uninstall").Run(); _ = os.Remove(own) })
	out := run(true, "service", "install", "--take-port")
	for _, says := range []string{"(new)", "Microsoft's own state service runs on this machine", "sc stop aspnet_state"} {
		if !strings.Contains(out, says) {
			t.Errorf("it does not say %q:\n%s", says, out)
		}
	}
	if text, err := os.ReadFile(own); err != nil || !strings.Contains(string(text), "\nPEERSTATE_LISTEN=127.0.0.1:42500\n") {
		t.Errorf("the settings are %v\n%s", err, text)
	}
	if out := run(true, "check", "--env-file", own); !strings.Contains(out, "Microsoft's own state service runs on this machine too") {
		t.Errorf("check does not say that it runs:\n%s", out)
	}
	if _, err := other.Control(svc.Stop); err != nil {
		t.Fatal(err)
	}
	await(svc.Stopped)
	run(true, "service", "uninstall")
	if out := run(true, "service", "install", "--take-port"); strings.Contains(out, "Microsoft's own") ||
		!strings.Contains(out, "write this into the settings: PEERSTATE_LISTEN=127.0.0.1:42500") {
		t.Errorf("with settings that were there, and Microsoft's stopped, it says\n%s", out)
	}
}

// aspnetParameters is where Microsoft's state service has its settings.
const aspnetParameters = `SYSTEM\CurrentControlSet\Services\aspnet_state\Parameters`

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
