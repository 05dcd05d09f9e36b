package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"peerstate/certs/private"
)

// disk is the directory. Tests put disks in its place that fail and lose power.
type disk interface {
	list() ([]string, error)
	read(name string, buf []byte) ([]byte, error) // whole, into buf if it is large enough
	write(name string, data []byte) error         // whole or not at all, forced
	create(name string) (file, error)             // new
	keep(name string, size int64) error           // cuts off what stands behind size, and forces the rest
	remove(name string) error
	removeAll(name string) error            // a directory, with what is in it
	aside(dir string, names []string) error // moves files into a directory below this one
	sync() error                            // forces what was created, renamed and removed
}

// file is one that is written.
type file interface {
	io.WriteCloser
	Sync() error
}

type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

func (d directory) list() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// block is what is given up at a place that the disk cannot read.
const block = 4096

// read leaves zeros, which are no record, where the disk cannot read.
func (d directory) read(name string, buf []byte) ([]byte, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if int64(cap(buf)) < size {
		buf = make([]byte, size, size+size/8) // the next one may be a little larger
	}
	buf = buf[:size]
	for at := int64(0); at < size; {
		n, err := f.ReadAt(buf[at:], at)
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return buf[:at], nil
		case err != nil && at < size:
			next := min((at/block+1)*block, size)
			clear(buf[at:next])
			at = next
		}
	}
	return buf, nil
}

func (d directory) write(name string, data []byte) error {
	return private.WriteFile(d.path(name), data)
}

func (d directory) create(name string) (file, error) {
	f, err := private.Create(d.path(name))
	if err != nil {
		return nil, err // not f, which is no nil file
	}
	return f, nil
}

func (d directory) keep(name string, size int64) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > size {
		err = f.Truncate(size)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (d directory) remove(name string) error { return os.Remove(d.path(name)) }

func (d directory) aside(dir string, names []string) error {
	if err := private.MakeDir(d.path(dir)); err != nil {
		return err
	}
	var failed error
	for _, name := range names {
		if err := os.Rename(d.path(name), filepath.Join(d.path(dir), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, fmt.Errorf("set it aside: %w", err))
		}
	}
	return errors.Join(failed, private.SyncDir(d.path(dir)))
}

func (d directory) sync() error { return private.SyncDir(string(d)) }

func (d directory) removeAll(name string) error { return os.RemoveAll(d.path(name)) }
