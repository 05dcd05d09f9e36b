package transport

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"peerstate/store"
)

// Clients on all nodes add to counters in a few shared sessions, as ASP.NET pages do, while nodes stop, crash,
// pause and lose each other. A seed decides what happens; see plan.
//
// The same seed makes the same plan; what becomes of a packet depends only on the seed, its direction and its
// time; and a node's run has a number that depends on the seed, and with it the pauses between two tries and cookies after
// a promotion. Not decided by the seed: in which order goroutines run that become ready at the same moment, which of
// several ready cases a select takes, what TLS and QUIC draw, and, from one process to the next, in which order a store
// goes through its sessions. Some two thirds of all runs of one seed are the same to the nanosecond, three quarters on
// one processor; the summary says how many were. So a failing seed is best run a number of times (TIMES=20), on
// one processor (GOMAXPROCS=1).
var (
	simSeeds = flag.Int("simulate.seeds", 0, "how many schedules of each kind to run; 0: as many as fit into the other tests")
	simFirst = flag.Uint64("simulate.first", 0, "the first seed; 0: by chance with -simulate.seeds, otherwise 1")
	simWhich = flag.String("simulate.kind", "all", "stops, crashes, journals or splits; all: each of them")
	simTimes = flag.Int("simulate.times", 1, "how often to run each seed")
)

func TestNoScheduleOfStopsAndShortFailuresLosesAnything(t *testing.T) {
	simulateAll(t, simStops, 50)
}

func TestNoScheduleOfCrashesLosesWhatBackupsHold(t *testing.T) { simulateAll(t, simCrashes, 40) }

func TestNoScheduleOfCrashesLosesWhatJournalsHold(t *testing.T) { simulateAll(t, simJournals, 25) }

func TestEveryScheduleOfSplitsCountsWhatIsLost(t *testing.T) { simulateAll(t, simSplits, 25) }

// simulateAll runs plans of one kind, each as a test of its own.
func simulateAll(t *testing.T, kind simKind, usual int) {
	if testing.Short() {
		t.Skip("some seconds of schedules")
	}
	if *simWhich != "all" && *simWhich != string(kind) {
		t.Skip("another kind is asked for")
	}
	n, first := *simSeeds, *simFirst
	if n == 0 {
		n = usual
		first = max(first, 1)
	}
	if first == 0 {
		first = 1 + rand.Uint64N(1<<40)
	}
	from := identities(t)
	sum := &summary{kind: kind, first: first, faults: map[string]int{}, alike: map[uint64]map[uint64]int{}}
	t.Run("seeds", func(t *testing.T) {
		for i := range n {
			for time := range *simTimes {
				seed := first + uint64(i)
				t.Run(fmt.Sprintf("%d/%d", seed, time+1), func(t *testing.T) {
					t.Parallel()
					simulateOne(t, from, planOf(kind, seed), sum)
				})
			}
		}
	})
	if *simSeeds > 0 {
		fmt.Println(sum)
	}
}

func simulateOne(t *testing.T, from string, p *plan, sum *summary) {
	s := simulate(t, from, p)
	wrong, undecided := s.check(t)
	sum.add(s, undecided)
	if len(wrong) == 0 && !t.Failed() {
		return
	}
	t.Errorf("%v\nto repeat it: make simulate KIND=%s SEED=%d SEEDS=1 TIMES=20\n\n%s", p, p.kind, p.seed, strings.Join(wrong, "\n"))
	if testing.Verbose() {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("simulate-%s-%d.log", p.kind, p.seed))
		if err := os.WriteFile(path, []byte(s.log.String()), 0o600); err != nil {
			t.Error(err)
		}
		t.Logf("what the nodes have logged: %s (virtual time began at %s)", path, s.begun.UTC().Format("15:04:05.000"))
	}
}

// summary adds up what was run.
type summary struct {
	mu        sync.Mutex
	kind      simKind
	first     uint64
	runs      int
	requests  int
	additions int // acknowledged
	unknown   int // writes whose outcome is not known
	conflicts int
	undecided int
	losses    int
	doubts    int // hand-overs
	faults    map[string]int
	virtual   time.Duration
	slowest   time.Duration
	slow      uint64 // the seed of the slowest
	// runs of one seed by what their clients saw
	alike map[uint64]map[uint64]int
}

func (x *summary) add(s *simulation, undecided int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.runs++
	x.requests += len(s.history)
	for _, op := range s.history {
		switch {
		case op.r.Op != store.Put:
		case op.reached == broken:
			x.unknown++
		case op.reached == answered && op.answer.Status == store.OK:
			x.additions++
		}
	}
	x.conflicts += s.conflicts()
	x.losses += len(s.losses)
	x.doubts += s.doubts
	x.undecided += undecided
	for _, t := range s.plan.troubles {
		x.faults[t.what]++
	}
	for _, what := range s.did {
		x.faults[what]++
	}
	if x.alike[s.plan.seed] == nil {
		x.alike[s.plan.seed] = map[uint64]int{}
	}
	x.alike[s.plan.seed][s.fingerprint()]++
	x.virtual += s.lasted
	if s.took > x.slowest {
		x.slowest, x.slow = s.took, s.plan.seed
	}
}

// fingerprint is a number for all that the clients have asked and been told, and when.
func (s *simulation) fingerprint() uint64 {
	var all []string
	for _, op := range s.history {
		r := op.r
		all = append(all, fmt.Sprint(op.call, op.ret, op.client, op.session, op.node, r.Op, r.Cookie, r.Flags, string(r.Body),
			op.answer.Status, op.answer.Cookie, op.answer.Init, string(op.answer.Body), op.reached, op.done))
	}
	slices.Sort(all) // those of one moment come in any order
	h := fnv.New64a()
	for _, op := range all {
		fmt.Fprintln(h, op)
	}
	return h.Sum64()
}

// repeated says how many runs of their seed were like another one, to the nanosecond.
func (x *summary) repeated() string {
	if x.runs == len(x.alike) {
		return ""
	}
	same := 0
	for _, runs := range x.alike {
		most := 0
		for _, n := range runs {
			most = max(most, n)
		}
		if most > 1 {
			same += most
		}
	}
	return fmt.Sprintf("%d of %d runs of %d seeds were the same to the end; ", same, x.runs, len(x.alike))
}

func (x *summary) String() string {
	return x.repeated() + fmt.Sprintf("%s: %d schedules from seed %d, %v of virtual time; %d requests, %d writes stored, %d whose outcome is not known; "+
		"faults %v; %d hand-overs in doubt, %d stale copies dropped, %d sessions held by nodes that crashed; %d histories too hard to decide; slowest seed %d, %v",
		x.kind, x.runs, x.first, x.virtual.Round(time.Second), x.requests, x.additions, x.unknown,
		x.faults, x.doubts, x.conflicts, x.losses, x.undecided, x.slow, x.slowest.Round(time.Millisecond))
}
