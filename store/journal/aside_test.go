package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// The other tests of damage have a disk in memory.
func TestInARealDirectoryDamagedFilesAreSetAsideAndTheNewestOfThemKept(t *testing.T) {
	dir := t.TempDir()
	begin := func(t *testing.T) *Journal {
		t.Helper()
		j, err := Open(dir, withLog(t, options()), nil)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	found := func(pattern ...string) []string {
		names, err := filepath.Glob(filepath.Join(append([]string{dir}, pattern...)...))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	synctest.Test(t, func(t *testing.T) {
		for round := range asides + 2 {
			j := begin(t)
			for i := range 5 {
				mustWait(t, j, j.Set(fmt.Sprint("key", i), nil, bytes.Repeat([]byte{byte(round)}, 200)))
			}
			stop(t, j)
			files := found("*" + suffix)
			file := files[len(files)-1] // the newest
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}

			j = begin(t)
			if l := j.Stats().Loaded; l.Damaged == 0 {
				t.Fatalf("round %d: nobody has noticed: %+v", round, l)
			}
			time.Sleep(2 * time.Second) // in which what is whole is saved, and the file set aside
			stop(t, j)
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("round %d: the file is still there (%v)", round, err)
			}
			kept := found(asideHead+"*", filepath.Base(file))
			if len(kept) != 1 {
				t.Fatalf("round %d: it is set aside as %v", round, kept)
			}
			if moved, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(moved, data) {
				t.Errorf("round %d: it has been changed (%v)", round, err)
			}
		}
		j := begin(t)
		if l := j.Stats().Loaded; l.Damaged != 0 || l.Records != 4 { // one was hit
			t.Errorf("after that: %+v", l)
		}
		stop(t, j)
		if dirs := found(asideHead + "*"); len(dirs) != asides {
			t.Errorf("set aside: %v, want the %d newest", dirs, asides)
		}
	})
}
