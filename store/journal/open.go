package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"peerstate/certs/private"
)

const (
	lockName  = "lock"
	probeName = ".may-write"
	asideHead = "set-aside-"
	asides    = 3 // set-aside directories that are kept
	// tooOld is the age at which nobody remembers any more what was deleted meanwhile, so what the journal has must
	// not come back.
	tooOld = 30 * 24 * time.Hour
)

func asideName(now time.Time) string { return asideHead + now.UTC().Format("20060102T150405Z") }

// Open takes the directory, made if it does not exist, for this process, gives load the newest value of each key, one
// at a time and the slice for keeps, and starts to write. A value that load returns an error for is deleted; but one that
// is ErrNewer is an error of Open, and everything stays as it is. A nil load takes no values.
//
// It fails for a directory of another node or a newer version, in use, or that may not be written to; the errors say
// what to do. Damage is no error: what is whole is loaded, the rest is counted and set aside. Nor is a disk that is
// full, once it has taken the lock file of the first start.
func Open(dir string, o Options, load func(key string, value []byte) error) (*Journal, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("directory", dir)
	lock, err := take(dir)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	j, err := open(directory(dir), o, load)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", dir, err), lock.Close())
	}
	j.lock = lock
	return j, nil
}

// take makes sure of the directory: that it is there, that it can be written to, and that nobody else has it.
func take(dir string) (*os.File, error) {
	const remedy = "let the account that runs peerstate write there, or name another directory"
	if err := private.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("cannot make the directory: %w; %s", bare(err), remedy)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("it is no directory; name another one")
	}
	path := filepath.Join(dir, lockName)
	f, err := private.Create(path)
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	switch {
	case err != nil && busy(err):
		err = ErrInUse
	case err == nil:
		if err = lockFile(f); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	switch {
	case errors.Is(err, ErrInUse):
		return nil, fmt.Errorf("%w; stop that one, or give each node a directory of its own", ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("cannot lock it: %w; %s", bare(err), remedy)
	}
	if err := probe(filepath.Join(dir, probeName)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write there: %w; %s", bare(err), remedy), f.Close())
	}
	return f, nil
}

// probe fails if nothing can ever be written. A full disk is not that.
func probe(path string) error {
	f, err := private.Create(path)
	if err == nil {
		err = f.Close()
	}
	if err == nil || errors.Is(err, fs.ErrExist) { // it may be left from a crash
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrPermission) || readOnly(err) {
		return err
	}
	return nil
}

// bare takes the path off an error that is going to be reported with it.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func open(d disk, o Options, load func(key string, value []byte) error) (*Journal, error) {
	begin := time.Now()
	if o.sizes == (sizes{}) {
		o.sizes = usual
	}
	names, err := d.list()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w; let the account that runs peerstate read it", bare(err))
	}
	l := &loading{disk: d, log: o.Log, farm: o.Farm, node: o.Node, load: load}
	if err := l.identify(names); err != nil {
		return nil, err
	}
	l.w = newWriter(d, l.identity, o.sizes, o.Log)
	l.w.named = l.named
	if err := l.scan(); err != nil {
		return nil, err
	}
	run, err := l.nextRun(names)
	if err != nil {
		return nil, err
	}
	if o.Run != nil {
		o.Run(run)
	}
	if err := errors.Join(l.setOldAside(begin), l.deliver()); err != nil {
		return nil, err
	}
	l.count(run)
	l.Rejected = len(l.rejected)
	if l.Records > 0 {
		l.Written = time.Unix(0, int64(min(l.w.seq, maxSeq-1)))
	}
	l.report(time.Since(begin))
	l.sweep(names)
	j := &Journal{options: o, log: o.Log, wake: make(chan struct{}, 1), done: make(chan struct{}), w: l.w,
		waiting: newFlight(1)}
	j.begin(1)
	j.stats = Stats{Loaded: l.Loaded, Bytes: j.w.total, Live: j.w.live, Keys: j.w.keys}
	for _, key := range l.rejected {
		j.gather(key, nil, change{deleted: true}, false)
	}
	go j.run()
	return j, nil
}

