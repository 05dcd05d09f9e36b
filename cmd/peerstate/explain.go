package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/explain"
	"peerstate/proxy"
	"peerstate/store"
	"peerstate/transport"
)

func explainCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain KEY-OR-SESSION-ID",
		Short: "Say where a session is, and what has become of it",
		Long: `Asks the sidecar that runs with these settings, and through it all nodes of the farm, what they
know of a session: which node holds it and since when, its lock and who has it, size, time
left, backups, what happened to it; and if it is not there, why not.

The session is named by its id (the value of the cookie ASP.NET_SessionId), by its whole key as
it stands on the wire or decoded, or by the short hash that logs and the status show. With
"-" it is read from standard input: a session id is as good as a password, and the command line
can be seen by others on this machine.

Nothing is changed, moved or renewed by it, and what it prints does not show the session id. Exit code
1 if there is no such session.`,
		Example: `  peerstate explain mbkzjsnmvgpbxytfdrlwhq5e
  peerstate explain '%2fLM%2fW3SVC%2f1%2fROOT(kZ9d...%3d)%2fmbkzjsnmvgpbxytfdrlwhq5e'
  peerstate explain 5f1d03aa
  peerstate explain - --env-file london.env --json < id.txt`,
		Args: one("name one session by its id, its key or its short hash, such as: peerstate explain 5f1d03aa; or - to read it from standard input"),
	}
	read := envFileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		what := args[0]
		if what == "-" {
			line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), mostAsked+2)).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the session id from standard input: %w", err)
			}
			what = line
		}
		var found explain.Explanation
		if _, err := lookupOf(what, nil); err != nil {
			return err
		}
		err := askSidecar(cmd.Context(), read, "explain", url.Values{"what": {what}}, func(x explain.Explanation) error {
			found = x
			return nil
		})
		if err != nil {
			return err
		}
		text := explain.Text(&found, time.Local)
		if asJSON {
			if text, err = jsonText(&found); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), text); err != nil {
			return err
		}
		if !found.Found {
			return errors.New("there is no such session on the nodes that were asked; why that may be stands above")
		}
		return nil
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return cmd
}

// mostAsked bounds what an operator may ask for: as much as a key may be, percent-encoded.
const mostAsked = 24 << 10

// lookupOf makes of what an operator has typed what is to be looked for. What could be a hash could be a session id as well.
func lookupOf(what string, aliases *proxy.Aliases) (l store.Lookup, err error) {
	what = strings.Trim(strings.TrimSpace(what), `"'`)
	if what == "" || len(what) > mostAsked {
		return l, usage("name a session: its id, its key, or the short hash that logs show")
	}
	key, err := aliases.Key(what)
	if err != nil {
		return l, usage("what was given is neither a session id nor a key nor a hash: %w", err)
	}
	if strings.Contains(key, "/") {
		l.Key = key
	}
	if _, l.ID = store.SplitKey(key); l.ID == "" {
		return l, usage("the key ends in a slash: the session id that belongs behind it is missing")
	}
	if len(key) == len(store.KeyHash("")) && strings.Trim(strings.ToLower(key), "0123456789abcdef") == "" {
		l.Hash = strings.ToLower(key)
	}
	return l, nil
}

// explainByCommand asks all nodes.
func (n *sidecar) explainByCommand(ctx context.Context, args url.Values, report func(any)) error {
	l, err := lookupOf(args.Get("what"), n.settings.AppAliases.Aliases)
	if err != nil {
		return err
	}
	var accounts []transport.Account
	if n.mesh != nil {
		accounts = n.mesh.Explain(ctx, l)
	} else {
		a := transport.AccountOf(ctx, n.store, l, n.lockOwner)
		a.Node, a.Site, a.Up = n.name, string(n.settings.Site), time.Since(n.started)
		accounts = append(accounts, a)
	}
	report(explain.Of(l, accounts, string(n.settings.Upstream), time.Now()))
	return nil
}
