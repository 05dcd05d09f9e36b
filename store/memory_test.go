package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheCollectorIsLeftWhatItNeeds(t *testing.T) {
	for _, c := range []struct {
		live  uint64 // MB
		share int
		want  uint64 // MB
	}{
		{0, calmShare, 32}, {1, calmShare, 32}, {16, calmShare, 32}, {32, calmShare, 32}, {64, calmShare, 64},
		{128, calmShare, 128}, {129, calmShare, 128}, {1000, calmShare, 128}, {1600, calmShare, 128}, {2000, calmShare, 160},
		{100_000, calmShare, 8_000}, {1, busyShare, 32}, {129, busyShare, 128}, {1000, busyShare, 260},
	} {
		percent := uint64(gcPercent(c.live<<20, c.share))
		if got := c.live * percent / 100; got > c.want || got+1+c.live/50 < c.want && percent < 1000 {
			t.Errorf("%d MB alive: %d percent, so %d MB of garbage, want %d", c.live, percent, got, c.want)
		}
	}
}

func TestTheCollectorIsSetAfterEachOfItsRuns(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{}, 1)
	afterCollection(ctx, ran)
	for range 3 {
		runtime.GC()
		<-ran
	}
	cancel()
}

func TestTheOperatorsSettingOfTheCollectorStays(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "70")
			alone(t).TuneGC(t.Context()) // returns, though its context has not ended
		})
	}
}

func TestTheCollectorsSettingIsRestoredAtTheEnd(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(123)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	alone(t).TuneGC(ctx)
	if got := debug.SetGCPercent(123); got != 123 {
		t.Errorf("it is %d, was 123", got)
	}
}

// childEnv makes the test binary the program of BenchmarkAMillionRecords: a process that has a store and nothing else. Its
// value is what kind of store, and how many records.
const childEnv = "PEERSTATE_STORE_RECORDS"

