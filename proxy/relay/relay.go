package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"peerstate/proxy/recording"
)

// MaxConns is how many connections a relay has open at once; a further one is closed.
const MaxConns = 10000

// dialTime is how long connecting to the state server may take: as long as a web server waits for an answer.
const dialTime = 10 * time.Second

// Config says what a relay does. To must be set.
type Config struct {
	To     string            // HOST:PORT of the state server
	Edits  Edits             // of headers
	Screen *Screen           // nil: nothing is shown
	Record *recording.Writer // nil: nothing is recorded
}

// Relay passes connections on. Serve it once.
type Relay struct {
	config Config
	dialer net.Dialer
	count  atomic.Int64 // connections so far

	mu    sync.Mutex
	conns map[*conn]struct{} // those open
}

// New makes a relay.
func New(c Config) *Relay {
	return &Relay{config: c, dialer: net.Dialer{Timeout: dialTime}, conns: make(map[*conn]struct{})}
}

// Serve accepts connections from l until ctx ends, and then closes l and all connections and waits for
// their goroutines; that is no error.
func (r *Relay) Serve(ctx context.Context, l net.Listener) error {
	var running sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		// That it is closed is what is wanted.
		_ = l.Close()
	})
	defer stop()
	defer running.Wait()
	dialling, cancel := context.WithCancel(ctx)
	defer cancel() // before running is waited for
	for {
		nc, err := l.Accept()
		if err != nil {
			r.closeAll()
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			return errors.Join(fmt.Errorf("accept a connection: %w", err), l.Close())
		}
		if c := r.take(nc); c != nil {
			running.Go(func() {
				defer r.left(c)
				c.run(dialling)
			})
		}
	}
}

// take makes a conn of a connection, or closes it if there are too many.
func (r *Relay) take(nc net.Conn) *conn {
	c := newConn(r, nc, r.count.Add(1))
	r.mu.Lock()
	full := len(r.conns) >= MaxConns
	if !full {
		r.conns[c] = struct{}{}
	}
	r.mu.Unlock()
	if full {
		r.config.Screen.note(c.number, "refused: there are %d connections already", MaxConns)
		c.abort()
		return nil
	}
	return c
}

func (r *Relay) left(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *Relay) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.abort()
	}
}

// record adds an event, if there is a recording.
func (r *Relay) record(e recording.Event) {
	if r.config.Record != nil {
		r.config.Record.Write(e)
	}
}
