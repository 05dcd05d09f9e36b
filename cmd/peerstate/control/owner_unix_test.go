//go:build !windows

package control

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// beforehand has the directory of the default socket made, and gives the socket.
func beforehand(t *testing.T, make func(dir string) error) (socket string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	dir := ownDirectory()
	if err := make(dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "peerstate-42424.sock")
}

func TestAPlaceThatOthersCanUseIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		make func(string) error
		says string
	}{
		"open to others": {func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, 0o777)
		}, "(mode 777): chmod 700 "},
		"a link": {func(dir string) error {
			own := filepath.Join(filepath.Dir(dir), "elsewhere")
			if err := os.Mkdir(own, 0o700); err != nil {
				return err
			}
			return os.Symlink(own, dir)
		}, "should be a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := beforehand(t, c.make)
			l, err := Listen(t.Context(), socket)
			if err == nil {
				err = l.Close()
				t.Error("the socket was opened")
			}
			for does, err := range map[string]error{"serve": err, "check": Check(socket), "a command": Call(t.Context(), socket, Node{}, "count", nil, nil)} {
				if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s says %v, without %q", does, err, c.says)
				}
			}
		})
	}
}

func TestAPlaceOfOnesOwnIsUsed(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	socket := filepath.Join(ownDirectory(), "peerstate-42424.sock")
	for range 2 { // the second time it is there
		if err := Check(socket); err != nil {
			t.Error(err)
		}
		l, err := Listen(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		if err := trusted(socket, os.Geteuid()); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whose a thing is cannot be changed without being root, so who asks is another account.
func TestWhatAnotherAccountHasMadeIsNotAsked(t *testing.T) {
	socket := listening(t)
	me, other := os.Geteuid(), 4711
	if me == 0 { // what is root's is everybody's
		me = 4712
		for _, path := range []string{socket, filepath.Dir(socket)} {
			if err := os.Chown(path, me, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := trusted(socket, other); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "belongs to another account") {
		t.Errorf("it says %v", err)
	}
	if err := private(filepath.Dir(socket), other); !errors.Is(err, ErrForeign) {
		t.Errorf("the directory is taken for its own: %v", err)
	}
	for _, account := range []int{me, 0} {
		if err := trusted(socket, account); err != nil {
			t.Errorf("account %d is told %v", account, err)
		}
	}
	if err := trusted(filepath.Join(t.TempDir(), "none"), os.Geteuid()); err != nil {
		t.Errorf("of a socket that is not there it says %v", err)
	}
}

func TestALinkToNothingIsNoPlaceForASocket(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(filepath.Dir(link), "nothing"), link); err != nil {
		t.Fatal(err)
	}
	if err := Check(filepath.Join(link, "control.sock")); err == nil || !strings.Contains(err.Error(), "is a link to nothing") {
		t.Errorf("it says %v", err)
	}
}
