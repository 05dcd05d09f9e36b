package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/DeRuina/timberjack"
	"github.com/lmittmann/tint"

	"peerstate/certs/private"
	"peerstate/cmd/peerstate/service"
	"peerstate/cmd/peerstate/settings"
	"peerstate/cmd/peerstate/terminal"
)

// A log file is not longer than logSize megabytes, and there are logsKept older ones.
const (
	logSize  = 20
	logsKept = 9
)

// openLog makes the program's logger, which writes to a file, or to standard error without one, and to where a
// service of this system logs besides. The log has to be closed.
func openLog(file string, s *settings.Settings) (log *slog.Logger, closeLog func() error, err error) {
	besides, err := service.LogHandlers()
	if err != nil {
		return nil, nil, err
	}
	if file == "" {
		return newLogger(os.Stderr, s, besides...), func() error { return nil }, nil
	}
	if err := tryLogFile(file); err != nil {
		return nil, nil, usage("--log-file: %w; name a file that this account may write", err)
	}
	w := &timberjack.Logger{Filename: file, MaxSize: logSize, MaxBackups: logsKept, LocalTime: true, FileMode: 0o600}
	return newLogger(w, s, besides...), w.Close, nil
}

// tryLogFile says early whether a file can be written, as nobody would see it later.
func tryLogFile(file string) error {
	if err := private.MakeDir(filepath.Dir(file)); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// newLogger makes a logger that writes to w: text with colours on a terminal, text
// without them elsewhere or when NO_COLOR is set, JSON when the settings say so; and to the handlers besides. What is
// logged over and over is thinned out (see repeats).
func newLogger(w io.Writer, s *settings.Settings, besides ...slog.Handler) *slog.Logger {
	return slog.New(thinOut(slog.NewMultiHandler(append([]slog.Handler{newHandler(w, s)}, besides...)...)))
}

func newHandler(w io.Writer, s *settings.Settings) slog.Handler {
	level := slog.Level(s.LogLevel)
	if s.LogFormat == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	to := terminal.NewScreen(w)
	return tint.NewTextHandler(to, &tint.Options{
		Level:      level,
		TimeFormat: time.DateTime + ".000",
		NoColor:    !to.Coloured,
	})
}
