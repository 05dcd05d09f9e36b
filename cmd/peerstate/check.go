package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/settings"
)

// finding is one thing that check has looked at.
type finding struct {
	grade grade
	what  string
	mend  string // how; empty when all is well
}

type grade int

const (
	fine grade = iota
	doubtful
	problem
)

var gradeNames = [...]string{fine: "ok", doubtful: "warning", problem: "problem"}

func good(format string, a ...any) finding { return finding{fine, fmt.Sprintf(format, a...), ""} }
func warning(what, mend string) finding    { return finding{doubtful, what, mend} }
func fault(what, mend string) finding      { return finding{problem, what, mend} }

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the settings, and how to mend it",
		Long: `Looks at the settings, the ports, the control socket, the limits of the system, the data
directory, the certificates and the other nodes, as "peerstate serve" would use them, and
says in plain words what is wrong and how to mend it. It changes nothing, and may be used
while the sidecar runs: then that one is asked, too. Exit code 1 if there is a problem;
warnings do not count.`,
		Example: `  peerstate check
  peerstate check --env-file london.env`,
		Args: cobra.NoArgs,
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := read()
		var findings []finding
		if wrong, ok := errors.AsType[settings.Wrong](err); ok {
			for _, w := range wrong {
				findings = append(findings, fault(w, "peerstate config --help tells where settings come from; the rest is checked when this is right"))
			}
		} else if err != nil {
			return err
		} else {
			findings = check(cmd.Context(), s)
		}
		return printFindings(cmd.OutOrStdout(), findings)
	}
	return cmd
}

// check looks at everything that serve needs.
func check(ctx context.Context, s *settings.Settings) []finding {
	var all []finding
	for _, w := range s.Warnings {
		all = append(all, warning(w, ""))
	}
	if len(s.Warnings) == 0 {
		all = append(all, good("the settings are right"))
	}
	all = append(all, checkSafety(s)...)
	all = append(all, checkWaits(s)...)
	r, found := findRunning(ctx, s)
	all = append(all, found...)
	if r != nil {
		all = append(all, checkRunning(s, r)...)
	}
	all = append(all, checkPorts(ctx, s, r)...)
	all = append(all, checkMachine(s, r)...)
	if s.DataDir != "" {
		all = append(all, checkDataDir(s, r != nil))
		all = append(all, checkSpace(s, r)...)
	}
	if s.Upstream != "" {
		all = append(all, checkUpstream(ctx, s))
	}
	if s.CertDir != "" {
		all = append(all, checkCertificates(s)...)
		all = append(all, checkIssuer(s)...)
		all = append(all, checkPeers(ctx, s, r)...)
	}
	return all
}

// printFindings prints the findings in their order; the error says how many problems there are.
func printFindings(out io.Writer, findings []finding) error {
	var b strings.Builder
	problems := 0
	for _, f := range findings {
		fmt.Fprintf(&b, "%-8s %s\n", gradeNames[f.grade], f.what)
		if f.mend != "" {
			fmt.Fprintf(&b, "         -> %s\n", f.mend)
		}
		if f.grade == problem {
			problems++
		}
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	switch problems {
	case 0:
		return nil
	case 1:
		return errors.New("check: there is a problem")
	}
	return fmt.Errorf("check: there are %d problems", problems)
}
