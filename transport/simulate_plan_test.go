package transport

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// simKind is a kind of schedules, each with a promise of its own.
type simKind string

const (
	// simStops: nodes stop in good order, packets are late or lost, links are cut and nodes paused for less
	// than the grace time. Nothing is lost, and no lock is held twice.
	simStops simKind = "stops"
	// simCrashes: one node at a time loses its memory. With backups that hold each write before it is
	// answered the same is promised, and that a lock which died with its holder can no longer write.
	simCrashes simKind = "crashes"
	// simJournals: nodes crash, two at a time, and are back with their disks before they are lost. Without backups, and
	// with journals that have each write before it is answered, the same is promised.
	simJournals simKind = "journals"
	// simSplits: parts of the farm are cut off for longer than the grace time, and nodes crash. Each
	// addition that is missing in the end is accounted for by a counted conflict or by a crash, and on one
	// side of a split no lock is held twice.
	simSplits simKind = "splits"
)

// plan is all that a seed decides in advance: the farm, its clients, and what happens to it when. What clients
// do while it lasts comes from the seed too, but also depends on the answers that they get.
type plan struct {
	kind     simKind
	seed     uint64
	nodes    []string
	clients  int // for each node
	sessions int
	padding  int             // bytes that make each session longer
	born     []time.Duration // by session: when a new visitor makes it; negative: whoever finds that its id has expired
	lockWait time.Duration   // of all stores
	patience time.Duration   // a lock older than that is broken by who polls, as IIS does
	skew     []time.Duration // by node: how far its clock is ahead
	base     time.Duration   // a packet takes up to twice that, by direction
	jitter   time.Duration   // and up to that much more
	load     time.Duration   // how long clients begin new pages
	journals bool            // nodes have them; those that crash come back with what they had on disk
	troubles []trouble
	deeds    []deed
}

// trouble is something that the network does to packets during a time.
type trouble struct {
	what   string // cut, half (one direction), break (their links end, again and again), split, pause, loss, slow
	from   time.Duration
	to     time.Duration
	nodes  []string // cut, half, break: the two; split: one side; pause: the one
	chance float64  // loss: of each packet
}

func (t trouble) String() string {
	s := fmt.Sprintf("%s %v-%v", t.what, t.from, t.to)
	if t.what == "loss" {
		return fmt.Sprintf("%s %.0f%%", s, 100*t.chance)
	}
	return strings.TrimSpace(s + " " + strings.Join(t.nodes, ","))
}

// deed is something that is done to a node, which is back some time later.
type deed struct {
	what string // stop, crash
	node string
	at   time.Duration
	back time.Duration // after the node has ended
	// lingers is how long a node answers whose sessions have gone.
	lingers time.Duration
}

func (d deed) String() string {
	return fmt.Sprintf("%s %s at %v, back after %v", d.what, d.node, d.at, d.back)
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seed %d: nodes %s, %d clients each, %d sessions and %d bytes, lock wait %v, packets %v + %v, clocks %v, %v of load, journals %v",
		p.kind, p.seed, strings.Join(p.nodes, ","), p.clients, p.sessions, p.padding, p.lockWait, p.base, p.jitter, p.skew, p.load, p.journals)
	for _, t := range p.troubles {
		fmt.Fprintf(&b, "\n  %v", t)
	}
	for _, d := range p.deeds {
		fmt.Fprintf(&b, "\n  %v", d)
	}
	return b.String()
}

// draw is a source of a plan's random values.
type draw struct{ *rand.Rand }

