// Package admin is the listener for operators and their tools: the status page, health checks, Prometheus, and the
// status as JSON. It shows and never changes anything. Of a session it shows nothing but a short hash, with its size or
// how often its lock was met.
//
// A request passes the guard (guard.go), which lets GET and HEAD in when they were meant for this
// machine, and then goes to one of the pages: page.go, health.go, metrics.go, status.go. What they show they ask
// of a [Source], so that this package knows no other part of the program. The page in a browser is page/index.html; it asks
// /api/page again and again. The same in a terminal is [Page.Text] (text.go, paper.go), and commands ask with [Ask] (ask.go).
// What happened in the last minutes is kept here: [History] has figures (history.go), and [Events] what was logged (events.go).
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
)

// Source is where the pages get what they show. The functions are called for each request, several
// at a time, and should not wait for anything. All must be set.
type Source struct {
	// Ready gives the reason why a load balancer should not send work here, or "" when it should;
	// and what an operator should look at although the node is ready.
	Ready   func() (reason string, warnings []string)
	Status  func() Status
	Metrics func() Metrics
	// Page gives what the status page shows, with the samples after the one with that number; 0: all.
	Page func(after int64) Page
}

// Config is how to make a Server.
type Config struct {
	Source
	// Names are those under which this machine may be addressed, besides IP addresses and
	// localhost: its host name, and the one in PEERSTATE_ADMIN_LISTEN.
	Names      []string
	Version    string                 // for peerstate_build_info
	Collectors []prometheus.Collector // further metrics
	Log        *slog.Logger           // nil: discarded
}

// Limits: the readers are a few tools and people.
const (
	maxConns     = 64
	maxHeader    = 16 << 10
	headTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute // Prometheus asks every 15 s to 60 s
)

// Server answers on the admin listener. Its methods are safe for concurrent use.
type Server struct {
	http http.Server
}

// New makes a server that does not listen yet.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	page(mux)
	mux.HandleFunc("/api/page", pageData(c.Source))
	mux.HandleFunc("/healthz", health(c.Source))
	mux.HandleFunc("/readyz", ready(c.Source))
	mux.HandleFunc("/api/status", status(c.Source))
	mux.Handle("/metrics", metrics(c))
	return &Server{http.Server{
		Handler:           guard(mux, c.Names),
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       headTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// What strangers do to this port is not worth more than a debug line.
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}}
}

// Serve answers on l until Shutdown, which closes l; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin listener: %w", err)
	}
	return nil
}

// Shutdown stops the server: answers under way are finished until ctx is done, then cut.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// text writes a plain answer. A client that is gone is no event here.
func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}
