package main

import (
	"context"
	"errors"
	"net/url"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/check"
	"peerstate/cmd/peerstate/machine"
	"peerstate/cmd/peerstate/settings"
)

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
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := read()
		var findings []check.Finding
		if wrong, ok := errors.AsType[settings.Wrong](err); ok {
			findings = check.OfWrong(wrong)
		} else if err != nil {
			return err
		} else {
			findings = check.All(cmd.Context(), s, buildVersion())
		}
		return check.Print(cmd.OutOrStdout(), findings)
	}
	return cmd
}

// checkByCommand tells what check wants to know.
func (n *sidecar) checkByCommand(_ context.Context, _ url.Values, report func(any)) error {
	reason, warnings := n.ready()
	stats := n.store.Stats()
	told := check.Insight{Node: n.name, Version: buildVersion(), NotReady: reason, Warnings: warnings, Settings: map[string]string{},
		Sessions: stats.Bytes + stats.BackupBytes}
	for _, f := range n.settings.InForce {
		told.Settings[f.Name] = f.Value
	}
	var err error
	if told.Machine, err = machine.Measure(); err != nil {
		return err
	}
	if n.mesh != nil {
		told.Links = n.mesh.Links()
		for _, p := range n.mesh.Peers() {
			told.Peers = append(told.Peers, check.Peer{Node: p.Node, Site: p.Site, Addr: p.Addr, Version: p.Program, State: p.State, Offset: p.Offset})
		}
	}
	report(told)
	return nil
}
