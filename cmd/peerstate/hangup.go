package main

import (
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// onHangUp gives a value for each SIGHUP, with which the operator has the certificates read anew; from now on
// that signal does not end the program, until stop is called. (Windows has no such signal.)
func onHangUp(log *slog.Logger) (kicks <-chan struct{}, stop func()) {
	signals, kicked, done := make(chan os.Signal, 1), make(chan struct{}, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			log.Info("SIGHUP: the certificate files are read anew")
			select {
			case kicked <- struct{}{}:
			default: // one waits already
			}
		}
	})
	return kicked, func() {
		signal.Stop(signals)
		close(done)
		running.Wait()
	}
}
