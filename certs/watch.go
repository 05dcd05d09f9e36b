package certs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// watchPoll is how often the files are looked at unasked: network drives, and a directory in whose
	// place another one was put, tell nothing.
	watchPoll = 10 * time.Second
	// watchQuiet is how long nothing must have happened before the files are read, so that several that
	// belong together are read together; watchPatience, how long that is waited for at most.
	watchQuiet    = 200 * time.Millisecond
	watchPatience = 2 * time.Second
)

// Watch calls changed when a node's files in dir (the three, and the document) have other contents than
// before: a fraction of a second after the last of several changes, or within ten seconds where the
// system does not tell of changes. It calls it once at the beginning, too, for whatever has changed since
// the files were loaded; and for each value from kick, changed or not. What this process has written itself
// is a change as any other: [Snapshot.Same] tells that it makes no difference. As long as it says that the files
// are not usable it is called again whenever they are looked at, as they may have been mended while it read them.
// asked is true for a value from kick. changed is called from one goroutine, that of Watch, which returns when
// ctx has ended.
//
// An error is that of the beginning: there is no such directory. One that goes away later may come back.
func Watch(ctx context.Context, dir string, kick <-chan struct{}, changed func(asked bool) (usable bool)) error {
	return watch(ctx, dir, kick, changed, watchPoll)
}

func watch(ctx context.Context, dir string, kick <-chan struct{}, changed func(asked bool) (usable bool), every time.Duration) (err error) {
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("look into the certificate directory %s: %w", dir, bare(err))
	}
	n := &notices{dirs: [...]string{dir, filepath.Join(dir, StateDir)}}
	defer func() { err = n.close() }()
	poll := time.NewTicker(every)
	defer poll.Stop()
	quiet := time.NewTimer(0) // at once, for the beginning
	defer quiet.Stop()
	var seen [sha256.Size]byte // of no contents
	var since time.Time        // when the first of the notices came that are waited with; zero if none is
	for {
		noticed, call := false, false
		select {
		case <-ctx.Done():
			return nil
		case _, call = <-kick:
			if !call { // nobody kicks any more
				kick = nil
			}
		case <-quiet.C:
			since = time.Time{}
		case <-poll.C:
		case <-n.events():
			noticed = true
		case <-n.errors(): // such as more notices than it could hold: something has changed
			noticed = true
		}
		if noticed {
			if since.IsZero() {
				since = time.Now()
			}
			quiet.Reset(min(watchQuiet, time.Until(since.Add(watchPatience))))
		}
		if !since.IsZero() && !call {
			continue
		}
		n.subscribe() // before the look, so that nothing falls between
		if now := contents(dir); call || now != seen {
			usable := changed(call)
			if seen = now; !usable || contents(dir) != now {
				// changed may have read other contents, which may be gone again when the next notice comes:
				// that look must not find what it knows.
				seen = [sha256.Size]byte{}
			}
		}
	}
}

// contents stands for what is in the files, or why they cannot be read.
func contents(dir string) [sha256.Size]byte {
	changing.Lock() // a pair of them is not seen half replaced
	defer changing.Unlock()
	all := sha256.New()
	for _, path := range []string{filepath.Join(dir, CACert), filepath.Join(dir, NodeCert), filepath.Join(dir, NodeKey), documentPath(dir)} {
		data, err := read(path, "")
		one := sha256.Sum256(fmt.Append(data, "\n", err))
		all.Write(one[:]) // never fails (hash.Hash)
	}
	return [sha256.Size]byte(all.Sum(nil))
}

// notices are those that the system gives of changes in directories. Where it cannot (there is a limit on
// them, or it is a network drive), nothing comes, and the poll must do.
type notices struct {
	dirs    [2]string
	found   [2]os.FileInfo // what was subscribed to; nil: nothing
	watcher *fsnotify.Watcher
	closing error // what went wrong when watchers were closed
}

// subscribe begins anew if one of the directories is not the one it was: it was made, went away, or another
// was put in its place.
func (n *notices) subscribe() {
	var there [2]os.FileInfo
	same := n.watcher != nil
	for i, dir := range n.dirs {
		there[i], _ = os.Stat(dir) // nil if it is not there, or cannot be looked into
		same = same && (there[i] == nil) == (n.found[i] == nil) && (there[i] == nil || os.SameFile(there[i], n.found[i]))
	}
	if same {
		return
	}
	n.drop()
	var err error
	if n.watcher, err = fsnotify.NewWatcher(); err != nil {
		n.watcher = nil
		return
	}
	for i, dir := range n.dirs {
		if n.found[i] = there[i]; there[i] != nil && n.watcher.Add(dir) != nil {
			n.found[i] = nil // which the next poll tries again
		}
	}
}

func (n *notices) events() <-chan fsnotify.Event {
	if n.watcher == nil {
		return nil
	}
	return n.watcher.Events
}

func (n *notices) errors() <-chan error {
	if n.watcher == nil {
		return nil
	}
	return n.watcher.Errors
}

func (n *notices) drop() {
	if n.watcher != nil {
		n.closing = errors.Join(n.closing, n.watcher.Close())
		n.watcher = nil
	}
}

func (n *notices) close() error {
	n.drop()
	return n.closing
}