// identify finds out whose files these are.
func (l *loading) identify(names []string) error {
	for _, name := range names {
		if id, ok := segmentID(name); ok {
			l.files = append(l.files, &found{segment: segment{id: id}})
		}
	}
	slices.SortFunc(l.files, func(a, b *found) int { return cmp.Compare(a.id, b.id) })
	var known bool
	if slices.Contains(names, identityFile) {
		data, _, err := l.read(identityFile, nil)
		if err != nil {
			return err
		}
		if l.identity, known = decodeIdentity(data); !known {
			l.log.Error("the file that says whose journal this is is damaged; it is made anew", "file", identityFile)
		}
	}
	l.named = known
	for i := 0; i < len(l.files) && !known; i++ {
		data, _, err := l.read(l.files[i].name(), nil)
		if err != nil {
			return err
		}
		l.identity, _, known = decodeHead(data)
	}
	if !known {
		l.identity = newIdentity(l.farm, l.node)
		if len(l.files) > 0 {
			l.log.Error("nothing in the journal says whose it is; it is not loaded")
			return l.setAside()
		}
		return nil
	}
	return l.identity.check(l.farm, l.node)
}

// setOldAside does not load what is so old that deletions may be missing.
func (l *loading) setOldAside(now time.Time) error {
	if l.w.seq == 0 || now.Sub(time.Unix(0, int64(min(l.w.seq, maxSeq-1)))) <= tooOld {
		return nil
	}
	l.log.Error("the journal was last written more than 30 days ago; it is not loaded, since what it has may have been deleted elsewhere",
		"written", time.Unix(0, int64(l.w.seq)).UTC())
	seq := l.w.seq
	l.w.index = newIndex()
	l.w.seq = seq
	return l.setAside()
}

// setAside moves all files of records away. If one stayed, it would be loaded the next time, together with new ones.
func (l *loading) setAside() error {
	var names []string
	for _, f := range l.files {
		names = append(names, f.name())
	}
	dir := asideName(time.Now())
	l.files = nil
	if err := l.disk.aside(dir, names); err != nil {
		return fmt.Errorf("what must not be loaded cannot be set aside: %w; remove the files *%s by hand", err, suffix)
	}
	l.SetAside = append(l.SetAside, dir)
	return nil
}

// sweep removes what crashes have left, and all but the newest set-aside directories.
func (l *loading) sweep(names []string) {
	var old []string
	for _, name := range names {
		if strings.HasPrefix(name, "."+identityFile+".") || strings.HasPrefix(name, "."+runsFile+".") {
			l.discard(name)
		}
		if strings.HasPrefix(name, asideHead) {
			old = append(old, name)
		}
	}
	slices.Sort(old)
	for len(old)+len(l.SetAside) > asides && len(old) > 0 {
		l.discard(old[0])
		old = old[1:]
	}
}

func (l *loading) discard(name string) {
	if err := l.disk.removeAll(name); err != nil {
		l.log.Warn("something that is not needed any more cannot be removed", "name", name, "error", err)
	}
}

func (l *loading) report(took time.Duration) {
	log := l.log.With("sessions", l.Records, "bytes", l.w.total, "took", took.Round(time.Millisecond))
	switch {
	case l.Places > 0:
		log.Error("the journal is damaged: what is whole was loaded, the rest is lost, and the files concerned are set aside. See whether the disk is well",
			"damaged_bytes", l.Damaged, "places", l.Places, "torn_bytes", l.Torn, "not_understood", l.Rejected)
	case l.Rejected > 0:
		log.Error("some of the journal was not understood, and is deleted", "not_understood", l.Rejected, "torn_bytes", l.Torn)
	case len(l.files) > 0:
		log.Info("journal loaded", "torn_bytes", l.Torn)
	}
}
