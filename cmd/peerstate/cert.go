package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs"
	"peerstate/cmd/peerstate/ending"
	"peerstate/cmd/peerstate/settings"
)

// certCommand keeps the farm's certificates: one file a subcommand, cert_init.go and so on.
func certCommand() *cobra.Command { return certCommandAt(time.Now) }

// certCommandAt is certCommand with its own idea of the time.
func certCommandAt(now func() time.Time) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "The farm's CA and its nodes' certificates: create, invite, renew, revoke, replace",
		Long: `The nodes of a farm know each other by certificates of the farm's own certificate
authority (CA). Create the CA once, and issue a certificate to the first node. If that one runs
with the CA's directory (PEERSTATE_CA_DIR), it is the farm's issuer: others join it with one
line each, and all certificates are renewed by themselves. Without an issuer, issue a
certificate for each node, and take it there.`,
		Example: `  peerstate cert init --ca farm-ca                      once for the farm
  peerstate cert issue web1 --ca farm-ca --out web1     for the first node, or for each
  peerstate cert token web2                             invite another, on the issuer
  peerstate cert status --dir web1                      what is in a directory, and until when`,
	}
	cmd.AddCommand(certInitCommand(now), certIssueCommand(now), certStatusCommand(now),
		certTokenCommand(), certRenewCommand(now), certRevokeCommand(), certUnrevokeCommand(), certRotateCommand(now))
	return cmd
}

const certDay = 24 * time.Hour

// certDays are the days that "--days" may ask for.
func certDays(days int) (time.Duration, error) {
	if days < 1 || days > settings.MostCertDays {
		return 0, usage("--days %d: from 1 to %d days are possible", days, settings.MostCertDays)
	}
	return time.Duration(days) * certDay, nil
}

// certDate is a date as all cert commands show it, with how long that is from now.
func certDate(t, now time.Time) string {
	left := t.Sub(now)
	days := ending.Days(left)
	when := fmt.Sprintf("in %d days", days)
	switch {
	case left < 0 && days == 0:
		when = "less than a day ago"
	case days == 0:
		when = "in less than a day"
	case days == 1:
		when = "in 1 day"
	case days == -1:
		when = "1 day ago"
	case days < 0:
		when = fmt.Sprintf("%d days ago", -days)
	}
	return t.UTC().Format("2006-01-02 15:04 UTC") + " (" + when + ")"
}

// certPath is a path as it can be pasted into a command line.
func certPath(elem ...string) string {
	path := filepath.Join(elem...)
	if strings.ContainsAny(path, " \t&()") {
		return `"` + path + `"`
	}
	return path
}

// certColumns prints rows of name and value below each other.
func certColumns(out *strings.Builder, rows ...[2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(out, "  %-*s  %s\n", width, r[0], r[1])
	}
}

// certNodeColumns prints what a node has in its directory.
func certNodeColumns(out *strings.Builder, node certs.Peer, dir string, now time.Time) {
	certColumns(out,
		[2]string{"whom to trust", certPath(dir, certs.CACert)},
		[2]string{"certificate", certPath(dir, certs.NodeCert)},
		[2]string{"private key", certPath(dir, certs.NodeKey)},
		[2]string{"serial", node.Serial},
		[2]string{"ends", certDate(node.Expires, now)})
}
