package control

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/Microsoft/go-winio"
)

// Default is the name of the pipe without a setting. It goes by the port of the state protocol, so
// that several sidecars on one machine do not meet.
func Default(port string) string { return `\\.\pipe\peerstate-` + port }

// onlyOwners lets in the account that the sidecar runs as, SYSTEM and administrators.
const onlyOwners = "D:P(A;;GA;;;OW)(A;;GA;;;SY)(A;;GA;;;BA)"

// Listen opens the pipe.
func Listen(_ context.Context, pipe string) (net.Listener, error) {
	l, err := winio.ListenPipe(pipe, &winio.PipeConfig{SecurityDescriptor: onlyOwners})
	if err != nil {
		return nil, fmt.Errorf("open the control pipe %s: %w", pipe, err)
	}
	return l, nil
}

func dial(ctx context.Context, pipe string) (net.Conn, error) {
	return winio.DialPipeContext(ctx, pipe)
}

// trusted is always nil: a pipe has no directory that somebody else could have made. Who made the pipe itself is not looked at.
func trusted(string, int) error { return nil }

// Check says what [Listen] would fail for, and changes nothing.
func Check(pipe string) error {
	if !strings.HasPrefix(strings.ToLower(pipe), `\\.\pipe\`) {
		return fmt.Errorf("%s is no name of a pipe: it should begin with \\\\.\\pipe\\", pipe)
	}
	return nil
}
