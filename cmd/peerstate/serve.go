package main

import (
	"context"
	"errors"
	stdlog "log"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/service"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the sidecar",
		Long: `Runs the sidecar until Ctrl-C, SIGTERM or a service stop. It logs one line with "ready" and
its addresses when it answers. "peerstate config" shows the settings, "peerstate check"
says what is wrong with them, and "peerstate service" has the system run it.

The web server finds it with this in Web.config:

  <sessionState mode="StateServer" stateConnectionString="tcpip=127.0.0.1:42424" />`,
		Example: `  peerstate serve
  peerstate serve --env-file london.env
  peerstate serve --log-file london.log
  PEERSTATE_LISTEN=127.0.0.1:0 PEERSTATE_ADMIN_LISTEN= peerstate serve`,
		Args: noArgs,
	}
	read := envFileFlag(cmd)
	logFile := cmd.Flags().String("log-file", "", "`file` to log to, instead of standard error; at 20 MB a new one is begun, and nine old ones are kept")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return service.Run(cmd.Context(), func(ctx context.Context, system service.Supervisor) (err error) {
			s, err := read()
			if err != nil {
				return err
			}
			log, closeLog, err := openLog(*logFile, s)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeLog()) }()
			for _, w := range s.Warnings {
				log.Warn(w)
			}
			stdlog.SetFlags(0)
			stdlog.SetOutput(standardLog{log})
			ctx, stop := untilStopped(ctx)
			defer stop()
			return supervised(ctx, s, log, system)
		})
	}
	return cmd
}
