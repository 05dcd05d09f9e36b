package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs"
	"peerstate/cmd/peerstate/control"
)

func certStatusCommand(now func() time.Time) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what certificates a directory holds",
		Long: `Shows names, issuer, serial number and end of the certificates in a directory, be it a
node's or a CA's; what the farm's issuer has said last (who is revoked, and whether the CA is being
replaced); and who is invited. It says what is wrong with them. Exit code 1 if they cannot be used.

Without --dir it is the directory in the settings; and if that node's sidecar runs, it shows
the certificates of all nodes of the farm as well.`,
		Example: `  peerstate cert status
  peerstate cert status --env-file london.env
  peerstate cert status --dir farm-ca
  peerstate cert status --dir web1 --json`,
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var nodes []nodeCertificate
		var warnings []string
		if dir == "" {
			s, err := read()
			if err != nil {
				return err
			}
			if dir = s.CertDir; dir == "" {
				return usage("which directory? Name it with --dir, or set PEERSTATE_CERT_DIR")
			}
			nodes, err = askForCertificates(cmd.Context(), s)
			if another, is := errors.AsType[*control.AnotherError](err); is {
				warnings = append(warnings, "the farm's nodes are not shown: "+another.Error())
			} else if err != nil {
				return err
			}
		}
		at := now()
		report, err := certs.Inspect(dir, at)
		if err != nil {
			return err
		}
		report.Warnings = append(report.Warnings, warnings...)
		text := certStatusText(report, dir, nodes, at)
		if asJSON {
			if text, err = certStatusJSON(report, dir, nodes); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), text); err != nil {
			return err
		}
		if len(report.Problems) > 0 {
			return fmt.Errorf("the certificates in %s cannot be used; the report says why", dir)
		}
		return nil
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the `directory` (default: PEERSTATE_CERT_DIR of the settings)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return cmd
}

func certStatusText(r *certs.Report, dir string, nodes []nodeCertificate, now time.Time) string {
	var out strings.Builder
	if r.Node != nil {
		fmt.Fprintf(&out, "A node's certificate, in %s\n\n", dir)
		certColumns(&out,
			[2]string{"node", r.Node.Node},
			[2]string{"farm", r.Node.Farm},
			[2]string{"issuer", r.Node.Issuer},
			[2]string{"serial", r.Node.Serial},
			[2]string{"begins", certDate(r.Node.From, now)},
			[2]string{"ends", certDate(r.Node.Expires, now)})
		out.WriteByte('\n')
	}
	for _, a := range r.Authorities {
		what := "A CA that is trusted"
		if a.KeyID == r.Signing {
			what = "A CA that issues certificates"
		}
		fmt.Fprintf(&out, "%s, in %s\n\n", what, dir)
		certColumns(&out,
			[2]string{"name", a.Name},
			[2]string{"farm", a.Farm},
			[2]string{"serial", a.Serial},
			[2]string{"key", a.KeyID},
			[2]string{"begins", certDate(a.From, now)},
			[2]string{"ends", certDate(a.Expires, now)})
		out.WriteByte('\n')
	}
	certStatusDocument(&out, r.Document, dir, now)
	if len(nodes) > 0 {
		out.WriteString(farmCertificatesText(nodes, now))
	}
	for _, i := range r.Invitations {
		fmt.Fprintf(&out, "Invited: %s, until %s\n", i.Node, certDate(i.Until, now))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&out, "Warning: %s\n", w)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&out, "Problem: %s\n", p)
	}
	if len(r.Problems) == 0 {
		out.WriteString("All of it fits together and is valid now.\n")
	}
	return out.String()
}

