package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/settings"
)

// TestMain lets the scripts call this test binary as peerstate, and looks for goroutines left behind.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"peerstate": main})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		// On Windows go-winio has a goroutine for the whole life of the process.
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/Microsoft/go-winio.ioCompletionProcessor")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// TestScripts runs testdata/script: the commands as a user types them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error { // what the race detector is told goes for these programs, too
			e.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE PROGRAM ARGS: exec for a program that must end with that exit code.
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				err = ts.Exec(args[1], args[2:]...)
				if exit, ok := errors.AsType[*exec.ExitError](err); ok {
					got = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			// answers: waits until a sidecar answers at PEERSTATE_CONTROL.
			"answers": func(ts *testscript.TestScript, _ bool, _ []string) {
				for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
					err := control.Call(context.Background(), ts.Getenv("PEERSTATE_CONTROL"), control.Node{}, "nothing", nil, nil)
					switch {
					case err == nil || !errors.Is(err, control.ErrNotRunning):
						return // it answers
					case time.Now().After(end):
						ts.Fatalf("%v", err)
					}
				}
			},
		},
	})
}

func TestEveryCommandExplainsItself(t *testing.T) {
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		if c.Short == "" || c.Runnable() && !c.HasSubCommands() && c.Example == "" {
			t.Errorf("%s has no description or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(rootCommand())
}

// mustSettings reads settings from an environment alone.
func TestJoinedErrorsAreOneLine(t *testing.T) {
	err := errors.Join(errors.New("this needs root"), fmt.Errorf("the program is hidden:\n  move it\n"))
	if got := oneLine(err); got != "this needs root; the program is hidden: move it" {
		t.Errorf("%q", got)
	}
}

func mustSettings(t *testing.T, environ ...string) *settings.Settings {
	t.Helper()
	s, err := settings.Read("", "", environ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
