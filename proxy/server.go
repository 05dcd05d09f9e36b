package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"peerstate/store"
)

// Defaults of Config.
const (
	DefaultMaxBody  = 64 << 20
	DefaultMaxConns = 10000
)

// Store is what the listener asks of the store; *store.Store implements it.
type Store interface {
	// Try answers at once, or says that it cannot and that Do is to be called.
	Try(r *store.Request) (store.Answer, bool)
	// Do may wait for other nodes, but not without end. It gives up when ctx ends.
	Do(ctx context.Context, r *store.Request) store.Answer
	// Undo takes back what an answer that never reached its client did: the lock of an Acquire,
	// and the cleared flag of an answer with Init.
	Undo(key []byte, a store.Answer)
	// Reserve counts so many bytes of a body that is about to come, until GiveBack or until they are stored as a Request's
	// Counted. false: there is no memory for them.
	Reserve(ctx context.Context, n int64) bool
	GiveBack(n int64)
	// Refuse counts a write whose body, of so many bytes, could not be received for want of memory.
	Refuse(what store.Refusable, bytes int64)
}

// Config says how to serve. Store must be set, the rest has defaults.
type Config struct {
	Store          Store
	MaxBody        int64        // bytes of one session; 0: DefaultMaxBody
	MaxConns       int          // connections open at once; 0: DefaultMaxConns
	BareStatusLine bool         // "200 OK", as in [MS-ASP]'s grammar, instead of "HTTP/1.1 200 OK"
	Aliases        *Aliases     // of application ids; nil: none
	Log            *slog.Logger // nil: discarded; its level may not change later
}

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("state listener closed")

// Server answers web servers. Its methods are safe for concurrent use.
type Server struct {
	store    Store
	maxBody  int64
	maxConns int
	words    *words
	aliases  *Aliases
	log      *slog.Logger
	debug    bool // the log shows every message
	counters counters
	refusals refusalLog

	started  time.Time       // what now counts from
	ctx      context.Context // of requests that wait; ended by Close
	cancel   context.CancelFunc
	draining atomic.Bool    // set before the connections are told, so that each sees it in time
	stop     chan struct{}  // closed with it
	running  sync.WaitGroup // connections

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

// New makes a server that does not listen yet.
func New(cfg Config) *Server {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{
		store:     cfg.Store,
		maxBody:   cfg.MaxBody,
		maxConns:  cfg.MaxConns,
		words:     newWords(cfg.BareStatusLine),
		aliases:   cfg.Aliases,
		log:       cfg.Log,
		debug:     cfg.Log.Enabled(context.Background(), slog.LevelDebug),
		started:   time.Now(),
		stop:      make(chan struct{}),
		ctx:       ctx,
		cancel:    cancel,
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
	}
}

// now is the time since the server was made, on the monotonic clock: half the price of time.Now.
func (s *Server) now() time.Duration { return time.Since(s.started) }

// Pauses after a failed accept, for which the lack of file descriptors is the usual reason.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// Serve accepts connections from l until Shutdown or Close, which close l too; then it returns
// ErrServerClosed. It returns another error if l was closed by somebody else. Several listeners
// may be served at once.
func (s *Server) Serve(l net.Listener) error {
	if !s.addListener(l) {
		return errors.Join(ErrServerClosed, l.Close())
	}
	pause := acceptPause
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			s.take(nc)
		case s.draining.Load():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.refusals.report(s, acceptFailed, "", err)
			select {
			case <-time.After(pause):
			case <-s.stop:
			}
			pause = min(2*pause, acceptPauseMax)
		}
	}
}

// take starts serving a connection, or closes it if there are too many.
func (s *Server) take(nc net.Conn) {
	s.mu.Lock()
	if full := len(s.conns) >= s.maxConns; full || s.draining.Load() {
		s.mu.Unlock()
		if full {
			s.counters.refused.Add(1)
			s.refusals.report(s, tooManyConns, remote(nc), nil)
		}
		closeQuietly(nc)
		return
	}
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go c.run()
}

// left is called by a connection that has ended.
func (s *Server) left(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

// Shutdown stops accepting, closes the connections that are idle, lets the requests that have begun
// be answered, and waits for them. If ctx ends first it does the rest as Close does, and returns
// the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.drain()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(ctx.Err(), err, s.Close())
		<-done
	}
	s.cancel()
	return err
}

// drain closes the listeners, and interrupts the read of every connection: one that is idle takes
// that for the end, one in the middle of a request goes on reading.
func (s *Server) drain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining.Swap(true) {
		close(s.stop)
	}
	var errs []error
	for l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
		delete(s.listeners, l)
	}
	for c := range s.conns {
		c.in.interrupt()
	}
	return errors.Join(errs...)
}

// Close stops at once: listeners and connections are closed, requests that wait are given up. It
// returns when all connections have ended.
func (s *Server) Close() error {
	err := s.drain()
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		closeQuietly(c.nc)
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}

// ClientAt gives the address of the connection from a port that was open a time ago and is so still; "" for none. A port may
// have come into other hands since.
func (s *Server) ClientAt(port uint16, ago time.Duration) string {
	then := s.now() - ago
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.req.client == port && c.opened <= then {
			return remote(c.nc)
		}
	}
	return ""
}

// closeQuietly closes a connection that is of no more use: whether the other side has already
// done so changes nothing.
func closeQuietly(nc net.Conn) { _ = nc.Close() }

func remote(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
