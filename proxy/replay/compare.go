package replay

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"peerstate/proxy/wire"
)

// varies are the headers whose values may differ between two runs: they depend on the time.
var varies = []string{"lockdate", "lockage", "date", "age"}

// What of a Difference that is no header's name.
const (
	whatConnection = "connection"
	whatStatus     = "status line"
	whatBody       = "body"
	whatOrder      = "order of the headers"
)

// differ is one difference of two answers.
type differ struct{ what, recorded, replayed string }

// header is one header of an answer.
type header struct{ name, value string }

func headersOf(h *wire.Head) (all []header) {
	for name, value := range h.Headers() {
		all = append(all, header{string(name), string(value)})
	}
	return all
}

// compare gives the differences of a recorded answer and the new one.
func compare(x *exchange, now *wire.Answer, s *session) (found []differ) {
	if was, is := string(x.answer.StartLine()), string(now.StartLine()); was != is {
		found = append(found, differ{whatStatus, was, is})
		if x.answer.Status != now.Status {
			return found // the rest differs for that reason
		}
	}
	was, is := headersOf(&x.answer.Head), headersOf(&now.Head)
	for _, h := range was {
		value, ok := valueIn(is, h.name)
		switch {
		case !ok:
			found = append(found, differ{h.name, h.value, "(missing)"})
		case isCookie([]byte(h.name)):
			found = append(found, compareCookies(x, now, s, h.name)...)
		case value != h.value && !mayDiffer(h.name, s):
			found = append(found, differ{h.name, h.value, value})
		}
	}
	for _, h := range is {
		if _, ok := valueIn(was, h.name); !ok {
			found = append(found, differ{h.name, "(missing)", h.value})
		}
	}
	if len(found) == 0 {
		found = append(found, compareOrder(was, is)...)
	}
	if x.answer.body != nil && !s.guessed && int64(len(now.Body)) == x.answer.length && !bytes.Equal(now.Body, x.answer.body) {
		found = append(found, differ{whatBody, "as recorded", "other contents of the same length"})
	}
	return found
}

func valueIn(all []header, name string) (string, bool) {
	i := slices.IndexFunc(all, func(h header) bool { return strings.EqualFold(h.name, name) })
	if i < 0 {
		return "", false
	}
	return all[i].value, true
}

// mayDiffer tells the headers whose values say nothing here.
func mayDiffer(name string, s *session) bool {
	name = strings.ToLower(name)
	return slices.Contains(varies, name) || s.guessed && (name == "content-length" || name == "timeout")
}

// compareCookies looks whether both cookies are of one lock; their numbers are each server's own.
func compareCookies(x *exchange, now *wire.Answer, s *session, name string) []differ {
	is, ok := now.Number(name)
	if !ok || x.answer.cookie < 0 {
		return []differ{{name, "a number", "something else"}}
	}
	if !s.pair(x.answer.cookie, is) {
		return []differ{{name, "that of the same lock", "that of another lock"}}
	}
	return nil
}

func compareOrder(was, is []header) []differ {
	names := func(all []header) string {
		var b strings.Builder
		for _, h := range all {
			fmt.Fprintf(&b, "%s ", h.name)
		}
		return strings.TrimSpace(b.String())
	}
	if names(was) == names(is) {
		return nil
	}
	return []differ{{whatOrder, names(was), names(is)}}
}
