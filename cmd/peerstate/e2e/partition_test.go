package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two sides of a farm are cut off from each other for longer than the grace time, and both go on with copies
// of the same sessions. When they meet, the last write to each is the session, everywhere; the other
// copy is dropped, counted and logged. What one side has deleted stays deleted, read by the other side
// meanwhile or not, unless somebody has begun it anew.
func TestTwoSidesThatWereCutOffAreOneAgainWithTheLastWriteOfEachSession(t *testing.T) {
	t.Parallel()
	// With two backups each session has a copy on both sides. Until LOST_AFTER has passed since its own start, a
	// node would wait for the other side before it calls a session missing.
	d := newFarm(t).draw("london tokyo paris oslo", fullMesh(4), "PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_LOST_AFTER=4s", "PEERSTATE_BACKUPS=2", "PEERSTATE_BACKUP_SYNC=on")
	left, right := d.nodes[:2], d.nodes[2:]
	const many = 8 // of each kind
	session := func(kind string, i int) string { return fmt.Sprintf("session-%s-%d", kind, i) }
	for i := range many {
		for _, kind := range []string{"both", "deleted", "read", "anew", "idle"} {
			id := session(kind, i)
			d.nodes[i%4].want(200, "", "PUT", id, "before")
			for _, n := range d.nodes {
				n.want(200, "before", "GET", id, "")
			}
		}
	}
	d.safe(d.nodes...)

	d.between(left, right, rules{pulled: true})
	for _, a := range left {
		for _, b := range right {
			d.until("cut off", func() bool { return a.state(b.name) == "out" && b.state(a.name) == "out" })
		}
	}
	// done waits until a node serves its own side's copy.
	done := func(n *node, method, id, body string) {
		t.Helper()
		d.until(id+" served by "+n.name, func() bool {
			a := n.do(method, id, body)
			if a.status == 404 {
				t.Fatalf("%s says that %s is missing", n.name, id)
			}
			return a.status == 200
		})
	}
	last := map[string]string{}
	for i := range many {
		first, second := left[i%2], right[i/2%2]
		if i >= many/2 {
			first, second = second, first
		}
		id := session("both", i)
		done(first, "PUT", id, "of "+first.name)
		done(second, "PUT", id, "of "+second.name)
		last[id] = "of " + second.name
		last[session("idle", i)] = "before"

		done(right[i%2], "GET", session("read", i), "")
		for _, kind := range []string{"deleted", "read", "anew"} {
			done(left[i%2], "DELETE", session(kind, i), "")
			left[(i+1)%2].missing(session(kind, i))
		}
		left[i%2].want(200, "", "PUT", session("anew", i), "anew")
		last[session("anew", i)] = "anew"
	}

	before := d.conflicts()
	d.between(left, right, rules{})
	d.linked(d.nodes...)
	begun := time.Now()
	d.until("one again", func() bool { return d.held() == len(last) })
	took := time.Since(begun)
	for i, n := range d.nodes {
		for id, want := range last {
			n.served(id, want)
		}
		for j := range many {
			n.missing(session("deleted", j))
			n.missing(session("read", j))
			if strings.Contains(n.log.String(), session("both", j)) {
				t.Errorf("%s has logged the id of a session", n.name)
			}
		}
		if i == 0 && took > 10*time.Second {
			t.Errorf("the two sides were one again after %v", took)
		}
	}
	// One conflict for each session that both sides wrote; what was read here and deleted there is one as well.
	counted := d.conflicts() - before
	logged := 0
	for _, n := range d.nodes {
		logged += strings.Count(n.log.String(), "two nodes had a copy of one session")
	}
	t.Logf("one again after %v with %v conflicts", took, counted)
	if counted < many || int(counted) != logged {
		t.Errorf("%v conflicts are counted and %d logged; both sides wrote %d sessions", counted, logged, many)
	}
	d.heldOnce(slices.Collect(maps.Keys(last))...)
}

// conflicts is how many stale copies the nodes have dropped.
func (d *drawn) conflicts() (all float64) {
	d.t.Helper()
	for _, n := range d.nodes {
		all += n.metric("peerstate_conflicts_total")
	}
	return all
}

// held is how many sessions the nodes hold together.
func (d *drawn) held() (all int) {
	d.t.Helper()
	for _, n := range d.nodes {
		all += int(n.metric("peerstate_sessions_active"))
	}
	return all
}
