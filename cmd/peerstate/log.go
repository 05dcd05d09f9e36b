package main

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-colorable"
	"github.com/mattn/go-isatty"
)

// newLogger makes the program's logger, which writes to f: text with colours on a terminal, text
// without them elsewhere or when NO_COLOR is set, JSON when the settings say so. What is logged over and over
// is thinned out (see repeats).
func newLogger(f *os.File, s *settings) *slog.Logger {
	level := slog.Level(s.LogLevel)
	if s.LogFormat == "json" {
		return slog.New(thinOut(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: level})))
	}
	var w io.Writer = f
	colour := isTerminal(f) && os.Getenv("NO_COLOR") == ""
	if colour {
		w = colorable.NewColorable(f) // older Windows consoles do not know the escape sequences
	}
	return slog.New(thinOut(tint.NewTextHandler(w, &tint.Options{
		Level:      level,
		TimeFormat: time.DateTime + ".000",
		NoColor:    !colour,
	})))
}

func isTerminal(f *os.File) bool {
	return isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd())
}