// BenchmarkAMillionRecords fills a store with 1,000,000 records of 1 KB in a process of its own, lets it rest, rewrites
// all of them at full rate, and has all expire at once, under load. It says what that takes of memory, of CPU for the
// collector, and the longest that a page took; while they expire, also how much more than the longest of before. The
// records are sessions; or half of them, each with a backup that another node acknowledges at once, and the others backups of
// another node's sessions; with and without a journal. raw-longest-ms is the longest that the same load took which does
// nothing but allocate: the machine's own share, also where it does not say how long a page waited for a processor.
func BenchmarkAMillionRecords(b *testing.B) {
	if _, err := resident(); errors.Is(err, fs.ErrNotExist) {
		b.Skip("the system does not tell a process's memory in /proc/self/status")
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []string{"sessions", "sessions,journal", "backups", "backups,journal"} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.CommandContext(b.Context(), self)
				cmd.Env = append(os.Environ(), childEnv+"="+kind+",1000000", "TMPDIR="+b.TempDir())
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				if err != nil {
					b.Fatalf("the child process: %v", err)
				}
				for line := range strings.Lines(string(out)) {
					value, unit, _ := strings.Cut(strings.TrimSpace(line), " ")
					x, err := strconv.ParseFloat(value, 64)
					if err != nil {
						b.Fatalf("the child process said %q: %v", line, err)
					}
					b.ReportMetric(x, unit)
				}
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

func child() int {
	kind := strings.Split(os.Getenv(childEnv), ",")
	n, err := strconv.Atoi(kind[len(kind)-1])
	if err == nil {
		err = manyRecords(n, slices.Contains(kind, "backups"), slices.Contains(kind, "journal"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// manyRecords goes through the life of a full store, and prints its measurements.
func manyRecords(n int, backups, journal bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	options := Options{Node: "a", Instance: 1}
	l := &loader{own: n, other: Peer{"b", 2}}
	if backups {
		options.Backups = 1
		l.own, l.kept = n/2, n/2
	}
	st := New(options)
	l.store = st
	defer st.Close()
	if journal {
		dir, err := os.MkdirTemp("", "journal")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := st.OpenJournal(JournalOptions{Dir: dir, Farm: "shop", Node: "a", Every: 100 * time.Millisecond}); err != nil {
			return err
		}
		defer func() { _ = st.CloseJournal() }() // the directory is thrown away
	}
	wg.Go(func() { st.TuneGC(ctx) })
	if backups {
		st.SetKeepers([]Keeper{{Peer: l.other, Linked: true}})
		wg.Go(func() { acknowledge(ctx, st, l.other) })
	}

	m := meter{}
	m.begin()
	put(st, 0, l.own)
	for i := range l.kept {
		l.keep(nil, i)
	}
	for backups && !st.Flushed() {
		time.Sleep(time.Millisecond)
	}
	m.end("filling")
	m.begin()
	time.Sleep(3 * time.Second)
	m.end("resting")
	fmt.Printf("%.3f counted/resident\n", float64(st.Memory().Used)/m.resident)
	m.begin()
	m.report("rewriting", l.load(n, 10*time.Second, 0))
	m.end("rewriting")
	m.report("raw", (&loader{}).load(n, 5*time.Second, time.Millisecond))
	m.begin()
	before := m.report("busy", l.load(n, 20*time.Second, time.Millisecond))
	m.end("busy")

	const stay = 1000
	m.begin()
	l.expire(stay, time.Second)
	during := m.report("expiring", l.load(stay, sweepRound+5*time.Second, time.Millisecond))
	for end := time.Now().Add(time.Minute); st.Stats().Active+st.Stats().Backups > stay && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond) // on a machine that has hardly time for it
	}
	m.end("expiring")
	fmt.Printf("%.3f expiring-longer-by-ms\n", float64(max(during-before, 0))/1e6)
	if s := st.Stats(); s.Active+s.Backups != stay {
		return fmt.Errorf("%d sessions and %d backups are left over, want %d", s.Active, s.Backups, stay)
	}
	time.Sleep(2*calmAfter + 10*time.Second) // the system gets it back bit by bit
	m.begin()
	m.end("expired")
	return m.err
}

// acknowledge is the node that keeps a store's backups, without a network.
func acknowledge(ctx context.Context, st *Store, p Peer) {
	out := st.Outbox(p)
	for {
		parcels, err := out.Take(ctx, 64)
		if err != nil {
			return // ctx has ended
		}
		for _, parcel := range parcels {
			parcel.Kept()
		}
	}
}

// sessionKey writes the key of a session as ASP.NET builds it into b.
func sessionKey(b []byte, i int) []byte {
	const app = "LM/W3SVC/1/ROOT/shop(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE=)/"
	return fmt.Appendf(append(b[:0], app...), "%024d", i)
}

// body is 1 KB in memory of its own, written, as it comes from the network.
func body() []byte {
	b := make([]byte, len(contents))
	copy(b, contents)
	return b
}

var contents = bytes.Repeat([]byte("contents"), 128)

// put stores new sessions.
func put(st *Store, from, to int) {
	var key []byte
	for i := from; i < to; i++ {
		key = sessionKey(key, i)
		st.Try(&Request{Op: Put, Key: key, Cookie: NoCookie, Timeout: 20, Body: body()})
	}
}

// loader puts load on a store, or on nothing.
type loader struct {
	store *Store // nil: contents are made and let go
	own   int    // sessions
	kept  int    // backups of sessions of another node
	other Peer
}

// result is what clients got done, and what their pages took. Longest is without what the system let a page wait for a
// processor, which other programs had.
type result struct {
	pages, over10 int // over 10 ms
	longest       time.Duration
}

// load has two clients write random ones of the first n records for a while: sessions under a lock, as a page does, and
// backups as the other node sends them, with a pause after every twenty.
func (l *loader) load(n int, d, pause time.Duration) (all result) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	end := time.Now().Add(d)
	for range 2 {
		wg.Go(func() {
			runtime.LockOSThread() // whose waits are counted
			defer runtime.UnlockOSThread()
			var key []byte
			var r result
			for time.Now().Before(end) {
				delayed := runDelay()
				longest := time.Duration(0)
				for range 20 {
					begun := time.Now()
					key = l.write(key, n)
					longest = max(longest, time.Since(begun))
				}
				if r.pages += 20; longest > r.longest || longest > 10*time.Millisecond {
					longest -= runDelay() - delayed
					r.longest = max(r.longest, longest)
					if longest > 10*time.Millisecond {
						r.over10++
					}
				}
				time.Sleep(pause)
			}
			mu.Lock()
			defer mu.Unlock()
			all.pages += r.pages
			all.over10 += r.over10
			all.longest = max(all.longest, r.longest)
		})
	}
	wg.Wait()
	return all
}

// runDelay is for how long this thread has waited for a processor, by the system's word; 0 where it does not say.
func runDelay() time.Duration {
	text, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return 0
	}
	var ran, waited int64
	if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
		return 0
	}
	return time.Duration(waited)
}

var sink atomic.Pointer[[]byte]

// write writes one of the first n records.
func (l *loader) write(key []byte, n int) []byte {
	i := rand.IntN(n)
	switch {
	case l.store == nil:
		b := body()
		sink.Store(&b)
	case i >= l.own:
		key = l.keep(key, i-l.own)
	default:
		key = sessionKey(key, i)
		if a, _ := l.store.Try(&Request{Op: Acquire, Key: key}); a.Status == OK {
			l.store.Try(&Request{Op: Put, Key: key, Cookie: a.Cookie, Timeout: 20, Body: body()})
		}
	}
	return key
}

// keep has the store keep a backup, of which it may have an older one.
func (l *loader) keep(key []byte, i int) []byte {
	key = sessionKey(key, 10_000_000+i)
	l.store.Keep(l.other, ParcelCopy, Record{Key: string(key), Stamp: Stamp(time.Now().UnixNano()), Cookie: 1, Timeout: 20, Left: 20 * time.Minute, Body: body()})
	return key
}

// expire makes all records but the first sessions expire at the same moment, without waiting for twenty minutes.
func (l *loader) expire(stay int, in time.Duration) {
	st := l.store
	at := max(st.clock.now().mono+int64(in), 1)
	stays := map[string]bool{}
	for i := range stay {
		stays[string(sessionKey(nil, i))] = true
	}
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		for _, s := range sh.sessions {
			if !stays[s.key] {
				s.expires = at
			}
		}
		for _, b := range sh.backups {
			b.expires = at
		}
		sh.mu.Unlock()
	}
}

