package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/admin"
	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/settings"
	"peerstate/cmd/peerstate/terminal"
)

func statusCommand() *cobra.Command {
	var asJSON, watch bool
	var events int
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the running sidecar and its farm are",
		Long: `Shows what the status page does, of the sidecar that runs with these settings: whether it is ready,
its sessions, requests and their times, the nodes of the farm with what is wrong with them,
certificates, the sessions whose locks are met most and the largest ones (by a short hash),
and the last events.

The sidecar is asked over its control socket. An account that may not use that asks the admin
listener. Exit code 1 if none answers.`,
		Example: `  peerstate status
  peerstate status --env-file london.env
  peerstate status --watch           again every two seconds, until Ctrl-C
  peerstate status --json            as /api/status, for programs`,
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "for programs: what /api/status shows")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every two seconds")
	cmd.Flags().IntVar(&events, "events", 10, "how many of the last events")
	cmd.MarkFlagsMutuallyExclusive("json", "watch")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := read()
		if err != nil {
			return err
		}
		if events < 0 {
			return usage("--events is %d: it should be 0 or more", events)
		}
		screen := terminal.NewScreen(cmd.OutOrStdout())
		if watch {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return watchStatus(ctx, s, screen, events)
		}
		p, err := askForStatus(cmd.Context(), s)
		if err != nil {
			return err
		}
		text := p.Text(screen.Coloured, events)
		if asJSON {
			body, err := p.Status.JSON()
			if err != nil {
				return fmt.Errorf("write the status as JSON: %w", err)
			}
			text = string(body) + "\n"
		}
		_, err = io.WriteString(screen, text)
		return err
	}
	return cmd
}

// watchStatus shows the status until ctx ends, also while the sidecar starts anew.
func watchStatus(ctx context.Context, s *settings.Settings, screen *terminal.Screen, events int) error {
	t := time.NewTicker(admin.Every)
	defer t.Stop()
	for first := true; ; first = false {
		var text string
		p, err := askForStatus(ctx, s)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err // the settings may be wrong
		case err != nil:
			text = fmt.Sprintf("%s: %v\n", time.Now().Format(time.TimeOnly), err)
		default:
			text = p.Text(screen.Coloured, events)
		}
		if err := screen.Redraw(text); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// askForStatus asks the sidecar that runs with these settings: over the control socket, and where that
// cannot be had, the admin listener.
func askForStatus(ctx context.Context, s *settings.Settings) (p admin.Page, err error) {
	err = askSidecar(ctx, func() (*settings.Settings, error) { return s, nil }, "status", nil, func(answer admin.Page) error {
		p = answer
		return nil
	})
	if _, another := errors.AsType[*control.AnotherError](err); err == nil || another {
		return p, err
	}
	wait, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if admin.Ask(wait, s.AdminListen.Reachable(), "/api/page", &p) == nil && p.Status.Version != "" {
		return p, control.NodeOf(s.CertDir).Another(control.Named(p.Status.Farm, p.Status.Node), s.AdminListen.Reachable())
	}
	return p, err // the control socket's reason is the one that an operator can do something about
}
