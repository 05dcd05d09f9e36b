package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"peerstate/cmd/peerstate/ending"
)

// Text is the page that an operator reads.
func Text(x *Explanation, zone *time.Location) string {
	var out strings.Builder
	live := 0
	for i := range x.Sessions {
		if s := &x.Sessions[i]; s.live() {
			live++
			x.session(&out, s, zone)
		}
	}
	switch {
	case live == 0:
		out.WriteString("There is no such session on the nodes that were asked.\n\n")
	case !x.Found:
		fmt.Fprintf(&out, "There is no session with the very %s that was asked for.\n\n", x.By)
	}
	for i := range x.Sessions {
		if s := &x.Sessions[i]; !s.live() && len(s.Events) > 0 {
			fmt.Fprintf(&out, "Session %s, of the application %s, is over\n\n", s.Hash, s.Application)
			x.events(&out, s, zone)
			out.WriteByte('\n')
		}
	}
	if len(x.Reasons) > 0 {
		title := "What is odd about it"
		if !x.Found {
			title = "What is known, and what may be the reason"
		}
		out.WriteString(title + "\n\n")
		for _, r := range x.Reasons {
			out.WriteString(wrap("  - ", r))
		}
		out.WriteByte('\n')
	}
	var asked, not []string
	more := false
	for _, n := range x.Nodes {
		if more = more || n.More; n.NotAsked == "" {
			asked = append(asked, n.Node)
		} else {
			not = append(not, fmt.Sprintf("%s: %s", n.Node, n.NotAsked))
		}
	}
	out.WriteString(wrap("Asked: ", strings.Join(asked, ", ")))
	for _, n := range not {
		out.WriteString(wrap("Not asked: ", n))
	}
	if more {
		out.WriteString("There are more sessions that fit than are shown.\n")
	}
	return out.String()
}

// session shows one that is there.
func (x *Explanation) session(out *strings.Builder, s *explainedSession, zone *time.Location) {
	fmt.Fprintf(out, "Session %s, of the application %s\n\n", s.Hash, s.Application)
	row := func(name, format string, a ...any) {
		out.WriteString(wrap(fmt.Sprintf("  %-14s ", name), fmt.Sprintf(format, a...)))
	}
	at := func(t time.Time) string { return clock(t.In(zone), x.At.In(zone)) }
	if s.OtherCase {
		row("session id", "as it was asked for, but in another letter case")
	}
	switch {
	case s.State == "backup" && x.unaskedHolder(s) != "":
		row("held by", "%s, as its backups say; that node could not be asked", x.unaskedHolder(s))
	case s.State == "backup":
		row("held by", "nobody that was asked; there are copies of it")
	case s.Before:
		row("held by", "%s, since before %s (%s)", s.Holder, at(*s.Since), ago(x.At.Sub(*s.Since)))
	default:
		row("held by", "%s, since %s (%s)", s.Holder, at(*s.Since), ago(x.At.Sub(*s.Since)))
	}
	switch s.State {
	case "moving":
		row("on its way", "to %s", s.To)
	case "doubt":
		row("on its way", "to %s, and it is not known whether it arrived", s.To)
	}
	x.lock(row, s)
	if s.Wait > 0 {
		row("waiting", "%d, requests and other nodes", s.Wait)
	}
	row("size", "%s", humanize.Bytes(uint64(s.Size)))
	if s.New {
		row("contents", "none yet: the first page that reads it is told to initialise it")
	}
	switch {
	case s.Mins == 0:
		row("timeout", "none: it never expires")
	case s.State == "backup":
		row("timeout", "%d min", s.Mins) // a backup lives longer than the session
	default:
		row("timeout", "%d min; if nobody asks for it, it expires at %s (in %s)", s.Mins, at(*s.Ends), lasting(s.Ends.Sub(x.At)))
	}
	if s.Wrote != nil {
		row("last written", "%s (%s)", at(*s.Wrote), ago(x.At.Sub(*s.Wrote)))
	}
	if s.Epoch > 0 {
		row("moved", "%s so far", humanize.Comma(int64(min(s.Epoch, 1<<62)))+times(s.Epoch))
	}
	for i, c := range s.Copies {
		name := "backups"
		if i > 0 {
			name = ""
		}
		switch {
		case c.Journal:
			row(name, "%s, from its journal: not compared with the other nodes yet", c.Node)
		case s.State == "backup":
			row(name, "%s, of what %s held", c.Node, c.Of)
		case c.Of != s.Holder:
			row(name, "%s, an older copy from when %s held it, which it will forget", c.Node, c.Of)
		case c.Current:
			row(name, "%s, with the last change", c.Node)
		default:
			row(name, "%s, which has not said yet that it has the last change", c.Node)
		}
	}
	if len(s.Copies) == 0 {
		row("backups", "none")
	}
	x.events(out, s, zone)
	out.WriteByte('\n')
}

