package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"peerstate/cmd/peerstate/settings"
	"peerstate/transport"
)

// clockLimit is the difference of two clocks that is worth a warning.
const clockLimit = time.Minute

const setClock = "have a time service set the clock (Windows: w32tm /resync; Linux: timedatectl set-ntp true, or chronyc makestep): " +
	"which of two writes came last is told by the clocks"

// judgeClocks says whose clock is wrong, by how far those of the other nodes are ahead of this machine's.
func judgeClocks(offsets map[string]time.Duration) (all []Finding) {
	var off []string
	var median []time.Duration
	for _, node := range slices.Sorted(maps.Keys(offsets)) {
		if offsets[node].Abs() > clockLimit {
			off, median = append(off, node), append(median, offsets[node])
		}
	}
	slices.Sort(median)
	switch {
	case len(offsets) > 0 && len(off) == 0:
		return []Finding{good("the clocks agree")}
	case len(off) > 1 && 2*len(off) > len(offsets)+1:
		return []Finding{warning(fmt.Sprintf("this machine's clock is wrong: those of %s are %s it", strings.Join(off, ", "), ahead(median[len(median)/2])), setClock)}
	}
	for _, node := range off {
		all = append(all, warning(fmt.Sprintf("the clock of %s is %s this machine's", node, ahead(offsets[node])),
			"see which of the two is right; on the other one, "+setClock))
	}
	return all
}

func ahead(d time.Duration) string {
	if d < 0 {
		return d.Abs().Round(time.Second).String() + " behind"
	}
	return d.Round(time.Second).String() + " ahead of"
}

// judgeVersions says whether the farm runs more than one version, by those of its nodes. A node that does not tell its
// own has the version "".
func judgeVersions(versions map[string]string) []Finding {
	of := map[string][]string{}
	for _, node := range slices.Sorted(maps.Keys(versions)) {
		of[versions[node]] = append(of[versions[node]], node)
	}
	if len(of) < 2 {
		return nil
	}
	var groups []string
	for _, v := range slices.Sorted(maps.Keys(of)) {
		name := v
		if v == "" {
			name = "an older one that does not tell"
		}
		groups = append(groups, fmt.Sprintf("%s (%s)", name, strings.Join(of[v], ", ")))
	}
	return []Finding{warning("the farm runs several versions of peerstate: "+strings.Join(groups, "; "),
		"that is as it should be while you upgrade node after node; in the end install one version everywhere")}
}

// inLinks is a distance in English.
func inLinks(n int) string { return english.Plural(n, "link", "") }

const deeper = "set PEERSTATE_MAX_HOPS to %d or more on every node, or draw another link; sessions that are farther away are not found"

// judgeDepth says whether questions get everywhere, by the map of the farm's links.
func judgeDepth(links []transport.LinkStatus, nodes, hops int) []Finding {
	d := transport.DepthOf(links)
	if d.Links > hops {
		return []Finding{fault(fmt.Sprintf("%s and %s are %s apart, and PEERSTATE_MAX_HOPS is %d", d.From, d.To, inLinks(d.Links), hops), fmt.Sprintf(deeper, d.Links))}
	}
	if nodes-1 > hops { // no way is longer than that
		if worst, without := transport.WorstDepthOf(links); worst.Links > hops {
			what := "the node " + without[0] + " fails"
			if len(without) == 2 {
				what = "the link between " + strings.Join(without, " and ") + " fails"
			}
			return []Finding{warning(fmt.Sprintf("when %s, %s and %s are %s apart, and PEERSTATE_MAX_HOPS is %d", what, worst.From, worst.To, inLinks(worst.Links), hops),
				fmt.Sprintf(deeper, worst.Links))}
		}
	}
	if d.Links == 0 {
		return nil
	}
	return []Finding{good("two nodes are at most %s apart, and questions go over %d", inLinks(d.Links), hops)}
}

// judgeReach does the same before this node runs, by what those say that it will be linked with: whatever is the nearest
// to one of them is one link farther from here.
func judgeReach(probed []transport.Probed, hops int) []Finding {
	var near *transport.Probed
	for i, p := range probed {
		if p.Hops > 0 && (near == nil || p.Reach < near.Reach) { // an older node tells neither
			near = &probed[i]
		}
	}
	if near == nil || near.Reach < hops {
		return nil
	}
	return []Finding{fault(fmt.Sprintf("from %s it is %s to the farthest node, so up to %d from here, and PEERSTATE_MAX_HOPS is %d", near.Node, inLinks(near.Reach), near.Reach+1, hops),
		fmt.Sprintf(deeper, near.Reach+1))}
}

// judgePlaces says whether backups can be where they should be, by the sites of the other nodes.
func judgePlaces(s *settings.Settings, peers []Peer) []Finding {
	if s.Backups == 0 || len(peers) == 0 {
		return nil
	}
	same := func(p Peer) bool { return p.Site == string(s.Site) }
	const mend = "see PEERSTATE_SITE on each node; meanwhile backups are made wherever there is a node"
	switch {
	case s.Placement == settings.Placement(transport.OtherSite) && !slices.ContainsFunc(peers, func(p Peer) bool { return !same(p) }):
		return []Finding{warning(fmt.Sprintf("PEERSTATE_BACKUP_PLACEMENT is \"other-site\", and all nodes are at the site %q", s.Site), mend)}
	case s.Placement == settings.Placement(transport.SameSite) && !slices.ContainsFunc(peers, same):
		return []Finding{warning(fmt.Sprintf("PEERSTATE_BACKUP_PLACEMENT is \"same-site\", and no other node is at the site %q", s.Site), mend)}
	}
	return nil
}

// judgeFarm looks at the farm as the running sidecar sees it.
func judgeFarm(s *settings.Settings, t *Insight) (all []Finding) {
	var up []Peer
	offsets, versions := map[string]time.Duration{}, map[string]string{t.Node: t.Version}
	for _, p := range t.Peers {
		if p.Node == "" || p.State != transport.Up && p.State != transport.Suspect {
			continue
		}
		up = append(up, p)
		offsets[p.Node] = p.Offset
		if p.Version != "" { // not told by whoever passes on what is known of it
			versions[p.Node] = p.Version
		}
	}
	all = append(all, judgeClocks(offsets)...)
	all = append(all, judgeVersions(versions)...)
	all = append(all, judgeDepth(t.Links, len(t.Peers)+1, int(s.MaxHops))...)
	return append(all, judgePlaces(s, up)...)
}
