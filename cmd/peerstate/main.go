// Command peerstate is a sidecar that keeps the sessions of ASP.NET web servers and shares them with
// the sidecars of other sites.
//
// Each command is a function that returns a *cobra.Command, in a file named after it: serve.go runs the
// sidecar, status.go shows how it is, check.go and config.go look at its settings, bench.go loads a state server, relay.go and
// replay.go record what is said to one and say it again, explain.go tells where a session is, service.go has the system run
// the sidecar, join.go and the cert files keep the farm's certificates. What they find, measure or have to say stands in packages
// below: check, bench, explain, service and so on; settings has what all have in common.
//
// The sidecar itself is put together in sidecar.go, and has a file for each of its parts: farm.go and issuer.go for the other nodes,
// data.go for the journal, upstream.go, reload.go, observe.go and recent.go for what it shows, drain.go for its end.
// log.go makes the logger. Command line in, exit code out: that is all this file knows.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/nearest"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // the command could not do, or did not find, what it was asked for
	exitUsage  = 2 // wrong usage or configuration: trying again will not help
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and gives its exit code. An error is printed to stderr in one line.
func run(args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	// Whatever goes wrong before a command's own code runs (unknown command, bad flag, wrong number
	// of arguments) is wrong usage; cobra has no type for it.
	var started *cobra.Command
	prepare(root, func(c *cobra.Command) { started = c })

	failed, err := root.ExecuteC()
	if err == nil {
		return exitDone
	}
	if started == nil {
		err = usage("%w (see %s --help)", err, failed.CommandPath())
	}
	if _, werr := fmt.Fprintf(stderr, "peerstate: %s\n", oneLine(err)); werr != nil {
		return exitFailed // nobody to tell
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// oneLine is an error's text, in which each of several joined errors stands in a line, in one.
func oneLine(err error) string {
	text := ""
	for line := range strings.Lines(err.Error()) {
		words := strings.Join(strings.Fields(line), " ")
		switch {
		case text == "" || words == "":
		case strings.HasSuffix(text, ":") || strings.HasSuffix(text, ";"):
			text += " "
		default:
			text += "; "
		}
		text += words
	}
	return text
}

// rootCommand is the program; without a command it is serve.
func rootCommand() *cobra.Command {
	serve := serveCommand()
	root := &cobra.Command{
		Use:   "peerstate",
		Short: "ASP.NET session state, shared between sites",
		Long: `peerstate is an ASP.NET state server that runs beside each web server and shares its
sessions with the peerstate of the other sites, over QUIC and mutual TLS.

Without a command it does what "peerstate serve" does. Settings come from the
environment or from a file; "peerstate config" shows them all.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.`,
		Example: `  peerstate                          run with the defaults: state protocol on 127.0.0.1:42424
  peerstate serve --env-file my.env  run with the settings in a file
  peerstate check                    say what is wrong with the settings, and how to mend it`,
		Version:            buildVersion(),
		SilenceUsage:       true,
		SilenceErrors:      true,
		DisableSuggestions: true, // cobra prints them over several lines; see unknownCommand
		RunE:               serve.RunE,
	}
	root.Flags().AddFlagSet(serve.Flags())
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	root.SetVersionTemplate(versionText())
	root.AddCommand(serve, checkCommand(), configCommand(), statusCommand(), explainCommand(), drainCommand(), forgetCommand(), certCommand(), joinCommand(), relayCommand(), replayCommand(), benchCommand(), serviceCommand(), versionCommand())
	return root
}

// prepare has each command report that it has started, and makes a group of commands (such as cert)
// refuse an unknown name instead of printing its help and exiting with 0.
func prepare(c *cobra.Command, started func(*cobra.Command)) {
	if c.HasSubCommands() && !c.Runnable() {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("%w (see %s --help)", unknownCommand(cmd, args[0]), cmd.CommandPath())
			}
			return usage("%s: which one of %s? (see %s --help)",
				cmd.Name(), strings.Join(commandNames(cmd), ", "), cmd.CommandPath())
		}
	}
	if do := c.RunE; do != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			started(cmd)
			return do(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		prepare(sub, started)
	}
}

// noArgs takes no argument.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no argument such as %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// one takes exactly one argument, and otherwise says what to name.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("%s", what)
		}
		return nil
	}
}

// unknownCommand says so, with the nearest name there is.
func unknownCommand(parent *cobra.Command, name string) error {
	if near := nearest.To(name, commandNames(parent)); near != "" {
		return fmt.Errorf("unknown command %q for %q: did you mean %q?", name, parent.CommandPath(), near)
	}
	return fmt.Errorf("unknown command %q for %q", name, parent.CommandPath())
}

func commandNames(parent *cobra.Command) []string {
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	slices.Sort(names)
	return names
}

// usageError is wrong usage or configuration, as against work that failed: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usage makes a usageError; the arguments are those of [fmt.Errorf].
func usage(format string, a ...any) error {
	return &usageError{fmt.Errorf(format, a...)}
}
