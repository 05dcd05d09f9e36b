package main

import (
	stdlog "log"
	"os"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the sidecar",
		Long: `Runs the sidecar until Ctrl-C, SIGTERM or a service stop. It logs one line with "ready" and
its addresses when it answers. "peerstate config" shows the settings, "peerstate check"
says what is wrong with them.

The web server finds it with this in Web.config:

  <sessionState mode="StateServer" stateConnectionString="tcpip=127.0.0.1:42424" />`,
		Example: `  peerstate serve
  peerstate serve --env-file london.env
  PEERSTATE_LISTEN=127.0.0.1:0 PEERSTATE_ADMIN_LISTEN= peerstate serve`,
		Args: cobra.NoArgs,
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := read()
		if err != nil {
			return err
		}
		log := newLogger(os.Stderr, s)
		for _, w := range s.warnings {
			log.Warn(w)
		}
		stdlog.SetFlags(0)
		stdlog.SetOutput(standardLog{log})
		ctx, stop := untilStopped(cmd.Context())
		defer stop()
		return serve(ctx, s, log)
	}
	return cmd
}