// certStatusDocument shows what the farm's issuer has said last.
func certStatusDocument(out *strings.Builder, d *certs.Document, dir string, now time.Time) {
	if d == nil {
		return
	}
	fmt.Fprintf(out, "What the farm's issuer has said, in %s\n\n", dir)
	replaced := "no"
	if r := d.Rotation; r.Stage != certs.NoRotation {
		replaced = fmt.Sprintf("stage %q; the one with the key %s remains", r.Stage, r.To)
		if len(r.Without) > 0 {
			replaced += "; not waited for: " + strings.Join(r.Without, ", ")
		}
	}
	certColumns(out,
		[2]string{"document", strconv.FormatUint(d.Number, 10)},
		[2]string{"made", certDate(d.Made, now)},
		[2]string{"CA is replaced", replaced})
	for _, r := range d.Revoked {
		if !r.Lifted {
			fmt.Fprintf(out, "  revoked         %s, on %s\n", r.Node, certDate(r.At, now))
		}
	}
	out.WriteByte('\n')
}

// The names in JSON are those of /api/status.
type certStatusReport struct {
	Dir         string                `json:"dir"`
	Farm        string                `json:"farm"`
	Certificate *certStatusNode       `json:"certificate,omitempty"`
	Authorities []certStatusAuthority `json:"authorities"`
	Document    *certStatusSaid       `json:"document,omitempty"`
	Invitations []certStatusInvited   `json:"invitations,omitempty"`
	Nodes       []nodeCertificate     `json:"nodes,omitempty"` // of the farm, if the sidecar runs
	Problems    []string              `json:"problems"`
	Warnings    []string              `json:"warnings"`
}

// certStatusSaid is what the farm's issuer has said last.
type certStatusSaid struct {
	Number   uint64              `json:"number"`
	Made     time.Time           `json:"made"`
	Rotation string              `json:"rotation"` // stage of the replacement of the CA; empty: none
	To       string              `json:"to,omitempty"`
	Without  []string            `json:"without,omitempty"`
	Revoked  []certStatusRevoked `json:"revoked"`
}

type certStatusRevoked struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"`
}

type certStatusInvited struct {
	Node  string    `json:"node"`
	Until time.Time `json:"until"`
}

type certStatusNode struct {
	Node      string     `json:"node"`
	Farm      string     `json:"farm"`
	Issuer    string     `json:"issuer"`
	Serial    string     `json:"serial"`
	From      time.Time  `json:"from"`
	Expires   time.Time  `json:"expires"`
	CAExpires *time.Time `json:"ca_expires,omitempty"`
}

type certStatusAuthority struct {
	Name    string    `json:"name"`
	Farm    string    `json:"farm"`
	Serial  string    `json:"serial"`
	KeyID   string    `json:"key_id"`
	From    time.Time `json:"from"`
	Expires time.Time `json:"expires"`
	Signing bool      `json:"signing"`
}

func certStatusJSON(r *certs.Report, dir string, nodes []nodeCertificate) (string, error) {
	report := certStatusReport{
		Dir:         dir,
		Farm:        r.Farm,
		Authorities: []certStatusAuthority{},
		Nodes:       nodes,
		Problems:    []string{},
		Warnings:    append([]string{}, r.Warnings...),
	}
	if n := r.Node; n != nil {
		report.Certificate = &certStatusNode{n.Node, n.Farm, n.Issuer, n.Serial, n.From.UTC(), n.Expires.UTC(), nil}
		if end := n.CAExpires.UTC(); !end.IsZero() {
			report.Certificate.CAExpires = &end
		}
	}
	for _, a := range r.Authorities {
		report.Authorities = append(report.Authorities,
			certStatusAuthority{a.Name, a.Farm, a.Serial, a.KeyID, a.From.UTC(), a.Expires.UTC(), a.KeyID == r.Signing})
	}
	if d := r.Document; d != nil {
		said := &certStatusSaid{d.Number, d.Made.UTC(), string(d.Rotation.Stage), d.Rotation.To, d.Rotation.Without, []certStatusRevoked{}}
		for _, r := range d.Revoked {
			if !r.Lifted {
				said.Revoked = append(said.Revoked, certStatusRevoked{r.Node, r.At.UTC()})
			}
		}
		report.Document = said
	}
	for _, i := range r.Invitations {
		report.Invitations = append(report.Invitations, certStatusInvited{i.Node, i.Until.UTC()})
	}
	for _, p := range r.Problems {
		report.Problems = append(report.Problems, p.Error())
	}
	return jsonText(report)
}
