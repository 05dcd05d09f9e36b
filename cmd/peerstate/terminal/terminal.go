// Package terminal writes text where people read it: with colours or without, in place of what stood there, cut to what there is room for.
package terminal

import (
	"io"
	"os"
	"strings"

	"github.com/mattn/go-colorable"
	"github.com/mattn/go-isatty"
	"github.com/rivo/uniseg"
	"golang.org/x/term"
)

// Screen is where text goes that people read, and that may be drawn again in the same place.
type Screen struct {
	io.Writer          // knows the escape sequences of a terminal, also on older Windows consoles
	terminal  *os.File // nil: it is none
	Coloured  bool
}

// NewScreen makes a screen of whatever there is; with colours if it is a terminal and they are wanted.
func NewScreen(out io.Writer) *Screen {
	f, ok := out.(*os.File)
	if !ok || !Is(f) {
		return &Screen{Writer: out}
	}
	return &Screen{Writer: colorable.NewColorable(f), terminal: f, Coloured: wanted()}
}

// wanted tells whether there may be colours: not with NO_COLOR (no-color.org), nor on a terminal that says of itself that it
// knows no escape sequences.
func wanted() bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Is tells whether somebody looks at what is written to a file as it comes.
func Is(f *os.File) bool {
	return isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd())
}

// Redraw shows text in place of what was shown before; what is no terminal gets it below that.
func (s *Screen) Redraw(text string) error {
	if s.terminal == nil {
		_, err := io.WriteString(s, text+"\n")
		return err
	}
	width, height, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	const home, toTheEnd = "\x1b[H", "\x1b[J"
	_, err = io.WriteString(s, home+strings.Join(fitting(text, width, height), "\x1b[K\r\n")+"\x1b[K"+toTheEnd)
	return err
}

// fitting cuts text to a terminal: lines that would be wrapped, and those for which there is no room.
func fitting(text string, width, height int) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(height, 1))]
	for i, line := range lines {
		lines[i] = cutLine(line, width)
	}
	return lines
}

// cutLine leaves as much of a line as is width columns wide. Escape sequences take no room, and are all kept, so that no
// colour is left on.
func cutLine(line string, width int) string {
	var out strings.Builder
	used := 0
	for len(line) > 0 {
		if strings.HasPrefix(line, "\x1b[") {
			end := strings.IndexByte(line, 'm') + 1
			if end == 0 {
				break
			}
			out.WriteString(line[:end])
			line = line[end:]
			continue
		}
		cluster, rest, wide, _ := uniseg.FirstGraphemeClusterInString(line, -1)
		line = rest
		if used += wide; used <= width {
			out.WriteString(cluster)
		}
	}
	return out.String()
}
