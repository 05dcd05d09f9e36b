package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs"
	"peerstate/transport"
)

func certRotateCommand(now func() time.Time) *cobra.Command {
	var days int
	var without []string
	var abandon, status bool
	cmd := &cobra.Command{
		Use:   "rotate-ca",
		Short: "Replace the farm's CA by a new one, while everything runs",
		Long: `Has the farm's issuer, which must be the sidecar that runs with these settings, replace the CA: it makes a
new key, and then

  1. all nodes learn to trust the new CA beside the old one,
  2. all nodes get certificates of the new CA,
  3. all nodes drop the old CA.

Each step begins when all nodes have confirmed the one before, so nobody is shut out. A node that is
off is waited for; if it will not be back for long, go on without it: it has to be invited again
then. What has begun goes on in the sidecar, whatever becomes of this command, also after a restart.
The same command shows the progress again.`,
		Example: `  peerstate cert rotate-ca
  peerstate cert rotate-ca --status          how far it is
  peerstate cert rotate-ca --without web3    do not wait for web3
  peerstate cert rotate-ca --abandon         keep the old CA`,
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	cmd.Flags().IntVar(&days, "days", int(certs.DefaultCALife/certDay), "how long the new CA lasts")
	cmd.Flags().StringSliceVar(&without, "without", nil, "do not wait for this `node`; may be given several times")
	cmd.Flags().BoolVar(&abandon, "abandon", false, "give the new CA up, and keep the old one; not possible any more in step 3")
	cmd.Flags().BoolVar(&status, "status", false, "only show how far it is")
	cmd.MarkFlagsMutuallyExclusive("abandon", "status", "days")
	cmd.MarkFlagsMutuallyExclusive("status", "without")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		life, err := certDays(days)
		if err != nil {
			return err
		}
		for _, node := range without {
			if err := certs.ValidName(node); err != nil {
				return usage("--without: %w", err)
			}
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		args := url.Values{"life": {life.String()}, "without": without,
			"abandon": {strconv.FormatBool(abandon)}, "status": {strconv.FormatBool(status)}}
		left, to := without, "" // to: the CA that the farm was changing to at first
		begun := false
		err = askSidecar(ctx, read, "rotate-ca", args, func(r rotateReport) error {
			begun = begun || !r.Done
			left, to = append(left, r.Without...), cmp.Or(to, r.To)
			text := rotateLine(r)
			if r.Done {
				text = rotateEnd(r, begun || !status, abandon || to != "" && to != r.CA, left, now())
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		})
		if begun && err != nil {
			const goesOn = "the CA's replacement goes on in the sidecar, also after a restart of it; \"peerstate cert rotate-ca --status\" shows how far it is, " +
				"and \"peerstate cert rotate-ca\" its progress"
			if ctx.Err() != nil {
				return errors.New(goesOn)
			}
			return fmt.Errorf("%w; %s", err, goesOn)
		}
		return err
	}
	return cmd
}

// rotateReport is how far it is.
type rotateReport struct {
	certs.Progress
	States  map[string]string `json:"states"` // why those that are waited for have not confirmed
	CA      string            `json:"ca"`     // KeyID of the CA of this node's own certificate
	Expires time.Time         `json:"expires"`
}

// keyShown shortens the name of a key, for people.
func keyShown(id string) string { return id[:min(len(id), 8)] }

func rotateLine(r rotateReport) string {
	var step string
	switch r.Stage {
	case certs.Trust:
		step = fmt.Sprintf("step 1 of 3, all nodes learn to trust the new CA (key %s...)", keyShown(r.To))
	case certs.Renew:
		step = fmt.Sprintf("step 2 of 3, all nodes get certificates of the CA that remains (key %s...)", keyShown(r.To))
	case certs.Drop:
		step = fmt.Sprintf("step 3 of 3, all nodes drop the other CA (key %s... remains)", keyShown(r.To))
	}
	line := fmt.Sprintf("%s: %d of %d nodes", step, len(r.Confirmed), len(r.Confirmed)+len(r.Waiting))
	var waiting []string
	for _, node := range r.Waiting {
		if state := r.States[node]; state != "" {
			node += " (" + state + ")"
		}
		waiting = append(waiting, node)
	}
	if len(waiting) > 0 {
		line += "; waiting for " + strings.Join(waiting, ", ")
	}
	if len(r.Without) > 0 {
		line += "; without " + strings.Join(r.Without, ", ")
	}
	return line
}

func rotateEnd(r rotateReport, ended, abandoned bool, without []string, now time.Time) string {
	remains := fmt.Sprintf("The farm's CA has the key %s, and ends %s.", r.CA, certDate(r.Expires, now))
	if !ended {
		return "The CA is not being replaced. " + remains
	}
	var out strings.Builder
	if abandoned {
		out.WriteString("Done: the new CA was given up, and no node trusts it any more.\n")
	} else {
		out.WriteString("Done: all nodes have certificates of the new CA, and trust no other.\n")
	}
	out.WriteString(remains + "\n")
	slices.Sort(without)
	if without = slices.Compact(without); len(without) > 0 && !abandoned {
		fmt.Fprintf(&out, "\nNot waited for: %s. What of these has no certificate of the new CA has to join again: peerstate cert token NODE\n", strings.Join(without, ", "))
	}
	out.WriteString("\nMake a new copy of the CA directory now: older copies are of no use any more.")
	return out.String()
}

// rotatePoll is how often the progress is looked at.
const rotatePoll = 100 * time.Millisecond

// rotateByCommand begins or changes the replacement of the CA, and reports its progress until the end.
func (n *sidecar) rotateByCommand(ctx context.Context, args url.Values, report func(any)) error {
	if args.Get("status") == "true" {
		if n.issuer == nil {
			return n.noIssuer()
		}
		report(n.rotation())
		return nil
	}
	life, err := time.ParseDuration(args.Get("life"))
	if err != nil {
		return err
	}
	err = n.decide(ctx, func(now time.Time) (*certs.Document, error) {
		return n.rotate(args["without"], args.Get("abandon") == "true", life, now)
	})
	if err != nil {
		return err
	}
	t := time.NewTicker(rotatePoll)
	defer t.Stop()
	for last := ""; ; {
		r := n.rotation()
		if r.Done {
			// The last document is signed. When this is reported, it is in force here, and on the nodes that are up.
			n.spreadOf(ctx, "")
			report(n.rotation())
			return nil
		}
		if line := rotateLine(r); line != last {
			report(r)
			last = line
		}
		if phase := *n.phase.Load(); phase != "" && phase != starting {
			return errors.New("the sidecar stops")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// rotate begins the replacement of the CA, or changes how it goes on.
func (n *sidecar) rotate(without []string, abandon bool, life time.Duration, now time.Time) (d *certs.Document, err error) {
	names, err := n.nodes()
	if err != nil {
		return nil, err
	}
	for _, node := range without {
		if node == n.name {
			return nil, fmt.Errorf("%s is the farm's issuer itself, without which nothing goes on", node)
		}
		if !slices.Contains(names, node) {
			return nil, unknownNode(node, names, "")
		}
	}
	switch {
	case abandon:
		d, err = n.issuer.Abandon(now)
	case !n.rotating() || len(without) == 0:
		d, err = n.issuer.Rotate(life, now)
	}
	for _, node := range without {
		if err == nil {
			d, err = n.issuer.GoOnWithout(node, now)
		}
	}
	return d, err
}

// rotating tells whether the CA is being replaced, by the issuer's word.
func (n *sidecar) rotating() bool {
	d := n.issuer.Document()
	return d != nil && d.Rotation.Stage != certs.NoRotation
}

// rotation is how far the replacement of the CA is.
func (n *sidecar) rotation() rotateReport {
	self := n.mesh.Certs().Self()
	r := rotateReport{States: map[string]string{}, CA: self.IssuerKey, Expires: self.CAExpires}
	p, ok := n.mesh.Rotation()
	if !ok || p.Done {
		d := n.issuer.Document() // has it ended, or has the mesh not looked yet?
		if d == nil || d.Rotation.Stage == certs.NoRotation {
			r.Done = true
			return r
		}
		p = certs.Progress{Stage: d.Rotation.Stage, To: d.Rotation.To, Number: d.Number, Without: d.Rotation.Without}
	}
	r.Progress = p
	states := map[string]transport.State{n.name: transport.Up}
	for _, peer := range n.mesh.Peers() {
		states[peer.Node] = peer.State
	}
	waits := n.mesh.RotationWaits()
	for _, node := range p.Waiting {
		switch state, ok := states[node]; {
		case !ok:
			r.States[node] = "never seen"
		case state != transport.Up:
			r.States[node] = string(state)
		default:
			r.States[node] = waits[node]
		}
	}
	return r
}
