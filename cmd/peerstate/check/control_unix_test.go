//go:build !windows

package check

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"peerstate/cmd/peerstate/settings"
)

func TestCheckSaysThatOthersCanUseTheDirectoryOfTheControlSocket(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(os.TempDir(), fmt.Sprint("peerstate-", os.Geteuid())) // the default of a user without a runtime directory
	s := mustSettings(t, "PEERSTATE_ADMIN_LISTEN=", "PEERSTATE_CONTROL="+filepath.Join(dir, "s"))
	_, found := findRunning(t.Context(), s)
	want(t, found, Fine, "can be the control socket", "")

	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, found = findRunning(t.Context(), s)
	want(t, found, Problem, "PEERSTATE_CONTROL: the control socket may be somebody else's: others may use "+dir, "set it to a path")
}

func TestCheckOfWrongSettingsSaysWhatToDoNext(t *testing.T) {
	want(t, OfWrong(settings.Wrong{"PEERSTATE_SITE is wrong"}), Problem, "PEERSTATE_SITE is wrong", "run peerstate check again")
}

// Who checks the settings of a service is often not its account; that is no fault of the settings. Only root can play it.
func TestCheckByAnotherAccountThanTheSidecarsSaysWhichOneToUse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory that belongs to somebody else")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chown(dir, 1, -1), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Seteuid(4711); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Seteuid(0); err != nil {
			t.Fatal(err)
		}
	}()
	_, found := findRunning(t.Context(), mustSettings(t, "PEERSTATE_ADMIN_LISTEN=", "PEERSTATE_CONTROL="+filepath.Join(dir, "s")))
	want(t, found, Doubtful, "so nothing is asked there: use that account, or root", "")
}
