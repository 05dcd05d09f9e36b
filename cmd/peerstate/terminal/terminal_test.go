package terminal

import (
	"slices"
	"testing"
)

func TestTextIsCutToTheTerminal(t *testing.T) {
	lines := fitting("\x1b[1mweb1\x1b[0m is long\nsecond\nthird\n", 8, 2)
	if want := []string{"\x1b[1mweb1\x1b[0m is ", "second"}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
	for line, want := range map[string]string{
		"日本語": "日本", "abcd": "abcd", "abcde": "abcd", "\x1b[31mabcdef\x1b[0m": "\x1b[31mabcd\x1b[0m", "": "", "e\u0301e\u0301xyz": "e\u0301e\u0301xy",
	} {
		if got := cutLine(line, 4); got != want {
			t.Errorf("%q is cut to %q, want %q", line, got, want)
		}
	}
	if got := fitting("a\nb", 0, 0); len(got) != 1 || got[0] != "" {
		t.Errorf("a terminal without room shows %q", got)
	}
}

func TestColoursAreForWhoWantsThemAndTerminalsThatKnowThem(t *testing.T) {
	for _, c := range []struct {
		no, term string
		want     bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}, {"", "", true}} {
		t.Setenv("NO_COLOR", c.no)
		t.Setenv("TERM", c.term)
		if wanted() != c.want {
			t.Errorf("with NO_COLOR=%q and TERM=%q: %v", c.no, c.term, !c.want)
		}
	}
}
