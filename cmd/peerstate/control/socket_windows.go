package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"peerstate/certs/private"
)

// Default is the name of the pipe without a setting. It goes by the port of the state protocol, so
// that several sidecars on one machine do not meet.
func Default(port string) string { return `\\.\pipe\peerstate-` + port }

// onlyOwners lets in the account that the sidecar runs as, SYSTEM and administrators.
const onlyOwners = "D:P(A;;GA;;;OW)(A;;GA;;;SY)(A;;GA;;;BA)"

// owner is to whom the pipe belongs, as whose it is known to other accounts: the administrators, or else this account.
func owner() (sid string, err error) {
	admins, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return "", err
	}
	if is, err := windows.Token(0).IsMember(admins); err != nil || is {
		return admins.String(), err
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", err
	}
	return user.User.Sid.String(), nil
}

// Listen opens the pipe. It fails if there is one of that name, whoever has made it.
func Listen(_ context.Context, pipe string) (net.Listener, error) {
	me, err := owner()
	if err != nil {
		return nil, fmt.Errorf("find out the current user, for the control pipe: %w", err)
	}
	l, err := winio.ListenPipe(pipe, &winio.PipeConfig{SecurityDescriptor: "O:" + me + onlyOwners})
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_PIPE_BUSY) { // there is one of that name
		err = fmt.Errorf("%w: %w", ErrInUse, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the control pipe %s: %w", pipe, err)
	}
	return l, nil
}

// dial connects as nobody, so that whoever answers cannot act as this user, and goes no further if that is a stranger: he is told
// what the command is about, and his answer is believed.
func dial(ctx context.Context, pipe string) (net.Conn, error) {
	c, err := winio.DialPipeContext(ctx, pipe)
	if err != nil {
		return nil, err
	}
	if err := madeByOwn(c, pipe); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// madeByOwn is an error if somebody else has made the pipe than who may run the sidecar.
func madeByOwn(c net.Conn, pipe string) error {
	f, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return fmt.Errorf("%w: who has made the pipe %s cannot be found out", ErrForeign, pipe)
	}
	who, err := private.StrangersPipe(windows.Handle(f.Fd()))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrForeign, pipe, err)
	case who != "":
		return fmt.Errorf("%w: the pipe %s was made by %s, so nothing is asked there: use that account if peerstate runs under it; otherwise end the program that has the pipe, and start peerstate again", ErrForeign, pipe, who)
	}
	return nil
}

// trusted is always nil: a pipe has no directory that somebody else could have made; who made the pipe itself is seen when it is
// open, see dial.
func trusted(string, int) error { return nil }

// Check says what [Listen] would fail for, and changes nothing.
func Check(pipe string) error {
	if !strings.HasPrefix(strings.ToLower(pipe), `\\.\pipe\`) {
		return fmt.Errorf("%s is no name of a pipe: it should begin with \\\\.\\pipe\\", pipe)
	}
	return nil
}