// expireNow makes all records expire.
func (l *loader) expireNow() { l.expire(0, 0) }

// meter says what became of the process's memory and CPU between begin and end. The collector's CPU
// time is known as of its last run.
type meter struct {
	gc, all float64
	cycles  uint64
	// resident is what the process had at the last end, in bytes.
	resident float64
	err      error
}

func (m *meter) read() (gc, all float64, cycles uint64) {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Float64(), s[1].Value.Float64(), s[2].Value.Uint64()
}

func (m *meter) begin() {
	m.gc, m.all, m.cycles = m.read()
	// 5: the peak is counted anew from here.
	m.err = errors.Join(m.err, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
}

// report prints what clients got done, and gives the longest that a page took.
func (m *meter) report(phase string, r result) time.Duration {
	fmt.Printf("%d %s-pages\n%.3f %s-longest-ms\n%d %s-over-10ms\n", r.pages, phase, float64(r.longest)/1e6, phase, r.over10, phase)
	return r.longest
}

// end prints what happened since begin. MB are millions of bytes.
func (m *meter) end(phase string) {
	gc, all, cycles := m.read()
	mem, err := resident()
	m.err, m.resident = errors.Join(m.err, err), mem.now
	fmt.Printf("%.0f %s-MB\n%.0f %s-peak-MB\n", mem.now/1e6, phase, mem.peak/1e6, phase)
	if cycles > m.cycles {
		fmt.Printf("%d %s-gcs\n%.2f %s-gc-cpu%%\n", cycles-m.cycles, phase, 100*(gc-m.gc)/(all-m.all), phase)
	}
}

type memory struct{ now, peak float64 }

// resident gives the process's own memory in bytes, by the system's word.
func resident() (m memory, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, err
	}
	for name, x := range map[string]*float64{"VmRSS:": &m.now, "VmHWM:": &m.peak} {
		_, rest, _ := strings.Cut(string(text), name)
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != "kB" {
			return m, fmt.Errorf("no %s in /proc/self/status", name)
		}
		if *x, err = strconv.ParseFloat(fields[0], 64); err != nil {
			return m, fmt.Errorf("%s in /proc/self/status: %w", name, err)
		}
		*x *= 1024
	}
	return m, nil
}
