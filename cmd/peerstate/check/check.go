// Package check looks at what a node needs, as "peerstate serve" would use it, and says in plain words what is wrong and how to
// mend it. It changes nothing.
//
// [All] asks the sidecar that runs with the settings, if there is one, for what only that process knows ([Insight], running.go), and
// has each file look at one thing: the safety of sessions, ports, the machine, the data directory, certificates, the other
// nodes. What looks begins with "check", and what makes findings of what was seen, with "judge".
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"peerstate/cmd/peerstate/settings"
)

// Finding is one thing that check has looked at.
type Finding struct {
	Grade Grade
	What  string
	Mend  string // how; empty when all is well
}

// Grade says how bad a finding is.
type Grade int

const (
	Fine     Grade = iota // all is well
	Doubtful              // a warning: it may be meant
	Problem               // sessions, or the node, will suffer
)

var gradeNames = [...]string{Fine: "ok", Doubtful: "warning", Problem: "problem"}

func good(format string, a ...any) Finding { return Finding{Fine, fmt.Sprintf(format, a...), ""} }
func warning(what, mend string) Finding    { return Finding{Doubtful, what, mend} }
func fault(what, mend string) Finding      { return Finding{Problem, what, mend} }

// All looks at everything that serve needs; version is this program's. It asks other nodes and the sidecar that runs here, and takes
// some seconds where one does not answer; ctx ends it.
func All(ctx context.Context, s *settings.Settings, version string) []Finding {
	var all []Finding
	for _, w := range s.Warnings {
		all = append(all, warning(w, ""))
	}
	if len(s.Warnings) == 0 {
		all = append(all, good("the settings are right"))
	}
	r, found := findRunning(ctx, s)
	var ofPeers []Finding
	others := 0
	if s.CertDir != "" {
		ofPeers, others = checkPeers(ctx, s, r, version)
	}
	all = append(all, checkSafety(s, others)...)
	all = append(all, checkWaits(s)...)
	all = append(all, found...)
	if r != nil {
		all = append(all, checkRunning(s, r, version)...)
	}
	all = append(all, checkPorts(ctx, s, r)...)
	all = append(all, checkMachine(s, r)...)
	all = append(all, checkService()...)
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
	}
	return append(all, ofPeers...)
}

// OfWrong says that the settings cannot be read, and so nothing else be looked at.
func OfWrong(wrong settings.Wrong) (all []Finding) {
	for _, w := range wrong {
		all = append(all, fault(w, "correct it where it is set, and run peerstate check again: then it looks at the rest, too"))
	}
	return all
}

// Print prints the findings in their order; the error says how many problems there are, or that they could not
// be written.
func Print(out io.Writer, findings []Finding) error {
	var b strings.Builder
	problems := 0
	for _, f := range findings {
		fmt.Fprintf(&b, "%-8s %s\n", gradeNames[f.Grade], f.What)
		if f.Mend != "" {
			fmt.Fprintf(&b, "         -> %s\n", f.Mend)
		}
		if f.Grade == Problem {
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
