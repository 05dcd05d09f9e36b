package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/settings"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the settings in force, with defaults and where each came from",
		Long: `Prints every setting with its meaning, its value and where the value came from. What it
prints can be used as an --env-file.

A setting comes from the environment; if it is not there, from the --env-file; without
that option, from the file peerstate.env beside the program, if there is one; else it has
its default. The file has lines of NAME=value; nothing in a value is replaced or escaped.`,
		Example: `  peerstate config
  peerstate config --env-file london.env
  PEERSTATE_SITE=london peerstate config > peerstate.env`,
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := read()
		if err != nil {
			return err
		}
		for _, w := range s.Warnings {
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "peerstate: warning: %s\n", w); err != nil {
				return err
			}
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), s.String())
		return err
	}
	return cmd
}

// envFileFlag gives a command its --env-file. Read the settings with the function that it returns; its errors are usage.
func envFileFlag(cmd *cobra.Command) func() (*settings.Settings, error) {
	file := cmd.Flags().String("env-file", "", "`file` of NAME=value lines, for settings that the environment does not have (default: "+settings.BesideName+" beside the program, or that of the installed service, if there is one)")
	return func() (*settings.Settings, error) {
		s, err := settings.Read(*file, settings.Usual(), os.Environ())
		if err != nil {
			return nil, usage("%w", err)
		}
		return s, nil
	}
}
