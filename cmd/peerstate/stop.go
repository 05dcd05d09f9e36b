package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilStopped gives a context that ends when the operator wants the program to stop: with Ctrl-C or
// SIGTERM. A second signal ends the program at once, as it
// does without this.
func untilStopped(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	unregister := context.AfterFunc(ctx, stop)
	return ctx, func() {
		unregister()
		stop()
	}
}
