package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const childEnv = "PEERSTATE_JOURNAL_CHILD"

// child writes ever higher numbers under a few keys, several at a time, and prints each when it is on disk.
func child(dir string) int {
	o := options()
	next := map[string]int{}
	j, err := Open(dir, o, func(key string, value []byte) error {
		n, err := strconv.Atoi(strings.TrimLeft(string(value), "."))
		next[key] = n
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 8 {
		key := fmt.Sprint("key", i)
		all.Go(func() {
			for n := next[key] + 1; ; n++ {
				if err := j.Wait(context.Background(), j.Set(key, []byte(strings.Repeat(".", n%700)), []byte(strconv.Itoa(n)))); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				fmt.Println(key, n)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return 1
}

func TestWhatAProcessWasToldIsOnDiskAfterItWasKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	times := 25
	if testing.Short() {
		times = 5
	}
	promised := map[string]int{}
	for round := range times {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for left := 100 + 37*round; lines.Scan(); left-- {
			var key string
			var n int
			if _, err := fmt.Sscan(lines.Text(), &key, &n); err != nil {
				continue // torn by the kill
			}
			promised[key] = n
			if left == 50 {
				if _, err := Open(dir, options(), nil); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "stop that one") {
					t.Errorf("error %v, want that it is in use", err)
				}
			}
			if left == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || len(promised) == 0 {
			t.Fatalf("the child ended by itself: %v", err)
		}
		found := map[string]int{}
		j, err := Open(dir, withLog(t, options()), func(key string, value []byte) error {
			n, err := strconv.Atoi(strings.TrimLeft(string(value), "."))
			if len(value) != n%700+len(strconv.Itoa(n)) {
				t.Errorf("%s is not whole", key)
			}
			found[key] = n
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if l := j.Stats().Loaded; l.Damaged > 0 || l.Rejected > 0 {
			t.Errorf("loaded %+v", l)
		}
		stop(t, j)
		audit(t, j, directory(dir))
		for key, n := range promised {
			if found[key] < n {
				t.Errorf("%s is %d, and %d was said to be on disk", key, found[key], n)
			}
		}
	}
}

func TestADirectoryIsForOneAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	none := func(string, []byte) error { return nil }
	j, err := Open(dir, withLog(t, options()), none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, options(), none); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want that %s is in use", err, dir)
	}
	stop(t, j)
	j, err = Open(dir, withLog(t, options()), none)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, j)
}

func TestAFileInThePlaceOfTheDirectoryIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, options(), nil); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("error %v", err)
	}
}

func TestARealDirectoryIsTidiedUpAndLoadedAgain(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir, withLog(t, options()), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		j.Set(strconv.Itoa(i%100), nil, make([]byte, 500+i))
		if i%10 == 0 {
			mustWait(t, j, j.Set("x", nil, nil))
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if s := j.Stats(); s.Unsynced == 0 && s.Bytes <= 3*s.Live+small.slack {
			break
		} else if time.Now().After(end) {
			t.Fatalf("stats %+v", s)
		}
	}
	stop(t, j)
	audit(t, j, directory(dir))
	loaded := 0
	j, err = Open(dir, withLog(t, options()), func(key string, value []byte) error {
		if i, err := strconv.Atoi(key); err == nil && len(value) != 500+2900+i {
			t.Errorf("%s has %d bytes", key, len(value))
		}
		loaded++
		return nil
	})
	if err != nil || loaded != 101 {
		t.Fatalf("%d loaded, %v", loaded, err)
	}
	stop(t, j)
}
