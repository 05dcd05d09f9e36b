//go:build !windows

package service

import "log/slog"

// LogHandlers are where the log goes besides its file: only Windows has such a place.
func LogHandlers() ([]slog.Handler, error) { return nil, nil }
