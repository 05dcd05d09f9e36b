package explain

import (
	"fmt"
	"strings"
	"time"

	"peerstate/store"
	"peerstate/transport"
)

// reasons says in plain words what is odd, and, where the session is not there, why that may be.
func (x *Explanation) reasons() (all []string) {
	all = append(all, x.lookalikes()...)
	for i := range x.Sessions {
		s := &x.Sessions[i]
		if s.OtherCase && s.live() {
			all = append(all, fmt.Sprintf("Under %s there is a session whose id is written in another letter case. Ids differ by letter case; ASP.NET's own are lower case. "+
				"Look at what changes the cookie on its way: a proxy, or a session id manager of the application's.", s.Application))
		}
		if !s.live() {
			if s.OtherCase {
				all = append(all, "The id that was asked for is written in another letter case than that of the session that was there.")
			}
			all = append(all, x.endOf(s)...)
		}
		if s.State == "backup" && x.unaskedHolder(s) == "" {
			all = append(all, fmt.Sprintf("No node that was asked holds the session under %s, and %s. It is served as soon as it is known that nobody else holds it.",
				s.Application, keptBy(s)))
		}
		if s.State == "doubt" {
			all = append(all, fmt.Sprintf("%s has sent the session to %s and does not know whether it arrived: nobody serves it until %s has been asked, or is out.", s.Holder, s.To, s.To))
		}
	}
	return append(all, x.unasked()...)
}

// unaskedHolder is who holds a session by the word of those who keep backups of it, where that node is up and has told nothing; "":
// there is no such node.
func (x *Explanation) unaskedHolder(s *explainedSession) string {
	for _, c := range s.Copies {
		for _, n := range x.Nodes {
			if n.Node == c.Of && n.Up && n.NotAsked != "" && !c.Journal {
				return n.Node
			}
		}
	}
	return ""
}

func keptBy(s *explainedSession) string {
	var names []string
	for _, c := range s.Copies {
		if c.Journal {
			names = append(names, fmt.Sprintf("%s has a copy from its journal", c.Node))
		} else {
			names = append(names, fmt.Sprintf("%s keeps a backup of what %s held", c.Node, c.Of))
		}
	}
	return strings.Join(names, ", ")
}

// lookalikes are sessions of one id under several application ids.
func (x *Explanation) lookalikes() (all []string) {
	type application struct{ id, place string }
	var found []application
	for i := range x.Sessions {
		if s := &x.Sessions[i]; s.live() && !s.OtherCase {
			found = append(found, application{s.Application, "on " + placeOf(s)})
		}
	}
	if x.By == "hash or id" || len(found) == 0 {
		return nil
	}
	if x.By == "key" && !x.Found {
		all = append(all, "The same session id is there under another application id than the one that was asked for (see above).")
		found = append(found, application{x.application, "asked for"})
	}
	joined := false
	for i, a := range found {
		for _, b := range found[i+1:] {
			one, other := strings.TrimPrefix(a.id, "/"), strings.TrimPrefix(b.id, "/")
			if !store.Alike(one, other) {
				continue
			}
			k := transport.MistakeOf(one, other)
			joined = true
			all = append(all, fmt.Sprintf("%s (%s) and %s (%s) differ only in the number that IIS gave the site, in letter case, or in the hash that is made from that: "+
				"are they one application, with a site number of its own on each machine? Then each machine looks for the session under another key. "+
				"Set PEERSTATE_APP_ALIASES=%s on all nodes (after a comma, if there is something already), or give the site the same number everywhere.",
				a.id, a.place, b.id, b.place, k.Alias()))
		}
	}
	if !joined && len(found) > 1 {
		all = append(all, "The same session id is used by several applications: those of one domain share the cookie, each with a session of its own. That is normal.")
	}
	return all
}

// placeOf is a node that has something of a session which is there.
func placeOf(s *explainedSession) string {
	if s.Holder != "" || len(s.Copies) == 0 {
		return s.Holder
	}
	return s.Copies[0].Node
}

// endOf says how a session has ended, as far as anybody remembers.
func (x *Explanation) endOf(s *explainedSession) (all []string) {
	var last *explainedEvent
	for i := range s.Events {
		switch s.Events[i].What {
		case "expired", "deleted":
			last = &s.Events[i]
		}
	}
	switch {
	case last != nil && last.What == "expired":
		return []string{fmt.Sprintf("It was there under %s, and expired on %s at %s, %s ago: nobody had asked for it in its time.",
			s.Application, last.Node, clock(last.At, x.At), lasting(x.At.Sub(last.At)))}
	case last != nil:
		return []string{fmt.Sprintf("It was there under %s, and was deleted at %s, %s ago (%s remembers it): the application ended it (Session.Abandon).",
			s.Application, clock(last.At, x.At), lasting(x.At.Sub(last.At)), last.Node)}
	case s.State == "deleted" && s.Wrote != nil:
		return []string{fmt.Sprintf("It was there under %s, and was deleted at %s, %s ago: the application ended it (Session.Abandon).",
			s.Application, clock(*s.Wrote, x.At), lasting(x.At.Sub(*s.Wrote)))}
	case len(s.Events) > 0:
		e := s.Events[len(s.Events)-1]
		return []string{fmt.Sprintf("The last that is remembered of it under %s: %s", s.Application, eventText(&e, x.At, time.Local))}
	}
	return []string{fmt.Sprintf("It was there under %s, and has ended since; nobody remembers how.", s.Application)}
}

// unasked names the nodes that could not be asked, and the old state server, and says how far the memory of the others reaches.
func (x *Explanation) unasked() (all []string) {
	for _, n := range x.Nodes {
		switch {
		case n.NotAsked != "" && !n.Gone && !x.Found:
			all = append(all, fmt.Sprintf("%s could not be asked, and may have it: %s.", n.Node, n.NotAsked))
		case n.NotAsked != "" && n.Gone && !x.Found:
			all = append(all, fmt.Sprintf("%s is gone: %s. What only that node held is lost.", n.Node, n.NotAsked))
		}
	}
	if x.upstream != "" && !x.Found {
		all = append(all, fmt.Sprintf("The old state server %s (PEERSTATE_UPSTREAM) was not asked, and may have it: it is taken over from there when a page comes for it.", x.upstream))
	}
	if len(x.Sessions) > 0 {
		return all
	}
	all = append(all, "Nothing is known of it. Either there never was one, or the id is written wrong, or it ended longer ago than the nodes remember:")
	for _, n := range x.Nodes {
		if n.NotAsked != "" {
			continue
		}
		if n.Memory.Sub(*n.Started) < oneMoment {
			all = append(all, fmt.Sprintf("%s remembers ended sessions since it started, at %s (%s ago).", n.Node, clock(*n.Started, x.At), lasting(x.At.Sub(*n.Started))))
		} else {
			all = append(all, fmt.Sprintf("%s remembers ended sessions since %s (%s ago).", n.Node, clock(*n.Memory, x.At), lasting(x.At.Sub(*n.Memory))))
		}
	}
	return all
}
