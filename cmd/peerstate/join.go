package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs"
	"peerstate/cmd/peerstate/settings"
	"peerstate/transport"
)

func joinCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "join TOKEN|- --out DIR",
		Short: "Join a farm with an invitation that its issuer has made",
		Long: `Makes a key for this machine, and asks the farm's issuer for a certificate, with the invitation that
"peerstate cert token" has printed there; "-" reads it from the standard input, so that it is not
in the shell's history. The directory --out then holds all that the node needs, also where the
other nodes are; existing certificates are never overwritten. The invitation is sent to nobody: it
only proves to each side who the other is.`,
		Example: `  peerstate join peerstate1-AbCd... --out web2
  peerstate join - --out web2 < invitation.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("join needs the invitation that \"peerstate cert token\" has printed, in one piece, or - to read it from the standard input")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the `directory` for the node's files, made if need be (needed)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text := args[0]
		if text == "-" {
			var err error
			if text, err = readInvitation(cmd.InOrStdin()); err != nil {
				return err
			}
		}
		token, err := certs.ParseToken(text)
		if err != nil {
			return usage("%w", err)
		}
		if out == "" {
			return usage("--out is missing: name the directory for the node's files, such as --out %s", token.Node)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		var perr error
		peer, err := transport.Join(ctx, token, out, func(line string) {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
			perr = errors.Join(perr, err)
		})
		if err = errors.Join(err, perr); err != nil {
			return err
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), joinText(peer, out, time.Now()))
		return err
	}
	return cmd
}

// tokenStart begins each invitation.
const tokenStart = "peerstate1-"

// readInvitation reads an invitation, or the whole line that "cert token" prints.
func readInvitation(in io.Reader) (string, error) {
	const most = 64 << 10
	data, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return "", fmt.Errorf("read the invitation from the standard input: %w", err)
	}
	text := string(data)
	if strings.TrimSpace(text) == "" {
		return "", usage("there is nothing on the standard input: the invitation that \"peerstate cert token\" has printed should be")
	}
	if at := strings.Index(text, tokenStart); at >= 0 {
		text, _, _ = strings.Cut(text[at:], " --out")
	}
	return text, nil
}

func joinText(peer certs.Peer, dir string, now time.Time) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nThis machine is the node %q of the farm %q.\n\n", peer.Node, peer.Farm)
	certNodeColumns(&out, peer, dir, now)
	full, err := filepath.Abs(dir)
	if err != nil {
		full = dir
	}
	fmt.Fprintf(&out, `
The node renews its certificate by itself, as long as the farm's issuer runs now and then. Where
the other nodes are it knows already: PEERSTATE_PEERS is not needed.

Next, write this into the settings (peerstate.env beside the program, or the environment)
  PEERSTATE_CERT_DIR=%s
and run
  peerstate check
  peerstate serve
`, settings.Quote(full))
	return out.String()
}
