package certs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// watched is a directory under watch.
type watched struct {
	t     *testing.T
	dir   string
	calls chan struct{} // one for each call
	kick  chan struct{}
}

// never is a time between polls that no test lives to see: what comes was told by the system.
const never = time.Hour

// startWatch watches until the test ends, and returns when the call of the beginning was made.
func startWatch(t *testing.T, dir string, every time.Duration) *watched {
	t.Helper()
	w := &watched{t, dir, make(chan struct{}, 100), make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- watch(ctx, dir, w.kick, func(bool) bool { w.calls <- struct{}{}; return true }, every) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.wantCall("at the beginning")
	return w
}

func (w *watched) wantCall(what string) {
	w.t.Helper()
	select {
	case <-w.calls:
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%s: it is not noticed", what)
	}
}

// wantNone gives what must not be taken for a change the time in which a change is noticed, and more.
func (w *watched) wantNone(what string) {
	w.t.Helper()
	select {
	case <-w.calls:
		w.t.Errorf("%s: it is taken for a change", what)
	case <-time.After(3 * watchQuiet):
	}
}

func TestAChangedFileIsNoticed(t *testing.T) {
	ca := newCA(t, "farm", noon)
	for name, change := range map[string]func(dir string, data []byte){
		"written whole": func(dir string, data []byte) {
			if err := WriteFile(filepath.Join(dir, NodeCert), data); err != nil {
				t.Error(err)
			}
		},
		"renamed to it": func(dir string, data []byte) {
			put(t, dir, "new", data)
			rename(t, filepath.Join(dir, "new"), filepath.Join(dir, NodeCert))
		},
		"written in place": func(dir string, data []byte) { put(t, dir, NodeCert, data) },
		"removed and made again": func(dir string, data []byte) {
			remove(t, dir, NodeCert)
			put(t, dir, NodeCert, data)
		},
		"removed": func(dir string, _ []byte) { remove(t, dir, NodeCert) },
		"the CA":  func(dir string, data []byte) { put(t, dir, CACert, data) },
		"the key": func(dir string, data []byte) { put(t, dir, NodeKey, data) },
		"one by one": func(dir string, data []byte) {
			for i := range data {
				put(t, dir, NodeCert, data[:i+1])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWatch(t, issue(t, ca, "web1", noon), never)
			for _, text := range []string{"the first time", "the second time"} {
				if name == "removed" && text != "the first time" {
					put(t, w.dir, NodeCert, nil)
					w.wantCall("made again")
				}
				change(w.dir, []byte(text))
				w.wantCall(text)
			}
		})
	}
}

func TestADocumentIsNoticed(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "farm", noon)
	w := startWatch(t, issue(t, ca, "web1", noon), never)
	s := load(t, w.dir)
	for number := uint64(6); number < 9; number++ { // the directory for it is made with the first
		s = accept(t, w.dir, s, newDocument(t, ca, number))
		w.wantCall("a document")
	}
}

func TestWhatIsNoChangeIsNotTakenForOne(t *testing.T) {
	t.Parallel()
	w := startWatch(t, issue(t, newCA(t, "farm", noon), "web1", noon), 20*time.Millisecond)
	if err := os.Mkdir(filepath.Join(w.dir, StateDir), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, w.dir, filepath.Join(StateDir, "nodes.json"), []byte("{}"))
	put(t, w.dir, "readme.txt", nil)
	if err := WriteFile(filepath.Join(w.dir, NodeCert), get(t, w.dir, NodeCert)); err != nil {
		t.Fatal(err)
	}
	w.wantNone("another file, or the same contents")
}

// A file that is half written when it is read, and is then what it was, is read once more.
func TestAFileThatIsMendedWhileItIsReadIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := issue(t, newCA(t, "farm", noon), "web1", noon)
	whole := get(t, dir, NodeCert)
	read := make(chan []byte, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	calls := 0
	go func() {
		done <- watch(ctx, dir, nil, func(bool) bool {
			if calls++; calls == 1 {
				put(t, dir, NodeCert, whole[:len(whole)/2])
			}
			data := get(t, dir, NodeCert)
			if calls == 1 {
				put(t, dir, NodeCert, whole)
			}
			read <- data
			return len(data) == len(whole)
		}, never)
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for {
		select {
		case data := <-read:
			if len(data) == len(whole) {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it is not read again")
		}
	}
}

func TestAKickIsAnsweredWithoutAChange(t *testing.T) {
	t.Parallel()
	w := startWatch(t, issue(t, newCA(t, "farm", noon), "web1", noon), never)
	for range 3 {
		w.kick <- struct{}{}
		w.wantCall("a kick")
	}
	close(w.kick)
	w.wantNone("no more kicks")
	put(t, w.dir, NodeCert, nil)
	w.wantCall("a change after the last kick")
}

func TestADirectoryThatIsReplacedIsNoticed(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "farm", noon)
	one, two := issue(t, ca, "web1", noon), issue(t, ca, "web1", noon)
	dir := filepath.Join(t.TempDir(), "certs")
	point := func(to string) {
		put := dir + ".new"
		if err := os.Symlink(to, put); err != nil {
			if runtime.GOOS == "windows" {
				t.Skipf("no right to make symbolic links: %v", err)
			}
			t.Fatal(err)
		}
		rename(t, put, dir)
	}
	point(one)
	w := startWatch(t, dir, 20*time.Millisecond)
	point(two)
	w.wantCall("a link to another directory")
	put(t, two, NodeCert, nil)
	w.wantCall("a change in that directory")
	put(t, one, NodeCert, nil)
	w.wantNone("a change in the old directory")
}

func TestFilesThatAreLinksAreNoticedWhenTheLinkToTheirDirectoryChanges(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("this is how Kubernetes mounts secrets, which it does elsewhere")
	}
	ca := newCA(t, "farm", noon)
	one, two := issue(t, ca, "web1", noon), issue(t, ca, "web1", noon)
	dir := t.TempDir()
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(one, "..data")
	for _, name := range []string{CACert, NodeCert, NodeKey} {
		link(filepath.Join("..data", name), name)
	}
	w := startWatch(t, dir, never)
	link(two, "..data_tmp")
	rename(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	w.wantCall("a link to other files")
	load(t, dir)
}

func TestADirectoryThatGoesAwayAndComesBackIsNoticed(t *testing.T) {
	t.Parallel()
	dir := issue(t, newCA(t, "farm", noon), "web1", noon)
	w := startWatch(t, dir, 20*time.Millisecond)
	rename(t, dir, dir+".old")
	w.wantCall("it went away")
	rename(t, dir+".old", dir)
	w.wantCall("it came back")
	put(t, dir, NodeCert, nil)
	w.wantCall("and changed")
}

func TestNoDirectoryToWatchIsAnError(t *testing.T) {
	err := Watch(t.Context(), filepath.Join(t.TempDir(), "none"), nil, func(bool) bool { t.Error("it is called"); return true })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
