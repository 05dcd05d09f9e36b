package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the tests start this binary as a program of a demonstration.
func TestMain(m *testing.M) {
	switch how := os.Getenv("DEMO_CHILD"); how {
	case "":
		os.Exit(m.Run())
	case "fails":
		fmt.Println("it rains")
		os.Exit(3)
	default:
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		fmt.Printf("%s, PEERSTATE_SITE=%q\n", how, os.Getenv("PEERSTATE_SITE"))
		<-interrupted
		fmt.Println("interrupted")
	}
}

// child starts this binary, and waits until it has logged its first line.
func child(t *testing.T, how string) *Process {
	t.Helper()
	p := &Process{Name: how, Log: filepath.Join(t.TempDir(), "log")}
	if err := p.Start([]string{"DEMO_CHILD=" + how}, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.logged(), "\n"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s has logged %q", how, p.logged())
		}
	}
	return p
}

func TestSettingsOfWhoeverStartsADemonstrationDoNotCount(t *testing.T) {
	t.Setenv("PEERSTATE_SITE", "paris")
	if p := child(t, "waits"); p.logged() != "waits, PEERSTATE_SITE=\"\"\n" {
		t.Errorf("it says %q", p.logged())
	}
}

func TestAllProgramsAreAskedToStopAndWaitedFor(t *testing.T) {
	one, two, never := child(t, "one"), child(t, "two"), &Process{Name: "never"}
	if err := End(one, never, two); err != nil {
		t.Error(err)
	}
	for _, p := range []*Process{one, two} {
		if !strings.HasSuffix(p.logged(), "\ninterrupted\n") {
			t.Errorf("%s has logged %q", p.Name, p.logged())
		}
		if err := p.Kill(); err != nil { // which has ended
			t.Error(err)
		}
	}
}

func TestAKilledProgramIsNotAsked(t *testing.T) {
	p := child(t, "waits")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.logged(), "interrupted") {
		t.Errorf("it was asked to stop: %q", p.logged())
	}
	if err := End(p); err != nil {
		t.Errorf("it is waited for: %v", err)
	}
}

func TestOfAProgramThatEndsByItselfTheLogIsShown(t *testing.T) {
	p := child(t, "fails")
	err := <-p.Ended()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 {
		t.Errorf("it has ended with %v", err)
	}
	if gone := p.Gone(err); !strings.Contains(gone.Error(), "fails has ended (exit status 3). It logged:\nit rains\n") {
		t.Errorf("it is said of it: %v", gone)
	}
}

func TestAProgramThatIsNotThereIsSaidByName(t *testing.T) {
	p := &Process{Name: "london", Log: filepath.Join(t.TempDir(), "log")}
	if err := p.Start(nil, filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "starting london: ") {
		t.Errorf("it says %v", err)
	}
}
