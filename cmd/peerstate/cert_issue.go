package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs"
)

func certIssueCommand(now func() time.Time) *cobra.Command {
	var dir, out string
	var days int
	cmd := &cobra.Command{
		Use:   "issue NODE --ca DIR --out DIR",
		Short: "Issue a node's certificate",
		Long: `Makes a key for the node NODE and issues a certificate for it. The directory --out then
holds all that the node needs; existing certificates are never overwritten. A node's name
is known to the whole farm, and no two nodes may have the same.`,
		Example: `  peerstate cert issue web1 --ca farm-ca --out web1
  peerstate cert issue web1 --ca farm-ca --out web1-new --days 365`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("name one node, such as: peerstate cert issue web1 --ca farm-ca --out web1")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			node := args[0]
			if err := certs.ValidName(node); err != nil {
				return usage("the node's name: %w", err)
			}
			if dir == "" {
				return usage("--ca is missing: name the directory that \"peerstate cert init\" made, such as --ca farm-ca")
			}
			if out == "" {
				return usage("--out is missing: name the directory for the node's files, such as --out %s", node)
			}
			life, err := certDays(days)
			if err != nil {
				return err
			}
			ca, err := certs.LoadCA(dir)
			if err != nil {
				return err
			}
			at := now()
			peer, err := ca.Issue(out, node, life, at)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), certIssueText(peer, out, days, at))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "ca", "", "the CA's `directory` (needed)")
	cmd.Flags().StringVar(&out, "out", "", "the `directory` for the node's files, made if need be (needed)")
	cmd.Flags().IntVar(&days, "days", int(certs.DefaultNodeLife/certDay), "how long the certificate lasts, at most as long as the CA")
	return cmd
}

func certIssueText(peer certs.Peer, dir string, days int, now time.Time) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Issued a certificate for the node %q of the farm %q.\n\n", peer.Node, peer.Farm)
	certNodeColumns(&out, peer, dir, now)
	if asked := now.Add(time.Duration(days) * certDay); asked.Sub(peer.Expires) >= time.Second {
		fmt.Fprintf(&out, "\nThat is earlier than the %d days asked for: the farm's CA itself ends then.\n", days)
	}
	fmt.Fprintf(&out, `
If the farm has an issuer (a node that runs with PEERSTATE_CA_DIR), the node renews it by
itself, with a third of its life left. Otherwise nobody does: before that day, issue another
one into a new directory, and copy its files over the old ones on the node, which takes
them in while it runs.

Next, on the machine of %s, set
  PEERSTATE_CERT_DIR=<the directory>
and let "peerstate check" say whether all is well. If that is another machine, take the
directory there first (it contains the key: not by mail), and delete it here.
`, peer.Node)
	return out.String()
}