func drawFrom(seed uint64, stream string) draw {
	sum := uint64(14695981039346656037) // FNV-1a
	for _, c := range []byte(stream) {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return draw{rand.New(rand.NewPCG(seed, sum))}
}

// time draws a time from least to most.
func (d draw) time(least, most time.Duration) time.Duration {
	return (least + time.Duration(d.Int64N(int64(most-least+1)))).Round(100 * time.Microsecond)
}

func (d draw) chance(p float64) bool { return d.Float64() < p }

// planOf makes the plan of a seed.
func planOf(kind simKind, seed uint64) *plan {
	d := drawFrom(seed, string(kind))
	p := &plan{kind: kind, seed: seed, clients: 1 + d.IntN(3), sessions: 1 + d.IntN(3),
		base: d.time(time.Millisecond, 20*time.Millisecond), patience: 15 * time.Second}
	for i := range pick(d, []int{3, 3, 3, 3, 4, 4, 5}) {
		p.nodes = append(p.nodes, string(rune('a'+i)))
		p.skew = append(p.skew, 0)
		if d.chance(0.3) {
			p.skew[i] = d.time(-50*time.Second, 50*time.Second)
		}
	}
	if d.chance(0.2) {
		p.padding = 1 << (10 + d.IntN(7))
	}
	p.jitter = d.time(100*time.Microsecond, 2*p.base)
	if d.chance(0.7) {
		p.lockWait = 400 * time.Millisecond
	}
	switch kind {
	case simStops:
		p.planStops(d)
	case simCrashes:
		p.planCrashes(d)
	case simJournals:
		p.planJournals(d)
	case simSplits:
		p.planSplits(d)
	}
	for range p.sessions {
		p.born = append(p.born, pick(d, []time.Duration{-1, 0}))
	}
	for range d.IntN(6) {
		p.sessions++
		p.born = append(p.born, d.time(0, p.load))
	}
	p.journals = d.chance(0.5)
	return p
}

func (p *plan) planStops(d draw) {
	p.load = d.time(7*time.Second, 12*time.Second)
	for range d.IntN(4) {
		p.cutOff(d, 200*time.Millisecond, 4500*time.Millisecond)
	}
	p.weather(d, 0.15)
	for at := d.time(time.Second, 4*time.Second); at < p.load && len(p.deeds) < 3; at += d.time(50*time.Millisecond, 5*time.Second) {
		p.deeds = append(p.deeds, p.end(d, "stop", at, d.time(20*time.Millisecond, 3*time.Second)))
	}
}

// end plans the end of one of the nodes.
func (p *plan) end(d draw, what string, at, back time.Duration) deed {
	x := deed{what: what, node: pick(d, p.nodes), at: at, back: back}
	if d.chance(0.5) {
		x.lingers = d.time(10*time.Millisecond, time.Second)
	}
	return x
}

// cutOff plans that some nodes cannot be reached for a time. A node that was cut off has some seconds
// to be linked again before the next time, or what is called short would be long.
func (p *plan) cutOff(d draw, least, most time.Duration) {
	const apart = 6 * time.Second
	t := trouble{what: pick(d, []string{"cut", "half", "split", "pause", "break"}), from: d.time(500*time.Millisecond, p.load-least)}
	t.to = t.from + d.time(least, min(most, max(p.load-t.from, least)))
	for _, o := range p.troubles {
		if t.from < o.to+apart && o.from < t.to+apart {
			return
		}
	}
	nodes := slices.Clone(p.nodes)
	d.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	switch t.what {
	case "cut", "half", "break":
		t.nodes = nodes[:2]
	case "split":
		t.nodes = nodes[:1+d.IntN(len(nodes)/2)]
	case "pause":
		t.nodes = nodes[:1]
	}
	p.troubles = append(p.troubles, t)
}

// weather plans times in which packets are lost or late.
func (p *plan) weather(d draw, worst float64) {
	for range d.IntN(3) {
		from := d.time(0, p.load)
		t := trouble{what: "loss", from: from, to: from + d.time(500*time.Millisecond, 3*time.Second), chance: d.Float64() * worst}
		if d.chance(0.4) {
			t.what = "slow"
		}
		p.troubles = append(p.troubles, t)
	}
}

func (p *plan) planCrashes(d draw) {
	// A copy that was lost has to be restored before the next crash, which is when a node that has crashed is
	// out at the latest, and some seconds later.
	p.load = d.time(14*time.Second, 22*time.Second)
	p.weather(d, 0.02)
	for at := d.time(time.Second, 6*time.Second); at < p.load; {
		back := d.time(20*time.Millisecond, 2*time.Second)
		if d.chance(0.3) {
			back = d.time(11*time.Second, 14*time.Second) // when it is out already
		}
		p.deeds = append(p.deeds, p.end(d, "crash", at, back))
		at += back + d.time(16*time.Second, 20*time.Second)
	}
}

// crashes tells whether a plan promises something of nodes that crash.
func (p *plan) crashes() bool { return p.kind == simCrashes || p.kind == simJournals }

func (p *plan) planJournals(d draw) {
	p.load = d.time(12*time.Second, 22*time.Second)
	for range d.IntN(2) {
		p.cutOff(d, 200*time.Millisecond, 4500*time.Millisecond)
	}
	p.weather(d, 0.05)
	for at := d.time(time.Second, 4*time.Second); at < p.load && len(p.deeds) < 6; at += d.time(20*time.Millisecond, 6*time.Second) {
		back := d.time(20*time.Millisecond, 3*time.Second)
		if d.chance(0.25) {
			back = d.time(4*time.Second, 14*time.Second) // when it is out already
		}
		p.deeds = append(p.deeds, p.end(d, pick(d, []string{"crash", "crash", "crash", "stop"}), at, back))
	}
}

func (p *plan) planSplits(d draw) {
	p.load = d.time(18*time.Second, 30*time.Second)
	p.patience = 45 * time.Second // writes may be under way for as long as a split lasts
	for range 1 + d.IntN(2) {
		p.cutOff(d, 6*time.Second, 20*time.Second)
	}
	p.weather(d, 0.2)
	for range d.IntN(3) {
		p.deeds = append(p.deeds, p.end(d, pick(d, []string{"stop", "crash"}), d.time(time.Second, p.load), d.time(20*time.Millisecond, 8*time.Second)))
	}
	slices.SortFunc(p.deeds, func(a, b deed) int { return int(a.at - b.at) })
}

func pick[T any](d draw, all []T) T { return all[d.IntN(len(all))] }
