package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/terminal"
	"peerstate/proxy/recording"
	"peerstate/proxy/replay"
)

func replayCommand() *cobra.Command {
	var (
		c      replay.Config
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "replay FILE --to HOST:PORT",
		Short: "Send a recording to a state server again, and show where the answers differ",
		Long: `Sends what "peerstate relay --record" has recorded to a state server, on as many
connections and in the order in which it was answered, and compares the answers header by
header. So you can prove that nothing changes for your applications: record with the old
server, replay to the new one.

Times (LockDate, LockAge) may differ, and the numbers of lock cookies: each recorded cookie
stands for the one that the new server gives in its place, also in what is sent. A
session that existed before the recording began is made first. Contents are compared
if the recording has them (--bodies); otherwise contents of the same length are sent, and
lengths are compared.

Send it to a fresh server that nobody uses: it writes and deletes sessions under
their real ids. The recording has these ids, so keep it as secret as the sessions.

The exit code is 1 if an answer differs.`,
		Example: `  peerstate replay monday.rec --to 127.0.0.1:42424
  peerstate replay monday.rec --to 127.0.0.1:42424 --timing
  peerstate replay monday.rec --to 127.0.0.1:42424 --json`,
		Args: one("name one recording, such as: peerstate replay monday.rec --to 127.0.0.1:42424"),
	}
	f := cmd.Flags()
	f.StringVar(&c.To, "to", "", "the state server, `HOST:PORT`")
	f.BoolVar(&c.Timing, "timing", false, "keep the pauses of the recording, so that sessions expire as they did; otherwise as fast as it goes")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // the flag stands four lines above
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := checkServerAddr("--to", c.To); err != nil {
			return err
		}
		ctx, stop := untilStopped(cmd.Context())
		defer stop()
		r, failed := runReplay(ctx, args[0], c)
		if failed != nil && r.Requests == 0 {
			return failed
		}
		err = printResult(cmd.OutOrStdout(), r, asJSON)
		if failed != nil {
			failed = fmt.Errorf("replay ended after %d requests: %w", r.Requests, failed)
		}
		if err = errors.Join(failed, err); err == nil && r.Different > 0 {
			err = fmt.Errorf("replay: %d of %d answers differ", r.Different, r.Requests)
		}
		return err
	}
	return cmd
}

// openRecording opens the file that an operator named.
func openRecording(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory; name the file in it that peerstate relay --record has made", path)
	}
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s; name one that peerstate relay --record has made", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("this account may not read %s; only the one that recorded it may, as session ids are in it", path)
	}
	return file, err
}

// runReplay reads the file and replays it, with a progress line on stderr if somebody sees it.
func runReplay(ctx context.Context, path string, c replay.Config) (r replay.Result, err error) {
	file, err := openRecording(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	in, err := recording.NewReader(file)
	if err != nil {
		return r, fmt.Errorf("read %s: %w; name a file that peerstate relay --record has made", path, err)
	}
	if !terminal.Is(os.Stderr) {
		return replay.Run(ctx, in, c)
	}
	bar := progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetDescription("requests"),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	var shown error
	c.Progress = func(requests int) { shown = bar.Set(requests) }
	r, err = replay.Run(ctx, in, c)
	return r, errors.Join(err, shown, bar.Finish())
}
