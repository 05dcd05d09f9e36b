package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/control"
	"peerstate/transport"
)

func drainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Hand every session to the other nodes, and stop",
		Long: `Has the sidecar that runs with these settings hand all its sessions over to the nodes that it
is linked with, and stop: the same as a service stop, with its progress shown. It goes on
answering the web server until they are gone, for PEERSTATE_DRAIN_TIMEOUT at most. Exit
code 1 if sessions were left.`,
		Example: `  peerstate drain
  peerstate drain --env-file london.env`,
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := askSidecar(cmd.Context(), read, "drain", nil, func(p transport.DrainProgress) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), drainLine(p))
			return err
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "The sidecar has handed over all its sessions, and stops.")
		return err
	}
	return cmd
}

func forgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget NODE",
		Short: "Say that a node will not come back: nobody waits for it any more",
		Long: `Tells the sidecar that runs with these settings, and through it the nodes that it is linked with,
that a node will not come back. Sessions that only that node held are missing from then
on, and new ones begin. A node that comes back all the same is known again.`,
		Example: `  peerstate forget web3`,
		Args:    oneName("peerstate forget web3"),
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := askSidecar[struct{}](cmd.Context(), read, "forget", url.Values{"node": args}, nil); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is forgotten: nobody waits for it any more.\n", args[0])
		return err
	}
	return cmd
}

// drainLine is one line of progress.
func drainLine(p transport.DrainProgress) string {
	line := fmt.Sprintf("%s of %s sessions handed over, %.0f/s", humanize.Comma(int64(p.Given)), humanize.Comma(int64(p.Given+p.Left)), p.Rate)
	if p.Left > 0 && p.Rate >= 1 {
		left := time.Duration(float64(p.Left) / p.Rate * float64(time.Second))
		line += ", " + left.Round(time.Second).String() + " to go"
	}
	return line
}

// serveControl opens the control socket. Without one the sidecar runs all the same.
func (n *sidecar) serveControl(ctx context.Context) {
	socket, err := n.settings.ControlSocket()
	if err != nil {
		n.log.Debug("no control socket", "reason", err)
		return
	}
	l, err := handedBack(ctx, n.log, func() (net.Listener, error) { return control.Listen(ctx, socket) })
	if err != nil {
		n.log.Warn("there is no control socket, so drain, forget and the commands about certificates will not work", "error", err)
		return
	}
	c := control.NewServer(n.self, n.commands(), n.log)
	n.running.Go(func() {
		if err := c.Serve(l); err != nil {
			n.failed <- err
		}
	})
	n.onStop(c.Shutdown)
}

// self is this node, for commands that are meant for another one.
func (n *sidecar) self() control.Node {
	if n.mesh == nil {
		return control.Node{}
	}
	return control.Running(n.mesh.Certs())
}

// drainByCommand drains, and then has the sidecar stop.
func (n *sidecar) drainByCommand(_ context.Context, _ url.Values, report func(any)) error {
	defer n.tellToStop()
	return n.drain(func(p transport.DrainProgress) { report(p) })
}

func (n *sidecar) forgetByCommand(_ context.Context, args url.Values, _ func(any)) error {
	if n.mesh == nil {
		return errors.New("this node runs stand-alone: it knows no others")
	}
	node := args.Get("node")
	if node == n.name {
		return fmt.Errorf("%s is this node itself; to hand its sessions over and stop it: peerstate drain", node)
	}
	return n.mesh.Forget(node)
}

// drain hands the sessions over to the other nodes, once, for as long as the operator allows. Whoever
// else calls it waits for the end.
func (n *sidecar) drain(report func(transport.DrainProgress)) error {
	n.drainOnce.Do(func() {
		n.drained.Store(true)
		n.enter(draining)
		if n.mesh == nil {
			if left := n.store.Stats().Active; left > 0 && n.settings.DataDir == "" {
				n.drainErr = fmt.Errorf("%d sessions are lost: this node runs stand-alone, and keeps them in memory only", left)
			}
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), n.settings.DrainTimeout)
		defer cancel()
		n.drainErr = n.mesh.Drain(ctx, func(p transport.DrainProgress) {
			if p.Given+p.Left > 0 {
				n.log.Info("handing over: "+drainLine(p), "given", p.Given, "left", p.Left)
			}
			report(p)
		})
		if n.drainErr != nil && n.settings.DataDir != "" {
			n.drainErr = fmt.Errorf("%w; they stay in the journal", n.drainErr)
		}
	})
	return n.drainErr
}
