package replay

import (
	"fmt"
	"strings"
	"time"
)

// Result is what came of a replay.
type Result struct {
	Requests    int     `json:"requests"`      // sent, without those to make sessions first
	Same        int     `json:"same"`          // answers without a difference
	Different   int     `json:"different"`     // answers with one, or none where there was one
	NotCompared int     `json:"not_compared"`  // sent, but the recording has no answer since the web server went away
	Incomplete  int     `json:"incomplete"`    // requests of the recording that were not whole, and not sent
	Strange     int64   `json:"strange_bytes"` // bytes of the recording that are no message, and were not sent
	Prepared    int     `json:"prepared"`      // sessions that existed before the recording began, and were made first
	Connections int     `json:"connections"`   // that were made
	Seconds     float64 `json:"seconds"`
	Bodies      bool    `json:"bodies"`  // contents were compared, not only their lengths
	CutOff      bool    `json:"cut_off"` // the recording ends in the middle of a line

	Differences []Difference `json:"differences"` // by kind, the first first
	OtherKinds  int          `json:"other_kinds"` // how many differences were of further kinds
}

// Limits of what is remembered of differences.
const (
	maxKinds = 1000
	maxLines = 10
)

// Difference is a kind of difference. It has nothing of a session's id or contents.
type Difference struct {
	Op       string `json:"op"`
	What     string `json:"what"` // a header's name, or "status line", "body", "connection", "order of the headers"
	Recorded string `json:"recorded"`
	Replayed string `json:"replayed"`
	Count    int    `json:"count"`
	Lines    []int  `json:"lines"` // of the recorded answers; the first ten
}

// add counts a difference.
func (r *Result) add(op string, d differ, line int) {
	for i := range r.Differences {
		k := &r.Differences[i]
		if k.Op == op && k.What == d.what && k.Recorded == d.recorded && k.Replayed == d.replayed {
			if k.Count++; len(k.Lines) < maxLines {
				k.Lines = append(k.Lines, line)
			}
			return
		}
	}
	if len(r.Differences) == maxKinds {
		r.OtherKinds++
		return
	}
	r.Differences = append(r.Differences, Difference{op, d.what, d.recorded, d.replayed, 1, []int{line}})
}

// String says it to people.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests on %d connections in %v\n", r.Requests, r.Connections,
		time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	fmt.Fprintf(&b, "same         %d answers", r.Same)
	if !r.Bodies {
		b.WriteString(" (contents were not recorded: only their lengths are compared)")
	}
	fmt.Fprintf(&b, "\ndifferent    %d answers\n", r.Different)
	for _, one := range []struct {
		n    int64
		text string
	}{
		{int64(r.NotCompared), "not compared %d: the web server went away before the answer\n"},
		{int64(r.Incomplete), "not sent     %d requests that are not complete in the recording\n"},
		{r.Strange, "not sent     %d bytes that are no message\n"},
		{int64(r.Prepared), "made first   %d sessions that existed before the recording began\n"},
	} {
		if one.n > 0 {
			fmt.Fprintf(&b, one.text, one.n)
		}
	}
	if r.CutOff {
		b.WriteString("the recording ends in the middle of a line: the relay was killed\n")
	}
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "%s, %s: %d times, line %s\n  recorded  %q\n  now       %q\n", d.Op, d.What, d.Count, linesOf(d), d.Recorded, d.Replayed)
	}
	if r.OtherKinds > 0 {
		fmt.Fprintf(&b, "and %d differences of other kinds\n", r.OtherKinds)
	}
	return b.String()
}

func linesOf(d Difference) string {
	text := strings.Trim(strings.ReplaceAll(fmt.Sprint(d.Lines), " ", ", "), "[]")
	if d.Count > len(d.Lines) {
		text += ", ..."
	}
	return text
}
