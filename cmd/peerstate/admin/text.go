package admin

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Text is what the status page shows, for a terminal; events are as many of the last ones.
func (p Page) Text(coloured bool, events int) string {
	out := &paper{coloured: coloured}
	s := p.Status
	about := []string{}
	for _, x := range []string{s.Site, cmp.Or(prefixed("farm ", s.Farm), "stand-alone"), "up " + span(time.Duration(s.UptimeSeconds)*time.Second), "peerstate " + s.Version} {
		if x != "" {
			about = append(about, x)
		}
	}
	out.line(piece{s.Node, bold}, piece{"  " + strings.Join(about, ", "), dim})
	p.readiness(out)
	out.line()
	p.figures(out)
	out.line()
	if s.Farm != "" {
		p.nodes(out)
		out.line()
		p.certificates(out)
		out.line()
	}
	p.sessions(out)
	p.lastEvents(out, events)
	return out.String()
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func (p Page) readiness(out *paper) {
	if p.Reason == "" {
		out.line(piece{"ready", good})
	} else {
		out.line(piece{"not ready: ", bad}, piece{p.Reason, bold})
	}
	for _, w := range p.Warnings {
		out.line(piece{"warning: ", soon}, piece{w, plainInk})
	}
}

// lately is the mean of the last samples, and the worst of their times.
func (p Page) lately() (s Sample, ok bool) {
	last := p.Samples[max(0, len(p.Samples)-5):]
	if len(last) == 0 {
		return s, false
	}
	s = last[len(last)-1]
	s.Requests, s.Refused, s.Locked, s.Fetches, s.Arrived, s.NotKnown = 0, 0, 0, 0, 0, 0
	n := float64(len(last))
	for _, x := range last {
		s.Requests += x.Requests / n
		s.Refused += x.Refused / n
		s.Locked += x.Locked / n
		s.Fetches += x.Fetches / n
		s.Arrived += x.Arrived / n
		s.NotKnown += x.NotKnown / n
		s.P50, s.P99 = worse(s.P50, x.P50), worse(s.P99, x.P99)
		s.Fetch50, s.Fetch99 = worse(s.Fetch50, x.Fetch50), worse(s.Fetch99, x.Fetch99)
		s.Wait99 = worse(s.Wait99, x.Wait99)
	}
	return s, true
}

func worse(a, b *float64) *float64 {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

func (p Page) figures(out *paper) {
	st := p.Status
	held := fmt.Sprintf("%s held (%s)", humanize.Comma(int64(st.Sessions.Active)), humanize.Bytes(uint64(max(st.Sessions.Bytes, 0))))
	if st.Farm != "" {
		held += fmt.Sprintf("; keeps %s for other nodes", plural(st.Sessions.Backups, "backup"))
	}
	out.labelled("Sessions", piece{held, plainInk})
	if m := st.Memory; m.Limit > 0 {
		kind := plainInk
		if m.Refusing {
			kind = bad
		}
		out.labelled("Memory", piece{fmt.Sprintf("%d%% used of %s", m.Used*100/m.Limit, humanize.IBytes(uint64(m.Limit))), kind})
	}
	s, ok := p.lately()
	if !ok {
		out.labelled("Requests", piece{"the first figures come in a moment", dim})
		return
	}
	out.labelled("Requests", piece{figure(s.Requests) + " a second" + shares(s.P50, s.P99), plainInk}, trouble(s.Refused, "not answered"))
	out.labelled("Waiting", piece{fmt.Sprintf("%d for a session that is locked", s.Waiting), plainInk}, piece{shares(nil, s.Wait99), plainInk})
	if st.Farm == "" {
		return
	}
	share := "-"
	if s.Requests > 0 {
		share = fmt.Sprintf("%.1f%%", 100*max(0, 1-s.Fetches/s.Requests))
	}
	out.labelled("Answered here", piece{share + " of the requests; " + figure(s.Fetches) + " a second asked other nodes" + shares(s.Fetch50, s.Fetch99), plainInk},
		trouble(s.NotKnown, "where nobody could say"))
	safe := piece{"0 sessions: a crash now loses nothing", plainInk}
	switch {
	case p.WantedBackups == 0:
		safe.text = "backups are switched off"
	case p.Keepers < p.WantedBackups:
		safe = piece{plural(s.Pending, "session") + "; too few other nodes can keep backups", soon}
	case s.Pending > 0:
		safe = piece{plural(s.Pending, "session") + "; the oldest change waits for " + short(1000*s.PendFor), plainInk}
	}
	out.labelled("Not safe yet", safe)
}

func trouble(rate float64, what string) piece {
	if rate == 0 {
		return piece{}
	}
	return piece{fmt.Sprintf("; %s a second %s", figure(rate), what), bad}
}

// shares says how long half of something took, and nearly all of it, in ms.
func shares(half, most *float64) string {
	switch {
	case most == nil:
		return ""
	case half == nil:
		return "; 99% within " + short(*most)
	}
	return fmt.Sprintf("; half within %s, 99%% within %s", short(*half), short(*most))
}

func (p Page) nodes(out *paper) {
	s := p.Status
	down, gone := 0, 0
	rows := [][]piece{{{s.Node, bold}, {s.Site, plainInk}, {"this node", plainInk}, {}, {}, {humanize.Comma(int64(s.Sessions.Active)), plainInk},
		p.until(&s.Certificate.Expires), {p.RotationDone, plainInk}, {}}}
	for _, peer := range s.Peers {
		kind := bad
		switch peer.State {
		case "up":
			kind = good
		case "drained":
			kind = dim
		case "suspect", "connecting":
			kind = soon
		}
		switch peer.State {
		case "up":
		case "drained":
			gone++
		default:
			down++
		}
		row := []piece{{cmp.Or(peer.Node, peer.Addr), bold}, {peer.Site, plainInk}, {peer.State, kind}, {span(p.Now.Sub(peer.Since)), dim}, {}, {}, p.until(peer.CertExpires),
			{peer.Rotation, plainInk}, {peer.Reason, plainInk}}
		if peer.RTTMillis != nil {
			row[4].text = short(*peer.RTTMillis)
		} else if peer.Hops > 1 {
			row[4].text = fmt.Sprintf("%d links", peer.Hops)
		}
		if peer.Sessions != nil {
			row[5].text = humanize.Comma(*peer.Sessions)
		}
		rows = append(rows, row)
	}
	summary := piece{"all are up", plainInk}
	switch {
	case down > 0:
		summary = piece{fmt.Sprintf("%d not up", down), bad}
	case gone > 0:
		summary = piece{fmt.Sprintf("%d drained, all others are up", gone), plainInk}
	}
	out.labelled("Nodes", piece{fmt.Sprintf("%d, with %s; ", len(rows), plural(len(s.Links), "link")), plainInk}, summary)
	out.table([]string{"node", "site", "state", "for", "round trip", "sessions", "certificate", "new CA", "why"}, rows)
}

// until is how long a certificate lasts yet.
func (p Page) until(end *time.Time) piece {
	if end == nil {
		return piece{"-", dim}
	}
	left := end.Sub(p.Now)
	switch {
	case left < 0:
		return piece{"ended", bad}
	case left < 7*24*time.Hour:
		return piece{span(left), soon}
	}
	return piece{span(left), plainInk}
}

// issuer is who renews certificates. One that was lost and is now restored on another machine is known under both names: then
// it is the one that is up.
func (p Page) issuer() piece {
	if p.Issuer {
		return piece{"this node", plainInk}
	}
	found := piece{"no issuer is known: nobody renews certificates", soon}
	for _, peer := range p.Status.Peers {
		switch {
		case peer.Issuer && peer.State == "up":
			return piece{peer.Node, plainInk}
		case peer.Issuer:
			found = piece{peer.Node + ", which is " + peer.State, soon}
		}
	}
	return found
}

func (p Page) certificates(out *paper) {
	c := p.Status.Certificate
	out.labelled("Certificate", p.until(&c.Expires), piece{c.Expires.UTC().Format(" left, until 2006-01-02"), plainInk},
		piece{"; the farm's CA: ", plainInk}, p.until(&c.CAExpires), piece{c.CAExpires.UTC().Format(" left, until 2006-01-02"), plainInk})
	out.labelled("Issuer", p.issuer())
	if c.Rotation == "" {
		return
	}
	done, all, waiting := 0, 1, []string{}
	count := func(node, rotation, state string) {
		switch {
		case rotation == "done":
			done++
		case state == "up":
			waiting = append(waiting, fmt.Sprintf("%s (%s)", node, cmp.Or(rotation, "not heard of yet")))
		default: // a node that has left is waited for, too
			waiting = append(waiting, fmt.Sprintf("%s (%s)", node, state))
		}
	}
	count(p.Status.Node, p.RotationDone, "up")
	for _, peer := range p.Status.Peers {
		all++
		count(cmp.Or(peer.Node, peer.Addr), peer.Rotation, peer.State)
	}
	steps := map[string]string{"trust": "step 1 of 3, trust the new one", "renew": "step 2 of 3, renew with it", "drop": "step 3 of 3, drop the old one"}
	text := fmt.Sprintf("%s: %d of %d nodes done", cmp.Or(steps[c.Rotation], c.Rotation), done, all)
	if len(waiting) > 0 {
		text += "; waiting for " + strings.Join(waiting, ", ")
	}
	out.labelled("New CA", piece{text, plainInk})
}

// shown is how many sessions of each kind are.
const shown = 5

func (p Page) sessions(out *paper) {
	if list := p.Contended[:min(len(p.Contended), shown)]; len(list) > 0 {
		out.labelled("Most contended", piece{"requests that met a lock, over the last " + span(time.Duration(p.ContendedOver)*time.Second), plainInk})
		var rows [][]piece
		for _, c := range list {
			locked := "-"
			if c.LockedMS > 0 {
				locked = short(c.LockedMS)
			}
			rows = append(rows, []piece{{c.Hash, plainInk}, {humanize.Comma(int64(c.Met)), plainInk}, {short(c.LongestMS), plainInk}, {fmt.Sprint(c.Waiting), plainInk}, {locked, plainInk}})
		}
		out.table([]string{"session", "met", "longest wait", "waiting now", "locked for"}, rows)
		out.line()
	}
	if list := p.Status.Largest[:min(len(p.Status.Largest), shown)]; len(list) > 0 {
		out.labelled("Largest", piece{"of the sessions held", plainInk})
		var rows [][]piece
		for _, l := range list {
			rows = append(rows, []piece{{l.Hash, plainInk}, {humanize.Bytes(uint64(max(l.Bytes, 0))), plainInk}})
		}
		out.table([]string{"session", "size"}, rows)
		out.line()
	}
}

func (p Page) lastEvents(out *paper, most int) {
	list := p.Events[:min(len(p.Events), most)]
	if len(list) == 0 {
		return
	}
	out.labelled("Events", piece{"the newest first", dim})
	for _, e := range list {
		layout := time.TimeOnly
		if p.Now.Sub(e.At) > 20*time.Hour {
			layout = time.DateOnly
		}
		pieces := []piece{{fmt.Sprintf("  %-10s  ", e.At.Local().Format(layout)), dim}}
		switch e.Level {
		case "error":
			pieces = append(pieces, piece{"error: ", bad})
		case "warn":
			pieces = append(pieces, piece{"warning: ", soon})
		}
		pieces = append(pieces, piece{e.Text, plainInk})
		if e.Times > 1 {
			pieces = append(pieces, piece{fmt.Sprintf(" (%d times)", e.Times), plainInk})
		}
		for _, d := range e.Details {
			pieces = append(pieces, piece{"  " + d.Name + "=", dim}, piece{d.Value, plainInk})
		}
		out.line(pieces...)
	}
}
