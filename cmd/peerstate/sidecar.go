package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"peerstate/certs"
	"peerstate/cmd/peerstate/admin"
	"peerstate/cmd/peerstate/ports"
	"peerstate/cmd/peerstate/service"
	"peerstate/cmd/peerstate/settings"
	"peerstate/proxy"
	"peerstate/proxy/upstream"
	"peerstate/store"
	"peerstate/transport"
)

// sidecar is a running node: the parts, put together.
type sidecar struct {
	settings *settings.Settings
	system   service.Supervisor
	log      *slog.Logger
	name     string // of the node
	started  time.Time
	phase    atomic.Pointer[string] // why it is not ready; "" when it is

	instance uint64                // this run of the node
	certs    *certs.Snapshot       // nil: stand-alone
	mesh     *transport.Mesh       // nil: stand-alone
	issuer   *certs.Issuer         // nil: this node is not the farm's issuer
	unusable atomic.Pointer[error] // why the certificate files cannot be used as they are now; nil: they can
	store    *store.Store
	web      *proxy.Server
	old      *upstream.Client     // the old state server that sessions are taken over from; nil: there is none
	webPort  atomic.Int32         // that it listens on
	waits    prometheus.Histogram // for locks
	events   *admin.Events
	history  *admin.History

	drainOnce sync.Once
	drained   atomic.Bool   // somebody has had the sessions handed over
	drainErr  error         // what came of it
	told      chan struct{} // closed when a command says that the sidecar is to stop
	tellOnce  sync.Once

	running sync.WaitGroup
	failed  chan error                    // a listener that ended without having been told to
	stops   []func(context.Context) error // in the order of the starts; stopped in reverse
}

// What /readyz says when the sidecar is not ready.
const (
	starting = "starting"
	draining = "draining: the sessions are handed over to the other nodes"
	stopping = "stopping: the sidecar was told to"
)

// shutdownTimeout is what the requests under way have left at a stop. None waits longer for its
// answer than ASP.NET does.
const shutdownTimeout = settings.StateNetworkTimeout

// supervised runs a sidecar until ctx is done, which is no error, or a part of it fails.
func supervised(ctx context.Context, s *settings.Settings, log *slog.Logger, system service.Supervisor) error {
	kick, stopKicks := onHangUp(log)
	defer stopKicks()
	events := new(admin.Events)
	log = slog.New(events.Over(log.Handler()))
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find out this machine's name: %w", err)
	}
	n := &sidecar{settings: s, log: log, name: host, started: time.Now(), instance: transport.NewInstance(), failed: make(chan error, 4), told: make(chan struct{}), waits: newLockWaits(), events: events, system: system}
	if s.CertDir != "" {
		if n.certs, err = loadCertificates(s); err != nil {
			return err
		}
		n.name = n.certs.Self().Node
	}
	n.enter(starting)
	err = n.start(ctx, host, kick)
	if err == nil {
		system.Report(service.Ready)
		system.Watch(func() { n.store.Stats() }) // which takes all its locks in turn
		select {
		case <-ctx.Done():
			log.Info("stopping")
		case <-n.told:
			log.Info("stopping, as a command said")
		case err = <-n.failed:
			log.Error("stopping, as a part has failed", "error", err)
		}
	}
	system.Report(service.Stopping)
	if n.store != nil && s.OnStop != settings.OnStopKeep {
		if derr := n.drain(func(transport.DrainProgress) {}); derr != nil {
			log.Error("sessions are left behind", "error", derr)
		}
	}
	if n.store != nil && s.DataDir != "" && (s.OnStop == settings.OnStopKeep || n.mesh == nil) {
		if kept := n.store.Stats().Active; kept > 0 {
			log.Info("the sessions stay in the journal, for the next start", "sessions", kept, "directory", s.DataDir)
		}
	}
	n.enter(stopping)
	n.stop()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// tellToStop ends serve.
func (n *sidecar) tellToStop() { n.tellOnce.Do(func() { close(n.told) }) }

// enter says that the sidecar is not ready, and why; "" says that it is.
func (n *sidecar) enter(phase string) { n.phase.Store(&phase) }

