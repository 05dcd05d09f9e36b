// Command three-sites shows three sites behind a load balancer that sends each page to the next one. Visitors count their
// pages in their sessions, one site is killed and comes back, and no counter loses a page.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"

	"peerstate/examples/demo"
)

// show is one demonstration.
type show struct {
	screen
	program, dir string
	shop         string // the balancer's address
	haproxy      string // empty: the balancer is built in
	config       string // for HAProxy
	once         bool
	pause        time.Duration // between the acts
	sites        []*demo.Site
	webs         []*web
	visitors     []*visitor
}

func main() {
	program := flag.String("peerstate", filepath.Join("bin", "peerstate"), "the program")
	dir := flag.String("dir", ".run", "directory for the throw-away farm; what an earlier run left there is removed")
	port := flag.Int("port", 8080, "port of the load balancer; the next three are the web servers'")
	state := flag.Int("state", 42424, "port of the first sidecar; up to 22 above it are used as well")
	haproxy := flag.String("haproxy", findHAProxy(), "HAProxy; empty: a few lines of Go do the same")
	config := flag.String("config", filepath.Join("examples", "three-sites", "haproxy.cfg"), "configuration of HAProxy")
	once := flag.Bool("once", false, "end after the demonstration")
	flag.Parse()
	s := &show{program: *program, dir: *dir, shop: fmt.Sprintf("127.0.0.1:%d", *port), haproxy: *haproxy, config: *config, once: *once, pause: 4 * time.Second}
	s.out, s.coloured = os.Stdout, isatty.IsTerminal(os.Stdout.Fd()) && os.Getenv("NO_COLOR") == ""
	for i, name := range []string{"london", "tokyo", "sydney"} {
		site := demo.NewSite(name, *dir, *state+10*i)
		s.add(site, fmt.Sprintf("127.0.0.1:%d", *port+1+i))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "three-sites:", err)
		os.Exit(1)
	}
}

func (s *show) add(site *demo.Site, addr string) {
	s.sites, s.webs = append(s.sites, site), append(s.webs, &web{site: site, addr: addr})
}

// settings of all three. A write is answered when another site has it too, so that a crash loses nothing that a visitor has
// seen; and a site that does not answer is given up sooner than by default, since somebody is watching.
var settings = []string{"PEERSTATE_BACKUP_SYNC=on", "PEERSTATE_MISSING_GRACE=2s"}

// run does the whole demonstration.
func (s *show) run(ctx context.Context) (err error) {
	if err := demo.MakeFarm(ctx, s.program, s.dir, s.sites, settings...); err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, s.end()); err == nil {
			s.say("All have stopped.")
		}
	}()
	for i, site := range s.sites {
		if err := errors.Join(site.Start(s.program), s.webs[i].start(ctx)); err != nil {
			return err
		}
	}
	for _, site := range s.sites {
		if err := site.Await(ctx, s.sites); err != nil {
			return err
		}
	}
	b, err := balance(ctx, s.shop, s.dir, s.haproxy, s.config, s.webs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	s.say("Three sites, each a web server and its peerstate. Before them stands %s: each page comes from the next site.", b.what)
	for i, site := range s.sites {
		s.say("  %-7s http://%s/   status page http://%s/   log in %s", site.Name, s.webs[i].addr, site.Admin, site.Log)
	}
	if err := s.play(ctx); err != nil {
		return err
	}
	if s.once || ctx.Err() != nil {
		return nil
	}
	s.say("\nAll stay up until Ctrl-C: open http://%s/ and see your own counter, or kill a peerstate yourself.", s.shop)
	<-ctx.Done()
	return nil
}

// end stops all sidecars and web servers.
func (s *show) end() error {
	var all []*demo.Process
	for _, site := range s.sites {
		all = append(all, &site.Process)
	}
	err := demo.End(all...)
	for _, w := range s.webs {
		if w.server != nil {
			err = errors.Join(err, w.kill())
		}
	}
	return err
}

// play has visitors browse while a site is killed and comes back.
func (s *show) play(ctx context.Context) error {
	browsing, stop := context.WithTimeout(ctx, 2*time.Minute) // whatever happens
	defer stop()
	var all sync.WaitGroup
	for _, name := range []string{"anna", "ben", "carla", "david", "emma"} {
		v := newVisitor(name, "http://"+s.shop+"/")
		s.visitors = append(s.visitors, v)
		all.Go(func() { v.browse(browsing) })
	}
	s.begun = time.Now()
	s.say("\nWhat the visitors see: where the page came from, and how often they have opened it, by their session.\n")
	s.header(s.visitors)
	err := s.script(browsing)
	stop()
	all.Wait()
	return errors.Join(err, s.judge())
}

// script is what happens to the third site.
func (s *show) script(ctx context.Context) error {
	s.watch(ctx, s.pause)
	site, w := s.sites[2], s.webs[2]
	s.event("-- %s loses power: its web server and its peerstate are killed, with the sessions that it held", site.Name)
	if err := errors.Join(w.kill(), site.Kill()); err != nil {
		return err
	}
	before := s.pages()
	s.watchUntil(ctx, func() bool { return s.served(before) })
	s.event("-- all visitors are served by the other two, from the backups")
	s.watch(ctx, s.pause/2)
	if err := errors.Join(site.Start(s.program), w.start(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if err := site.Await(ctx, s.sites); err != nil {
		return err
	}
	s.event("-- %s is back", site.Name)
	s.watch(ctx, s.pause)
	return ctx.Err()
}

// watch shows what the visitors see, for some time.
func (s *show) watch(ctx context.Context, d time.Duration) {
	end := time.Now().Add(d)
	s.watchUntil(ctx, func() bool { return time.Now().After(end) })
}

func (s *show) watchUntil(ctx context.Context, done func() bool) {
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(500 * time.Millisecond):
			s.row(s.visitors)
		}
	}
}

// pages is how many each visitor has seen.
func (s *show) pages() (all []int) {
	for _, v := range s.visitors {
		v.mu.Lock()
		all = append(all, v.pages)
		v.mu.Unlock()
	}
	return all
}

// served tells whether each visitor has seen three more pages since then.
func (s *show) served(before []int) bool {
	for i, n := range s.pages() {
		if n < before[i]+3 {
			return false
		}
	}
	return true
}

// judge says whether anything was lost.
func (s *show) judge() error {
	s.say("")
	pages, broken := 0, 0
	for _, v := range s.visitors {
		if v.wrong != nil {
			return v.wrong
		}
		pages, broken = pages+v.pages, broken+v.broken
	}
	s.say("The visitors opened %d pages, and no counter ever lost one. Pages that broke off with the site that was killed, and were opened again: %d.", pages, broken)
	return nil
}
