package transport

import (
	"slices"
	"time"
)

// weather is what a plan does to packets. The network's lock guards it. What becomes of a packet is decided
// by the seed, its direction, and the millisecond in which it is sent: one packet more or less, and who of several
// nodes sends first at the same moment, changes nothing for the others.
type weather struct {
	plan  *plan
	begun time.Time
	ways  map[string]*way // by from and to
	names map[string]string
}

// way is one direction between two nodes.
type way struct {
	from, to string
	usual    time.Duration
	seed     uint64
}

func newWeather(p *plan) *weather {
	w := &weather{plan: p, begun: time.Now(), ways: map[string]*way{}, names: map[string]string{}}
	for _, name := range p.nodes {
		w.names[addrOf(name).String()] = name
	}
	return w
}

func (w *weather) way(from, to string) *way {
	x := w.ways[from+to]
	if x == nil {
		x = &way{from: w.names[from], to: w.names[to]}
		d := drawFrom(w.plan.seed, "way "+x.from+x.to)
		x.usual, x.seed = d.time(w.plan.base/2, 2*w.plan.base), d.Uint64()
		w.ways[from+to] = x
	}
	return x
}

// lot is a number from 0 to 1 for what is sent in one millisecond; what says which of several.
func (x *way) lot(now time.Duration, what uint64) float64 {
	z := x.seed + uint64(now/time.Millisecond)*0x9e3779b97f4a7c15 + what*0xd1b54a32d192ed03 // SplitMix64
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

// lose decides whether a packet is lost.
func (w *weather) lose(from, to string) bool {
	x, now := w.way(from, to), time.Since(w.begun)
	for _, t := range w.plan.troubles {
		if now < t.from || now >= t.to {
			continue
		}
		switch t.what {
		case "cut":
			if slices.Contains(t.nodes, x.from) && slices.Contains(t.nodes, x.to) {
				return true
			}
		case "half":
			if x.from == t.nodes[0] && x.to == t.nodes[1] {
				return true
			}
		case "split":
			if slices.Contains(t.nodes, x.from) != slices.Contains(t.nodes, x.to) {
				return true
			}
		case "loss":
			if x.lot(now, 0) < t.chance {
				return true
			}
		}
	}
	return false
}

// delay is how long a packet takes that is not lost.
func (w *weather) delay(from, to string) time.Duration {
	x, now := w.way(from, to), time.Since(w.begun)
	d := x.usual + time.Duration(x.lot(now, 1)*float64(w.plan.jitter))
	for _, t := range w.plan.troubles {
		if t.what == "slow" && now >= t.from && now < t.to {
			d += time.Duration(x.lot(now, 2) * float64(300*time.Millisecond))
		}
	}
	for _, t := range w.plan.troubles {
		// A paused machine sends nothing, and what comes waits for it.
		stands := t.what == "pause" && (x.from == t.nodes[0] && now >= t.from || x.to == t.nodes[0] && now+d >= t.from)
		if stands && now+d < t.to {
			d = t.to - now + time.Duration(x.lot(now, 3)*float64(time.Millisecond))
		}
	}
	return d
}
