package journal

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a disk in memory that can fail, hang, and lose power.
type memory struct {
	mu      sync.Mutex
	files   map[string]*content
	durable map[string]*content // the files that are there after a power cut, as far as is certain
	// fail is asked before each change; hang is how long forcing takes.
	fail   func(op, name string) error
	hang   time.Duration
	syncs  int   // of files
	given  int64 // bytes written
	limit  int64 // of all files; 0: none
	opened int   // files that are open
}

type content struct {
	data   []byte
	forced int // so many bytes survive a power cut
}

var errFull = errors.New("no space left on device")

func newMemory() *memory {
	return &memory{files: map[string]*content{}, durable: map[string]*content{}}
}

func (m *memory) may(op, name string) error {
	if m.fail != nil {
		return m.fail(op, name)
	}
	return nil
}

func (m *memory) used() (n int64) {
	for _, c := range m.files {
		n += int64(len(c.data))
	}
	return n
}

func (m *memory) list() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Sorted(maps.Keys(m.files))
	return slices.DeleteFunc(names, func(name string) bool { return strings.Contains(name, "/") }), nil
}

func (m *memory) read(name string, buf []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.may("read", name); err != nil {
		return nil, err
	}
	c, ok := m.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return append(buf[:0], c.data...), nil
}

func (m *memory) write(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.may("write", name); err != nil {
		return err
	}
	m.files[name] = &content{data: bytes.Clone(data), forced: len(data)}
	return nil
}

func (m *memory) create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.may("create", name); err != nil {
		return nil, err
	}
	if m.files[name] != nil {
		return nil, fs.ErrExist
	}
	c := &content{}
	m.files[name] = c
	m.opened++
	return &open1{m, c, name}, nil
}

func (m *memory) keep(name string, size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.may("keep", name); err != nil {
		return err
	}
	c, ok := m.files[name]
	if !ok {
		return fs.ErrNotExist
	}
	c.data = c.data[:size:size]
	c.forced = len(c.data)
	return nil
}

func (m *memory) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.may("remove", name); err != nil {
		return err
	}
	if m.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.files, name)
	return nil
}

func (m *memory) removeAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.files {
		if n == name || strings.HasPrefix(n, name+"/") {
			delete(m.files, n)
		}
	}
	return nil
}

func (m *memory) aside(dir string, names []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.may("aside", dir); err != nil {
		return err
	}
	m.files[dir] = &content{}
	for _, name := range names {
		if c := m.files[name]; c != nil {
			m.files[dir+"/"+name] = c
			delete(m.files, name)
		}
	}
	return nil
}

func (m *memory) sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.may("syncdir", ""); err != nil {
		return err
	}
	m.durable = maps.Clone(m.files)
	return nil
}

type open1 struct {
	m    *memory
	c    *content
	name string
}

func (f *open1) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	n := len(p)
	err := f.m.may("append", f.name)
	if err != nil {
		n /= 2 // some of it got there
	}
	if used := f.m.used(); f.m.limit > 0 && used+int64(n) > f.m.limit {
		n, err = int(f.m.limit-used), errFull
	}
	f.c.data = append(f.c.data, p[:n]...)
	f.m.given += int64(n)
	return n, err
}

func (f *open1) Sync() error {
	f.m.mu.Lock()
	hang := f.m.hang
	f.m.mu.Unlock()
	if hang > 0 {
		time.Sleep(hang)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.syncs++
	if err := f.m.may("sync", f.name); err != nil {
		return err
	}
	f.c.forced = len(f.c.data)
	return nil
}

func (f *open1) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.opened--
	return nil
}

// powerCut gives the disk as it may be found after a power cut at this moment.
func (m *memory) powerCut(r *rand.Rand) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemory()
	keep := func(name string, c *content) {
		data := bytes.Clone(c.data[:c.forced])
		if rest := c.data[c.forced:]; len(rest) > 0 {
			rest = bytes.Clone(rest[:r.IntN(len(rest)+1)])
			if len(rest) > 0 && r.IntN(2) == 0 { // pages get to disk in any order
				from := r.IntN(len(rest))
				clear(rest[from : from+r.IntN(len(rest)-from)])
			}
			data = append(data, rest...)
		}
		after.files[name] = &content{data: data, forced: len(data)}
	}
	for name, c := range m.durable {
		if m.files[name] != nil || r.IntN(2) == 0 {
			keep(name, c)
		}
	}
	for name, c := range m.files {
		if m.durable[name] == nil && r.IntN(2) == 0 {
			keep(name, c)
		}
	}
	after.durable = maps.Clone(after.files)
	return after
}

// kill gives the disk as it is found after kill -9: all that was written is there.
func (m *memory) kill() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemory()
	for name, c := range m.files {
		after.files[name] = &content{data: bytes.Clone(c.data), forced: len(c.data)}
	}
	after.durable = maps.Clone(after.files)
	return after
}

// figures gives the bytes that are there, all that were ever written, and how often that was forced.
func (m *memory) figures() (used, given int64, syncs int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used(), m.given, m.syncs
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

var small = sizes{least: 2 << 10, most: 16 << 10, slack: 8 << 10}

func options() Options { return Options{Farm: "farm", Node: "web1", sizes: small} }

// start opens a journal on the disk, and gives what is in it.
func start(t testing.TB, d disk, o Options) (*Journal, map[string]string) {
	t.Helper()
	o.Log = testLog(t, o.Log)
	all := map[string]string{}
	j, err := open(d, o, func(key string, value []byte) error {
		if _, ok := all[key]; ok {
			t.Errorf("key %q is loaded twice", key)
		}
		all[key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return j, all
}

func stop(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func mustWait(t testing.TB, j *Journal, m Mark) {
	t.Helper()
	if err := j.Wait(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// audit compares the index of a journal that has stopped with what is on its disk.
func audit(t testing.TB, j *Journal, d disk) {
	t.Helper()
	l := &loading{disk: d, log: testLog(t, nil), farm: "farm", node: "web1", load: func(string, []byte) error { return nil }}
	names, err := d.list()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.identify(names); err != nil {
		t.Fatal(err)
	}
	l.w = newWriter(d, l.identity, small, l.log)
	if err := l.scan(); err != nil {
		t.Fatal(err)
	}
	for key, want := range l.w.entries {
		got := j.w.entries[key]
		switch {
		case got == nil:
			t.Errorf("%q is on disk and not in the index", key)
		case got.seq != want.seq || got.deleted != want.deleted || got.stale != want.stale || got.size != want.size:
			t.Errorf("index %+v, on disk %+v", *got, *want)
		}
	}
	if len(j.w.entries) != len(l.w.entries) || j.w.total != l.w.total || j.w.live != l.w.live || j.w.keys != l.w.keys {
		t.Errorf("index: %d entries, %d bytes, %d live, %d keys; on disk: %d, %d, %d, %d", len(j.w.entries), j.w.total,
			j.w.live, j.w.keys, len(l.w.entries), l.w.total, l.w.live, l.w.keys)
	}
}
