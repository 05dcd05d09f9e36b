package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"peerstate/certs/private"
	"peerstate/cmd/peerstate/ports"
	"peerstate/cmd/peerstate/settings"
	"peerstate/cmd/peerstate/terminal"
	"peerstate/proxy/recording"
	"peerstate/proxy/relay"
)

// relayOptions are the flags of the command.
type relayOptions struct {
	listen, to  string
	allowRemote bool
	raw, quiet  bool
	record      string
	bodies      bool
	drop, set   []string
}

func relayCommand() *cobra.Command {
	var o relayOptions
	cmd := &cobra.Command{
		Use:   "relay --listen HOST:PORT --to HOST:PORT",
		Short: "Stand between a web server and a state server, and show what they say",
		Long: `Stands between a web server and any state server, Microsoft's included, and shows each
message with its direction, time, decoded key, headers and body size, and who connects and
disconnects. Point the web server's stateConnectionString at --listen. Ctrl-C ends it,
and breaks the connections that there are.

Every byte is passed on as it came, understood or not, and so are ends and resets of
connections, unless headers are to be changed: --drop-header and --set-header do that in
both directions, or with "request/" or "answer/" before the name in one. The lengths of
messages cannot be changed.

--record writes the conversation to a new file, for "peerstate replay". That file, and what
you see, have the session ids: whoever has them can use the sessions until they end. With
--bodies the file has the contents of the sessions, too. Only its owner can read it
(on Windows administrators as well); delete it when you are done.`,
		Example: `  peerstate relay --listen 127.0.0.1:42420 --to 127.0.0.1:42424
  peerstate relay --listen 127.0.0.1:42420 --to 127.0.0.1:42424 --record monday.rec --quiet
  peerstate relay --listen 127.0.0.1:42420 --to 127.0.0.1:42424 --raw --set-header 'request/Host: shop'`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "where the web server connects, `HOST:PORT`; port 0 picks a free one")
	f.StringVar(&o.to, "to", "", "the state server, `HOST:PORT`")
	f.BoolVar(&o.allowRemote, "allow-remote", false, "allow a --listen that is not loopback: whoever reaches it reaches the sessions")
	f.BoolVar(&o.raw, "raw", false, "show bodies as hex dumps (64 KiB of each at most)")
	f.BoolVar(&o.quiet, "quiet", false, "show nothing")
	f.StringVar(&o.record, "record", "", "record to a new `FILE`")
	f.BoolVar(&o.bodies, "bodies", false, "record the contents of the sessions as well")
	f.StringArrayVar(&o.drop, "drop-header", nil, "drop the header `NAME`; may be given several times")
	f.StringArrayVar(&o.set, "set-header", nil, "set the header `'NAME: VALUE'`, in place of the one there is; may be given several times")
	for _, required := range []string{"listen", "to"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // the flag stands above
		}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		edits, err := o.check()
		if err != nil {
			return err
		}
		ctx, stop := untilStopped(cmd.Context())
		defer stop()
		return runRelay(ctx, o, edits, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// check looks at what was given. What is wrong is wrong usage.
func (o *relayOptions) check() (relay.Edits, error) {
	var edits relay.Edits
	listen, err := settings.ParseListenAddr(o.listen)
	if err != nil {
		return edits, usage("--listen is %q: it should be %w", o.listen, err)
	}
	if !listen.IsLoopback() && !o.allowRemote {
		return edits, usage("--listen is %q, which other machines can reach, and the protocol is plain text without a password: "+
			"it should be a loopback address such as 127.0.0.1:42420 (or say --allow-remote)", o.listen)
	}
	if err := checkServerAddr("--to", o.to); err != nil {
		return edits, err
	}
	if o.to == o.listen {
		return edits, usage("--to and --listen are both %q: the relay would talk to itself", o.to)
	}
	if o.bodies && o.record == "" {
		return edits, usage("--bodies says what is recorded: it needs --record FILE")
	}
	for _, name := range o.drop {
		if err := edits.Drop(name); err != nil {
			return edits, usage("--drop-header %q: %w", name, err)
		}
	}
	for _, header := range o.set {
		if err := edits.Set(header); err != nil {
			return edits, usage("--set-header %q: %w; it should be 'NAME: VALUE'", header, err)
		}
	}
	return edits, nil
}

// checkServerAddr looks whether a flag names a server.
func checkServerAddr(flag, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !settings.IsHost(host) || !settings.IsPort(port) || port == "0" {
		return usage("%s is %q: it should be host:port, such as 127.0.0.1:42424", flag, addr)
	}
	return nil
}

// runRelay runs until ctx ends.
func runRelay(ctx context.Context, o relayOptions, edits relay.Edits, stdout, stderr io.Writer) (err error) {
	l, err := ports.ListenTCP(ctx, "--listen", settings.ListenAddr(o.listen))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := l.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}()
	c := relay.Config{To: o.to, Edits: edits}
	if o.record != "" {
		finish := func() error { return nil }
		if c.Record, finish, err = startRecording(o, stderr); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, finish()) }()
	}
	if !o.quiet {
		to := terminal.NewScreen(stdout)
		c.Screen = relay.NewScreen(to, to.Coloured, o.raw)
		defer func() { err = errors.Join(err, c.Screen.Close()) }()
	}
	if _, err := fmt.Fprintf(stderr, "relaying from %s to %s; Ctrl-C ends it\n", l.Addr(), o.to); err != nil {
		return err
	}
	return relay.New(c).Serve(ctx, l)
}

// recordEvery is how often what was recorded goes to the file: what a kill of the relay may take.
const recordEvery = time.Second

// startRecording makes the file. finish ends the recording and says what went wrong with it.
func startRecording(o relayOptions, stderr io.Writer) (w *recording.Writer, finish func() error, err error) {
	file, err := private.Create(o.record)
	if errors.Is(err, os.ErrExist) {
		return nil, nil, fmt.Errorf("%s exists already, and a recording is not written over: name another file, or delete it", o.record)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make the file for the recording: %w", err)
	}
	w, err = recording.NewWriter(file, recording.Header{Started: time.Now(), To: o.to, Bodies: o.bodies})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("begin the recording: %w", err), file.Close())
	}
	stop := make(chan struct{})
	var flushing sync.WaitGroup
	flushing.Go(func() {
		tick := time.NewTicker(recordEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if err := w.Flush(); err != nil { // finish gives it, too, but that may be hours later
					fmt.Fprintf(stderr, "peerstate: the recording has ended, the relay goes on: %v\n", err)
					return
				}
			}
		}
	})
	return w, func() error {
		close(stop)
		flushing.Wait()
		if err := errors.Join(w.Flush(), file.Close()); err != nil {
			return fmt.Errorf("the recording %s is not complete: %w", o.record, err)
		}
		return nil
	}, nil
}