func (x *Explanation) lock(row func(name, format string, a ...any), s *explainedSession) {
	if s.Lock == nil {
		if s.State == "held" {
			row("lock", "none")
		}
		return
	}
	row("lock", "cookie %d, for %s", s.Lock.Cookie, lasting(x.At.Sub(s.Lock.Since)))
	switch {
	case s.Lock.Client == "":
		row("", "taken on another node, which had the session then, or before this one was started")
	case !s.Lock.Open:
		row("", "taken over the web server's connection from %s, which is closed by now; its page may still run", s.Lock.Client)
	case s.Lock.PID == 0:
		row("", "taken over the web server's connection from %s, which is open; the process at its other end cannot be seen by the account of the sidecar", s.Lock.Client)
	default:
		process := s.Lock.Process
		if process == "" {
			process = "a process whose name cannot be seen"
		}
		row("", "taken over the web server's connection from %s, which is open: %s, process %d on %s's machine. Other pages use the connection, too",
			s.Lock.Client, process, s.Lock.PID, s.Holder)
	}
}

// events shows what happened, the oldest first.
func (x *Explanation) events(out *strings.Builder, s *explainedSession, zone *time.Location) {
	for i := range s.Events {
		name := "what happened"
		if i > 0 {
			name = ""
		}
		out.WriteString(wrap(fmt.Sprintf("  %-14s ", name), eventText(&s.Events[i], x.At, zone)))
	}
}

func eventText(e *explainedEvent, now time.Time, zone *time.Location) string {
	text := map[string]string{
		"created": "created on %[1]s", "came": "%[2]s gave it to %[1]s", "given": "%[1]s gave it to %[2]s",
		"promoted":   "%[1]s made its backup the session, as %[2]s was gone",
		"taken_back": "%[1]s serves it again: it was on its way to a node that was gone",
		"deleted":    "deleted, as %[1]s remembers", "expired": "expired on %[1]s",
		"taken_over": "%[1]s took it over from the old state server",
		"outdated":   "%[1]s dropped its copy, as %[2]s had a newer one",
	}[e.What]
	if strings.Contains(text, "%[2]s") {
		text = fmt.Sprintf(text, e.Node, e.Peer)
	} else {
		text = fmt.Sprintf(text, e.Node)
	}
	return clock(e.At.In(zone), now.In(zone)) + "  " + text
}

func times(n uint64) string {
	if n == 1 {
		return " time"
	}
	return " times"
}

// clock gives a time of day, with the date if it is another day than now.
func clock(t, now time.Time) string {
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

func ago(d time.Duration) string { return lasting(d) + " ago" }

// lasting writes a duration in two units.
func lasting(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", ending.Days(d))
}

// pageWidth is how wide the page is, in letters.
const pageWidth = 100

// wrap breaks a text into lines that begin below each other, behind a first word that stands once. What is longer than
// a line, such as an application's id, stays whole: people copy it.
func wrap(first, text string) string {
	var out strings.Builder
	indent := strings.Repeat(" ", len(first))
	line, empty := first, true
	for word := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(word) > pageWidth {
			out.WriteString(line + "\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return out.String() + line + "\n"
}
