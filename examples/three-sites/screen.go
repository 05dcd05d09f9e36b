package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// colour is a site's.
type colour struct {
	terminal int    // of the 256 that terminals know
	page     string // of CSS
}

var colours = map[string]colour{"london": {81, "#bfe3f7"}, "tokyo": {213, "#f7cfe8"}, "sydney": {220, "#f7e7b0"}}

// screen shows what the visitors see: a line each half second, a column for each visitor.
type screen struct {
	out      io.Writer
	coloured bool
	begun    time.Time
}

func (s *screen) say(format string, a ...any) { fmt.Fprintf(s.out, format+"\n", a...) }

// event says that something has happened to a site.
func (s *screen) event(format string, a ...any) {
	text := fmt.Sprintf("%6.1f s  ", time.Since(s.begun).Seconds()) + fmt.Sprintf(format, a...)
	if s.coloured {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	s.say("%s", text)
}

func (s *screen) header(all []*visitor) {
	line := strings.Repeat(" ", 10)
	for _, v := range all {
		line += fmt.Sprintf("%-14s", v.name)
	}
	s.say("%s", strings.TrimRight(line, " "))
}

// row is what each visitor sees now.
func (s *screen) row(all []*visitor) {
	line := fmt.Sprintf("%6.1f s  ", time.Since(s.begun).Seconds())
	for _, v := range all {
		v.mu.Lock()
		site, text := v.site, fmt.Sprintf("%-7s %4d  ", v.site, v.count)
		if !v.asked.IsZero() && time.Since(v.asked) > 300*time.Millisecond {
			site, text = "", fmt.Sprintf("%-14s", fmt.Sprintf("waits %.1f s", time.Since(v.asked).Seconds()))
		}
		v.mu.Unlock()
		if c, ok := colours[site]; ok && s.coloured {
			text = fmt.Sprintf("\x1b[38;5;%dm%s\x1b[0m", c.terminal, text)
		}
		line += text
	}
	s.say("%s", strings.TrimRight(line, " "))
}
