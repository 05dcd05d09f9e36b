//go:build !windows

package certs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOnlyTheirOwnerCanReadTheFiles(t *testing.T) {
	// Whatever the habits of the one who runs the command.
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	ca := newCA(t, "farm", noon)
	node := issue(t, ca, "web1", noon)
	for _, dir := range []string{ca.dir, node} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if entry.IsDir() {
				want = 0o700
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has the mode %#o, want %#o", path, got, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAKeyThatOthersCanReadIsNoticed(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, NodeKey, nil)
	path := filepath.Join(dir, NodeKey)
	for mode, says := range map[fs.FileMode]string{
		0o600: "", 0o400: "",
		0o640: "its mode is 0640", 0o604: "its mode is 0604", 0o644: "chmod 600 " + path, 0o660: "its mode is 0660",
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		got, err := Exposure(path)
		if err != nil || !strings.Contains(got, says) || (says == "") != (got == "") {
			t.Errorf("mode %#o: %q, %v, want %q", mode, got, err, says)
		}
	}
	if _, err := Exposure(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing file is not noticed")
	}
}

func TestAReportWarnsOfAKeyThatOthersCanRead(t *testing.T) {
	ca := newCA(t, "farm", noon)
	node := issue(t, ca, "web1", noon)
	for _, path := range []string{filepath.Join(ca.dir, CAKey), filepath.Join(node, NodeKey)} {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		r := inspect(t, filepath.Dir(path), noon)
		if len(r.Problems) != 0 || len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], path+": its mode is 0644") {
			t.Errorf("problems %v, warnings %v", r.Problems, r.Warnings)
		}
	}
}

func TestADirectoryThatExistsKeepsItsMode(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateCA(dir, "farm", DefaultCALife, noon); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
