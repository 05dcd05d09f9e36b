package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"peerstate/certs"
	"peerstate/cmd/peerstate/settings"
)

func certTokenCommand() *cobra.Command {
	var ttl time.Duration
	var addrs []string
	cmd := &cobra.Command{
		Use:   "token NODE",
		Short: "Invite a new node: print the line to run on its machine",
		Long: `Has the farm's issuer, which must be the sidecar that runs with these settings, invite a new node
under the name NODE. The line that is printed is run on the new machine: it makes a key there,
asks the issuer for a certificate, and learns where the others are. It is good for one
machine, once, and until the time said. Whoever has it can join in its place.

The line alone goes to the standard output, what there is to know to the standard error.`,
		Example: `  peerstate cert token web2
  peerstate cert token web2 --ttl 15m --addr web1.example.com:42425
  peerstate cert token web2 | ssh web2 peerstate join - --out web2`,
		Args: oneName("peerstate cert token web2"),
	}
	read := envFileFlag(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how `long` the invitation lasts, from 1m to 168h")
	cmd.Flags().StringSliceVar(&addrs, "addr", nil, "where the new machine can reach this one, `host:port`; several with commas between (default: this machine's addresses)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if ttl < certs.MinInvitation || ttl > certs.MaxInvitation {
			return usage("--ttl is %v: an invitation lasts from %v to %v (a week), such as 24h", ttl, certs.MinInvitation, certs.MaxInvitation)
		}
		for _, addr := range addrs {
			if _, err := settings.ParsePeerAddrs(addr); err != nil {
				return usage("--addr is %q: it should be %w", addr, err)
			}
		}
		values := url.Values{"node": args, "ttl": {ttl.String()}, "addr": addrs}
		return askSidecar(cmd.Context(), read, "token", values, func(t inviteReport) error {
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", inviteText(t)); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "peerstate join %s --out %s\n", t.Token, t.Node)
			return err
		})
	}
	return cmd
}

// oneName takes exactly one name of a node.
func oneName(example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("name one node, such as: %s", example)
		}
		if err := certs.ValidName(args[0]); err != nil {
			return usage("the node's name: %w", err)
		}
		return nil
	}
}

// inviteReport is an invitation, with its secret, on its way to the operator.
type inviteReport struct {
	Farm    string        `json:"farm"`
	Node    string        `json:"node"`
	Token   string        `json:"token"`
	Until   time.Time     `json:"until"`
	For     time.Duration `json:"for"`
	Addrs   []string      `json:"addrs"`
	Chosen  bool          `json:"chosen"`  // the addresses are the operator's
	Known   bool          `json:"known"`   // a node of that name has a certificate
	Revoked bool          `json:"revoked"` // it was revoked
}

func inviteText(t inviteReport) string {
	var out strings.Builder
	fmt.Fprintf(&out, "An invitation for a node %q into the farm %q, good once, until %s (%s).\n\n", t.Node, t.Farm,
		t.Until.UTC().Format("2006-01-02 15:04 UTC"), strings.TrimSpace(humanize.RelTime(t.Until.Add(-t.For), t.Until, "", "")))
	out.WriteString("The new machine will look for this one at\n")
	for _, addr := range t.Addrs {
		out.WriteString("  " + addr + "\n")
	}
	if !t.Chosen {
		fmt.Fprintf(&out, "If none of these is right, name another: peerstate cert token %s --addr HOST:PORT\n", t.Node)
	}
	switch {
	case t.Revoked:
		fmt.Fprintf(&out, "\n%s was revoked. With this it comes in again with a new key; its old ones remain refused.\n", t.Node)
	case t.Known:
		fmt.Fprintf(&out, "\nThere is a node %s already. If this is for another machine in its place, stop the old one first: two\n"+
			"machines of one name are not let in. If the old one may be in other hands: peerstate cert revoke %s\n", t.Node, t.Node)
	}
	out.WriteString(`
Run the following line on the new machine; it makes the directory after --out for the node's files.
Whoever has the line can join in place of that machine: do not leave it lying about.
`)
	return out.String()
}

// inviteByCommand is the sidecar's end of "cert token".
func (n *sidecar) inviteByCommand(ctx context.Context, args url.Values, report func(any)) error {
	node, err := oneNode(args)
	if err != nil {
		return err
	}
	ttl, err := time.ParseDuration(args.Get("ttl"))
	if err != nil {
		return err
	}
	return n.decide(ctx, func(now time.Time) (*certs.Document, error) {
		names, err := n.issuer.Nodes(now)
		if err != nil {
			return nil, err
		}
		t := inviteReport{Farm: n.issuer.Farm(), Node: node, Until: now.Add(ttl), For: ttl, Addrs: args["addr"], Chosen: len(args["addr"]) > 0,
			Known: slices.Contains(names, node), Revoked: slices.Contains(n.issuer.Revoked(), node)}
		if !t.Chosen {
			t.Addrs = n.reachableAt()
		}
		if t.Token, err = n.issuer.Invite(node, ttl, n.name, t.Addrs, now); err != nil {
			return nil, err
		}
		n.log.Info("a node is invited", "peer", node, "until", t.Until.UTC())
		report(t)
		return nil, nil
	})
}

// mostInvited is how many addresses an invitation names by itself: it should stay one line.
const mostInvited = 8

// reachableAt gives the addresses under which other machines may reach this node: the one in PEERSTATE_PEER_LISTEN
// if that names one, otherwise all of this machine, and its name.
func (n *sidecar) reachableAt() []string {
	_, port, err := net.SplitHostPort(n.mesh.Addr().String())
	if err != nil {
		return nil // Invite says that there are none
	}
	if host, _, err := net.SplitHostPort(string(n.settings.PeerListen)); err == nil && !settings.IsAll(host) {
		return []string{net.JoinHostPort(host, port)}
	}
	found, err := net.InterfaceAddrs()
	if err != nil {
		n.log.Warn("this machine's addresses cannot be found out, so the invitation has only its name", "error", err)
	}
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	return hostAddrs(found, name, port)
}

// hostAddrs chooses among a machine's addresses: none that is good only on a single network segment, and
// loopback only if there is nothing else.
func hostAddrs(found []net.Addr, name, port string) []string {
	var addrs, loopback []string
	for _, a := range found {
		ipnet, ok := a.(*net.IPNet)
		switch {
		case !ok:
		case ipnet.IP.IsLoopback():
			loopback = append(loopback, net.JoinHostPort(ipnet.IP.String(), port))
		case ipnet.IP.IsGlobalUnicast():
			addrs = append(addrs, net.JoinHostPort(ipnet.IP.String(), port))
		}
	}
	addrs = addrs[:min(len(addrs), mostInvited-1)]
	if len(addrs) == 0 {
		return loopback
	}
	if settings.IsHost(name) && !strings.EqualFold(name, "localhost") {
		addrs = append(addrs, net.JoinHostPort(name, port))
	}
	return addrs
}
