package admin

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/rivo/uniseg"
)

// ink is how a terminal shows a piece of text; see ECMA-48, 8.3.117.
type ink string

const (
	plainInk ink = ""
	dim      ink = "2"
	bold     ink = "1"
	good     ink = "32"
	soon     ink = "33"
	bad      ink = "31"
)

// piece is text of one kind.
type piece struct {
	text string
	ink  ink
}

// paper gathers lines.
type paper struct {
	strings.Builder
	coloured bool
}

// line writes pieces, and ends the line.
func (p *paper) line(pieces ...piece) {
	for _, x := range pieces {
		text := tame(x.text)
		if p.coloured && x.ink != plainInk && text != "" {
			text = "\x1b[" + string(x.ink) + "m" + text + "\x1b[0m"
		}
		p.WriteString(text)
	}
	p.WriteByte('\n')
}

// labelled writes a line that begins with what it is about.
func (p *paper) labelled(label string, pieces ...piece) {
	p.line(append([]piece{{fmt.Sprintf("%-16s", label), dim}}, pieces...)...)
}

// table writes rows in columns, with a heading. The last column is as wide as it likes.
func (p *paper) table(heads []string, rows [][]piece) {
	head := make([]piece, len(heads))
	width := make([]int, len(heads))
	for i, h := range heads {
		head[i] = piece{h, dim}
	}
	rows = append([][]piece{head}, rows...)
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], uniseg.StringWidth(tame(cell.text)))
		}
	}
	for _, row := range rows {
		pieces := []piece{{"  ", plainInk}}
		for i, cell := range row {
			pieces = append(pieces, cell)
			if i < len(row)-1 {
				pieces = append(pieces, piece{strings.Repeat(" ", width[i]+2-uniseg.StringWidth(tame(cell.text))), plainInk})
			}
		}
		for len(pieces) > 0 && strings.TrimSpace(pieces[len(pieces)-1].text) == "" {
			pieces = pieces[:len(pieces)-1]
		}
		p.line(pieces...)
	}
}

// tame makes text from other nodes fit for a terminal: no character of it moves the cursor, or turns the direction.
func tame(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