// start starts the parts, those first that others need. What has started is for stop, also after an
// error.
func (n *sidecar) start(ctx context.Context, host string, kick <-chan struct{}) error {
	s := n.settings
	options := store.Options{Node: n.name, Instance: n.instance, FetchTimeout: s.FetchTimeout, MaxMemory: int64(s.MaxMemory),
		LockWait: time.Duration(s.LockWait), Waited: func(d time.Duration) { n.waits.Observe(d.Seconds()) }, Log: n.log}
	if n.certs != nil {
		options.Backups, options.Sync, options.Grace, options.Joining = int(s.Backups), s.BackupSync, s.MissingGrace, true
	}
	n.store = store.New(options)
	tuning, stopTuning := context.WithCancel(context.Background())
	n.onStop(func(context.Context) error {
		stopTuning()
		n.store.Close()
		return errors.Join(n.closeUpstream(), n.store.CloseJournal())
	})
	if s.DataDir != "" {
		if err := n.openJournal(ctx); err != nil {
			return err
		}
	}
	n.running.Go(func() { n.store.TuneGC(tuning) })
	if s.Upstream != "" {
		n.joinUpstream()
	}
	n.web = proxy.New(proxy.Config{
		Store: n.store, MaxBody: int64(s.MaxBody), MaxConns: int(s.MaxConns),
		BareStatusLine: s.StatusLine == "bare", Aliases: s.AppAliases.Aliases, Log: n.log,
	})
	ready := []any{"node", n.name, "version", buildVersion()}
	if n.certs != nil {
		if err := n.joinFarm(ctx); err != nil {
			return err
		}
		n.watchCertificates(kick)
		n.warnOfEndings()
		ready = append(ready, "farm", n.certs.Self().Farm, "peers", n.mesh.Addr().String())
	}

	n.keepHistory()

	// Health checks are answered before there is anything to be healthy.
	if s.AdminListen != "" {
		l, err := n.listen(ctx, "PEERSTATE_ADMIN_LISTEN", s.AdminListen)
		if err != nil {
			return err
		}
		n.serveAdmin(l, host)
		ready = append(ready, "admin", l.Addr().String())
	}
	n.serveControl(ctx)
	// The web server comes last: from its first request on everything has to work.
	if s.Listen != "" {
		l, err := n.listen(ctx, "PEERSTATE_LISTEN", s.Listen)
		if err != nil {
			return err
		}
		n.serveWeb(l)
		ready = append(ready, "listen", l.Addr().String())
	}
	n.becomeReady()
	n.log.Info("ready", ready...)
	return nil
}

func (n *sidecar) listen(ctx context.Context, setting string, addr settings.ListenAddr) (net.Listener, error) {
	return handedBack(ctx, n.log, func() (net.Listener, error) { return ports.ListenTCP(ctx, setting, addr) })
}

// newLockWaits makes the histogram of how long requests waited that met a lock.
func newLockWaits() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "peerstate_lock_wait_seconds",
		Help:    "How long requests waited that met a lock, whatever came of it.",
		Buckets: []float64{0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 2.5}})
}

func (n *sidecar) serveAdmin(l net.Listener, host string) {
	names := []string{host}
	if h, _, err := net.SplitHostPort(string(n.settings.AdminListen)); err == nil {
		names = append(names, h)
	}
	config := admin.Config{Source: n.source(), Names: names, Version: buildVersion(), Log: n.log}
	config.Collectors = []prometheus.Collector{n.waits}
	if n.old != nil {
		config.Collectors = append(config.Collectors, upstreamCollector{n})
	}
	if n.mesh != nil {
		config.Collectors = append(config.Collectors, n.mesh.Collectors()...)
	}
	a := admin.New(config)
	n.running.Go(func() {
		if err := a.Serve(l); err != nil {
			n.failed <- err
		}
	})
	n.onStop(a.Shutdown)
}

func (n *sidecar) serveWeb(l net.Listener) {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		n.webPort.Store(int32(a.Port))
	}
	n.running.Go(func() {
		if err := n.web.Serve(l); !errors.Is(err, proxy.ErrServerClosed) {
			n.failed <- fmt.Errorf("serve the web server: %w", err)
		}
	})
	n.onStop(n.web.Shutdown)
}

func (n *sidecar) onStop(stop func(context.Context) error) { n.stops = append(n.stops, stop) }

// stop stops what has started and waits for it. That it is late or unclean is for the log only: the
// program ends all the same.
func (n *sidecar) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	for _, stop := range slices.Backward(n.stops) {
		if err := stop(ctx); err != nil {
			n.log.Warn("a part did not stop cleanly", "error", err)
		}
	}
	n.running.Wait()
}
