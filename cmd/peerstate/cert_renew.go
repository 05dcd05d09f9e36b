package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func certRenewCommand(now func() time.Time) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Get a new certificate for this node from the farm's issuer, now",
		Long: `Has the sidecar that runs with these settings ask the farm's issuer for a new certificate with a
new key. It does so by itself when a third of the certificate's life is left, so this is
only for seeing that it works, or after a long time without the issuer.`,
		Example: `  peerstate cert renew
  peerstate cert renew --env-file london.env`,
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return askSidecar(cmd.Context(), read, "renew", nil, func(r renewReport) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), renewText(r, now()))
			return err
		})
	}
	return cmd
}

type renewReport struct {
	Node    string    `json:"node"`
	Serial  string    `json:"serial"`
	Issuer  string    `json:"issuer"`
	Expires time.Time `json:"expires"`
}

func renewText(r renewReport, now time.Time) string {
	var out strings.Builder
	fmt.Fprintf(&out, "The node %q has a new certificate and a new key.\n\n", r.Node)
	certColumns(&out, [2]string{"issuer", r.Issuer}, [2]string{"serial", r.Serial}, [2]string{"ends", certDate(r.Expires, now)})
	out.WriteString("\nIts links change to it one by one; nothing is interrupted.\n")
	return out.String()
}

func (n *sidecar) renewByCommand(ctx context.Context, _ url.Values, report func(any)) error {
	if n.mesh == nil {
		return errStandAlone
	}
	p, err := n.mesh.RenewNow(ctx)
	if err != nil {
		return err
	}
	report(renewReport{p.Node, p.Serial, p.Issuer, p.Expires})
	return nil
}
