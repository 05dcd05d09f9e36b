package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs"
	"peerstate/cmd/peerstate/settings"
)

// certDefaultFarm names a farm whose owner has only one. Farms with different CAs never mix, whatever
// they are called.
const certDefaultFarm = "farm"

func certInitCommand(now func() time.Time) *cobra.Command {
	var dir, farm string
	var days int
	cmd := &cobra.Command{
		Use:   "init --ca DIR",
		Short: "Create the farm's CA",
		Long: `Creates the certificate authority of a new farm: a key and a certificate in DIR.
An existing one is never overwritten.`,
		Example: `  peerstate cert init --ca farm-ca
  peerstate cert init --ca farm-ca --farm shop --days 7300`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usage("--ca is missing: name the directory to create the CA in, such as --ca farm-ca")
			}
			if err := certs.ValidFarm(farm); err != nil {
				return usage("--farm: %w", err)
			}
			life, err := certDays(days)
			if err != nil {
				return err
			}
			at := now()
			ca, err := certs.CreateCA(dir, farm, life, at)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), certInitText(ca, dir, at))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "ca", "", "the CA's `directory`, made if need be (needed)")
	cmd.Flags().StringVar(&farm, "farm", certDefaultFarm, "the farm's `name`: a-z, 0-9, '-' and '.'")
	cmd.Flags().IntVar(&days, "days", int(certs.DefaultCALife/certDay), "how long the CA lasts")
	return cmd
}

func certInitText(ca *certs.CA, dir string, now time.Time) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Created the certificate authority (CA) of the farm %q.\n\n", ca.Farm())
	certColumns(&out,
		[2]string{"certificate", certPath(dir, certs.CACert)},
		[2]string{"private key", certPath(dir, certs.CAKey)},
		[2]string{"ends", certDate(ca.Authority().Expires, now)})
	fmt.Fprintf(&out, `
Keep the private key to yourself: whoever has it can add nodes to the farm. And keep a
copy of the directory in a safe place: without it, no node can be added or get a new
certificate.

Next, issue a certificate for the first node; if it shall be called web1:
  peerstate cert issue web1 --ca %s --out web1

If that node runs with PEERSTATE_CA_DIR=%s, it is the farm's issuer: other nodes
join with the line that "peerstate cert token" prints there, and all certificates renew
themselves. Otherwise issue a certificate for each node like this, and renew it by hand.
`, certPath(dir), settings.Quote(dir))
	return out.String()
}
