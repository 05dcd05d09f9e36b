package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs"
	"peerstate/cmd/peerstate/nearest"
)

func certRevokeCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "revoke NODE",
		Short: "Cut a node off, everywhere, at once",
		Long: `Has the farm's issuer, which must be the sidecar that runs with these settings, tell all nodes to
refuse the node NODE: its links are closed within a second, and none of its certificates and keys
is accepted any more. Nodes that are off learn of it before they link with anybody.

The node's sessions are served from their backups at once. Those that had none are lost, so to
take a healthy node out of service use "peerstate drain" on it instead.

A machine that was stolen, or had an intruder, could read and change all sessions up to then.
To bring a node of that name back, install the machine anew, and invite it:
"peerstate cert token NODE".`,
		Example: `  peerstate cert revoke web3
  peerstate cert revoke web9 --force   also if nobody has heard of web9`,
		Args: oneName("peerstate cert revoke web3"),
	}
	read := envFileFlag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "also if no node of that name is known")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		values := url.Values{"node": args, "force": {strconv.FormatBool(force)}}
		return askSidecar(cmd.Context(), read, "revoke", values, func(s spread) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), revokeText(args[0], s))
			return err
		})
	}
	return cmd
}

func certUnrevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unrevoke NODE",
		Short: "Take back that a node was revoked: its old keys are good again",
		Long: `Has the farm's issuer, which must be the sidecar that runs with these settings, take back that the
node NODE was revoked: its certificates and keys are accepted again.

Do this only if they were never in other hands, as after a mistake. Otherwise invite the
node anew, which gives it another key: "peerstate cert token NODE".`,
		Example: `  peerstate cert unrevoke web3`,
		Args:    oneName("peerstate cert unrevoke web3"),
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return askSidecar(cmd.Context(), read, "unrevoke", url.Values{"node": args}, func(s spread) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), unrevokeText(args[0], s))
			return err
		})
	}
	return cmd
}

func revokeText(node string, s spread) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s is revoked: its certificates and keys are refused from now on.\n\n", node)
	out.WriteString(spreadText(s))
	fmt.Fprintf(&out, `
Its sessions are served from their backups; what had none is lost. If the machine may have been
in other hands: up to now it could read, change and delete all sessions of the farm, and
through their contents perhaps run programs on the web servers. See that they are well.

To bring a node of that name back, with a new key:  peerstate cert token %s
If this was a mistake, and the machine is safe:     peerstate cert unrevoke %s
`, node, node)
	return out.String()
}

func unrevokeText(node string, s spread) string {
	return fmt.Sprintf("%s is not revoked any more: its certificates and keys are good again, also any copy of them.\n\n%s\n"+
		"It links by itself within half a minute, if it runs.\n", node, spreadText(s))
}

// spreadText tells which nodes know of it.
func spreadText(s spread) string {
	var out strings.Builder
	all := len(s.Have) + len(s.Lack)
	switch {
	case all == 0:
		out.WriteString("There are no other nodes to be told.\n")
	case len(s.Lack) == 0:
		fmt.Fprintf(&out, "All other nodes know it: %s.\n", strings.Join(s.Have, ", "))
	default:
		fmt.Fprintf(&out, "%d of %d other nodes know it.\n", len(s.Have), all)
		fmt.Fprintf(&out, "These learn of it from the others when they are linked again: %s.\n", strings.Join(s.Lack, ", "))
	}
	return out.String()
}

func (n *sidecar) revokeByCommand(ctx context.Context, args url.Values, report func(any)) error {
	node, err := oneNode(args)
	if err != nil {
		return err
	}
	err = n.decide(ctx, func(now time.Time) (*certs.Document, error) {
		if node == n.name {
			return nil, fmt.Errorf("%s is the farm's issuer itself, which cannot cut itself off; if its machine is in other hands, the CA is too: "+
				"make a new farm with \"peerstate cert init\", and issue new certificates for all nodes", node)
		}
		names, err := n.nodes()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, node) && !slices.Contains(n.issuer.Revoked(), node) && args.Get("force") != "true" {
			return nil, unknownNode(node, names, " (--force revokes the name all the same)")
		}
		var keys []string
		for _, p := range n.mesh.Peers() {
			if p.Node == node && p.Cert.Key != "" {
				keys = append(keys, p.Cert.Key)
			}
		}
		return n.issuer.Revoke(node, keys, now)
	})
	if err == nil {
		n.log.Info("a command revokes a node", "peer", node)
		report(n.spreadOf(ctx, node))
	}
	return err
}

func (n *sidecar) unrevokeByCommand(ctx context.Context, args url.Values, report func(any)) error {
	node, err := oneNode(args)
	if err != nil {
		return err
	}
	err = n.decide(ctx, func(now time.Time) (*certs.Document, error) {
		return n.issuer.Unrevoke(node, now)
	})
	if err == nil {
		n.log.Info("a command takes a revocation back", "peer", node)
		report(n.spreadOf(ctx, node))
	}
	return err
}

// unknownNode says so, with the nearest name there is.
func unknownNode(node string, known []string, hint string) error {
	if near := nearest.To(node, known); near != "" {
		return fmt.Errorf("no node %q is known: did you mean %s?%s", node, near, hint)
	}
	return fmt.Errorf("no node %q is known; there are %s%s", node, strings.Join(known, ", "), hint)
}
