// Package bench puts load on state servers and checks what they answer.
//
// [Run] starts one worker (worker.go) for each connection. A worker owns some sessions (session.go) and
// one connection to each server (conn.go), and goes round its sessions in cycles: acquire, then a PUT
// with the lock's cookie, which is what one page of ASP.NET does. With several servers each session
// goes to the next server at each cycle. A session's body is a counter that every cycle raises by one, so
// a server that loses, doubles or mixes up writes is found out. Each worker counts for itself
// (tally.go), and Run adds up.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Config is what to do. All fields but Progress are needed.
type Config struct {
	To          []string      // host:port of each server
	Connections int           // to each server; as many cycles run at once
	Sessions    int           // of each connection
	Size        int           // of a session's body in bytes, at least MinSize
	Duration    time.Duration // from the first cycle on; creating and deleting sessions comes on top
	Retry       time.Duration // how long to wait after a 423; ASP.NET waits 500 ms

	// Progress, if there is one, is told now and then how far the run is; from one goroutine.
	Progress func(elapsed time.Duration, cycles, errors int64)
}

// Limits of what may take long outside of a cycle.
const (
	answerTimeout  = 10 * time.Second // ASP.NET's stateNetworkTimeout
	stopTimeout    = 2 * time.Second  // for the cycles under way when the time is over
	cleanupTimeout = 10 * time.Second
	progressEvery  = 200 * time.Millisecond
)

// Run creates the sessions, runs cycles until the duration is over or ctx is done, and deletes the sessions.
// A cancelled ctx is no error: the figures so far are given. The error is for servers on which
// no session can be created.
func Run(ctx context.Context, c Config) (Result, error) {
	all := newWorkers(c)
	defer each(all, (*worker).close)

	if err := create(ctx, all); err != nil {
		each(all, func(w *worker) { w.cleanUp(ctx) })
		return Result{}, err
	}

	start := time.Now()
	timed, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	progressDone := make(chan struct{})
	go func() {
		defer close(progressDone)
		watch(timed, c.Progress, start, all)
	}()
	each(all, func(w *worker) { w.run(timed) })
	elapsed := time.Since(start)
	cancel()
	<-progressDone

	// After Ctrl-C too: sessions that stay behind would hold the server's memory for 20 minutes.
	each(all, func(w *worker) { w.cleanUp(ctx) })
	return c.result(all, elapsed), nil
}

// each calls do with every worker at the same time and waits for all.
func each(all []*worker, do func(*worker)) {
	var wg sync.WaitGroup
	for _, w := range all {
		wg.Go(func() { do(w) })
	}
	wg.Wait()
}

// create stores every session for the first time. One error stands for all, as they are mostly the same.
func create(ctx context.Context, all []*worker) error {
	first, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	each(all, func(w *worker) {
		if err := w.create(first); err != nil {
			cancel(err) // only the first counts, and ends the others
		}
	})
	if ctx.Err() != nil {
		return errors.New("stopped before the first cycle")
	}
	if err := context.Cause(first); err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return fmt.Errorf("create a session: %w; start the state server, or name another address with --to", err)
		}
		return fmt.Errorf("create a session: %w", err)
	}
	return nil
}

func watch(ctx context.Context, progress func(time.Duration, int64, int64), start time.Time, all []*worker) {
	if progress == nil {
		return
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			var cycles, errs int64
			for _, w := range all {
				cycles += w.cycles.Load()
				errs += w.errorCount.Load()
			}
			progress(time.Since(start), cycles, errs)
		}
	}
}
