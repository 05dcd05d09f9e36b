package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asNobody runs do with the rights of somebody who owns nothing.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		do()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()                                // and the thread ends with the goroutine
		syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0) // says nothing; Open does
		do()
	}()
	<-done
}

func TestADirectoryThatCannotBeWrittenToIsRefused(t *testing.T) {
	parent := t.TempDir()
	for path := parent; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil { // or it would not be reached
			t.Fatal(err)
		}
	}
	used := filepath.Join(parent, "used")
	j, err := Open(used, withLog(t, options()), nil)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, j)
	if err := os.Chmod(used, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(parent, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(parent, 0o755)
	asNobody(t, func() {
		for _, dir := range []string{used, filepath.Join(parent, "new")} {
			_, err := Open(dir, options(), nil)
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "let the account that runs peerstate write there") {
				t.Errorf("error %v, want that one may not write there", err)
			}
		}
	})
}

func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "data")
	j, err := Open(dir, withLog(t, options()), nil)
	if err != nil {
		t.Fatal(err)
	}
	mustWait(t, j, j.Set("key", nil, nil))
	stop(t, j)
	files := 0
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %#o", path, info.Mode().Perm())
		}
		files++
		return nil
	})
	if err != nil || files < 4 { // the directory, the lock, the identity, the records
		t.Errorf("%d files, %v", files, err)
	}
}

func TestARealDiskThatIsFullComesBackByItself(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("peerstate", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	o := options()
	o.Log = new(spoken).log()
	data := filepath.Join(dir, "data")
	j, err := Open(data, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	mustWait(t, j, j.Set("old", nil, []byte("old")))
	if err := os.WriteFile(ballast, make([]byte, 600<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Wait(t.Context(), j.Set("large", nil, make([]byte, 600<<10))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want that the disk is full", err)
	}
	if s := j.Stats(); !errors.Is(s.Failure, syscall.ENOSPC) || s.FailedSince.IsZero() {
		t.Errorf("stats %+v", s)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); j.Stats().Unsynced > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("stats %+v", j.Stats())
		}
	}
	stop(t, j)
	found := map[string]int{}
	j, err = Open(data, o, func(key string, value []byte) error { found[key] = len(value); return nil })
	if err != nil || found["large"] != 600<<10 || found["old"] != 3 {
		t.Fatalf("found %v, %v", found, err)
	}
	stop(t, j)
}
