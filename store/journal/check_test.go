package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestCheckSaysWhatOpenWould(t *testing.T) {
	dir := t.TempDir()
	if err := Check(filepath.Join(dir, "absent"), "farm", "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a directory that does not exist it says %v", err)
	}
	j, err := Open(dir, Options{Farm: "farm", Node: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Wait(t.Context(), j.Set("k", nil, nil)); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir, "farm", "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("of a journal in use it says %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(dir, "farm", "b"); !errors.Is(err, ErrForeign) {
		t.Errorf("of another node's it says %v", err)
	}
	for _, node := range []string{"a", ""} {
		farm := "farm"[:4*len(node)]
		if err := Check(dir, farm, node); err != nil {
			t.Errorf("of its own (%q, %q) it says %v", farm, node, err)
		}
	}
	if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
		t.Errorf("there was %v, and is %v, %v", before, after, err)
	}
}
