package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// These are set by the linker (see the Makefile and cmd/release); a plain "go build" or "go install" leaves them empty.
var (
	version string
	commit  string
	built   string // when the commit was made, which is the same whoever builds it
)

// buildVersion is the version of this program, for people, pages and metrics. Never empty.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// buildCommit is the commit it was built from, as the go command recorded it.
func buildCommit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " with changes"
		}
	}
	return revision + modified
}

// buildTime is when the commit was made that it was built from: " of TIME", or "".
func buildTime() string {
	when := built
	if info, ok := debug.ReadBuildInfo(); ok && when == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				when = s.Value
			}
		}
	}
	if when == "" {
		return ""
	}
	return " of " + when
}

func versionText() string {
	return fmt.Sprintf("peerstate %s\ncommit %s%s\n%s %s/%s\n",
		buildVersion(), buildCommit(), buildTime(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit with its time, and Go version",
		Example: "  peerstate version",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionText())
			return err
		},
	}
}
