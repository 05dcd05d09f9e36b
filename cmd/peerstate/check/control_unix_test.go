//go:build !windows

package check

import (
	"fmt"
	"os"
	"path/filepath"
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
	want(t, found, Problem, "PEERSTATE_CONTROL: the control socket cannot be trusted: others may use "+dir, "set it to a path")
}

func TestCheckOfWrongSettingsSaysWhatToDoNext(t *testing.T) {
	want(t, OfWrong(settings.Wrong{"PEERSTATE_SITE is wrong"}), Problem, "PEERSTATE_SITE is wrong", "run peerstate check again")
}
