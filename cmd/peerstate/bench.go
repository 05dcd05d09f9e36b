package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/bench"
	"peerstate/cmd/peerstate/settings"
	"peerstate/cmd/peerstate/terminal"
)

func benchCommand() *cobra.Command {
	var (
		c      bench.Config
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "bench --to HOST:PORT[,HOST:PORT...]",
		Short: "Put load on any state server and check its answers",
		Long: `Puts load on a state server, Microsoft's included, in the way ASP.NET does: each cycle acquires a
session and stores it with the lock's cookie, as one page does.

With several addresses each session visits every one in turn, so it shows what moving
costs. A session's contents are a counter, which is checked at each cycle.

A 423 is counted, and asked again after --retry, as ASP.NET does; nobody else uses these
sessions, so a right server gives none. Wrong contents, a stored session that is gone
(404), a connection that is closed, and no answer within 10 s are counted too. With any
error the exit code is 1.

The sessions are new and their names random: a server in use is slowed down, its own
sessions are not touched. They are deleted at the end. Ctrl-C ends early, with the
figures so far.`,
		Example: `  peerstate bench --to 127.0.0.1:42424
  peerstate bench --to 127.0.0.1:42424,127.0.0.1:42434 --connections 4 --duration 30s
  peerstate bench --to 127.0.0.1:42424 --size 20480 --json`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.To, "to", nil, "state servers, `HOST:PORT` with commas between")
	f.IntVar(&c.Connections, "connections", 32, "connections to each server; as many cycles run at once")
	f.DurationVar(&c.Duration, "duration", 10*time.Second, "how long")
	f.IntVar(&c.Size, "size", 2048, "bytes of a session")
	f.IntVar(&c.Sessions, "sessions", 1, "sessions of each connection, used in turn")
	f.DurationVar(&c.Retry, "retry", 500*time.Millisecond, "wait after a 423")
	f.BoolVar(&asJSON, "json", false, "print the figures as JSON")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // the flag stands six lines above
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkBench(c); err != nil {
			return err
		}
		ctx, stop := untilStopped(cmd.Context())
		defer stop()
		r, err := runBench(ctx, c)
		if err != nil {
			return err
		}
		err = printResult(cmd.OutOrStdout(), r, asJSON)
		if err == nil && r.Errors > 0 {
			err = fmt.Errorf("bench: %d errors in %d cycles", r.Errors, r.Cycles)
		}
		return err
	}
	return cmd
}

func checkBench(c bench.Config) error {
	for _, to := range c.To {
		host, port, err := net.SplitHostPort(to)
		if err != nil || !settings.IsHost(host) || !settings.IsPort(port) || port == "0" {
			return usage("--to is %q: it should be host:port with commas between, such as 127.0.0.1:42424", strings.Join(c.To, ","))
		}
	}
	switch {
	case len(c.To) == 0:
		return usage("--to is empty: it should be host:port, such as 127.0.0.1:42424")
	case c.Connections < 1:
		return usage("--connections is %d: it should be at least 1", c.Connections)
	case c.Sessions < 1:
		return usage("--sessions is %d: it should be at least 1", c.Sessions)
	case c.Size < bench.MinSize:
		return usage("--size is %d: it should be at least %d", c.Size, bench.MinSize)
	case c.Duration <= 0:
		return usage("--duration is %v: it should be above 0, such as 10s", c.Duration)
	case c.Retry <= 0:
		return usage("--retry is %v: it should be above 0, such as 500ms", c.Retry)
	}
	return nil
}

// runBench runs it, with a progress bar on stderr if somebody sees it.
func runBench(ctx context.Context, c bench.Config) (bench.Result, error) {
	if !terminal.Is(os.Stderr) {
		return bench.Run(ctx, c)
	}
	bar := progressbar.NewOptions64(c.Duration.Milliseconds(),
		progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetDescription("starting"),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionClearOnFinish(),
	)
	var shown error
	c.Progress = func(elapsed time.Duration, cycles, errs int64) {
		bar.Describe(fmt.Sprintf("%.0f cycles/s, %d errors", float64(cycles)/elapsed.Seconds(), errs))
		shown = bar.Set64(min(elapsed, c.Duration).Milliseconds())
	}
	r, err := bench.Run(ctx, c)
	return r, errors.Join(err, shown, bar.Finish())
}
