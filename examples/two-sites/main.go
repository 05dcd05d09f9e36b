// Command two-sites shows peerstate at work on one machine: two sidecars as two sites, london and
// tokyo, with a farm of their own under -dir. It stores a session through one as a web server does
// and reads it through the other, says what happened, and stays up until Ctrl-C.
//
// "make run" builds the program and runs this.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"peerstate/examples/demo"
)

func main() {
	program := flag.String("peerstate", filepath.Join("bin", "peerstate"), "the program")
	dir := flag.String("dir", ".run", "directory for the throw-away farm; what an earlier run left there is removed")
	london := flag.Int("london", 42424, "port of the first site; the next two are used as well")
	tokyo := flag.Int("tokyo", 42434, "port of the second site; the next two are used as well")
	once := flag.Bool("once", false, "end after the demonstration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *program, *dir, *once, demo.NewSite("london", *dir, *london), demo.NewSite("tokyo", *dir, *tokyo)); err != nil {
		fmt.Fprintln(os.Stderr, "two-sites:", err)
		os.Exit(1)
	}
}

// run does the whole demonstration.
func run(ctx context.Context, out io.Writer, program, dir string, once bool, sites ...*demo.Site) (err error) {
	say := func(format string, a ...any) { fmt.Fprintf(out, format+"\n", a...) }
	if err := demo.MakeFarm(ctx, program, dir, sites); err != nil {
		return err
	}
	say("A farm for this demonstration is in %s: a CA, and a certificate for each site.", dir)
	first, second := sites[0], sites[1]
	defer func() {
		if err = errors.Join(err, demo.End(&first.Process, &second.Process)); err == nil {
			say("Both have stopped.")
		}
	}()
	for _, s := range sites {
		if err := s.Start(program); err != nil {
			return err
		}
	}
	for _, s := range sites {
		if err := s.Await(ctx, sites); err != nil {
			return err
		}
	}
	say("Two sidecars run, linked over QUIC with mutual TLS:")
	for _, s := range sites {
		say("  %-7s web server at %s, peers at %s (UDP), log in %s", s.Name, s.Web, s.Peer, s.Log)
		say("          status page http://%s/, the same for programs /api/status, for Prometheus /metrics", s.Admin)
	}
	if err := shop(say, first, second); err != nil {
		return err
	}
	say("\nTo try it with IIS on this machine, put this into Web.config (and %s for the other site):", second.Web)
	say(`  <sessionState mode="StateServer" stateConnectionString="tcpip=%s" />`, first.Web)
	if once {
		return nil
	}
	say("\nBoth stay up until Ctrl-C.")
	return watch(ctx, say, program, first, second)
}

// watch waits for Ctrl-C. When somebody ends one of the sites, to see what that does, the other one stays.
func watch(ctx context.Context, say func(string, ...any), program string, first, second *demo.Site) error {
	left, ended := first, second
	var err error
	select {
	case <-ctx.Done():
		return nil
	case err = <-second.Ended():
	case err = <-first.Ended():
		left, ended = second, first
	}
	ended.Away()
	how := "normally"
	if err != nil {
		how = err.Error()
	}
	say("\n%s has ended (%s). %s stays up until Ctrl-C; its status page: http://%s/", ended.Name, how, left.Name, left.Admin)
	say("To have %s back, in another window: %s serve --env-file %s", ended.Name, program, ended.Env)
	select {
	case <-ctx.Done():
		return nil
	case err := <-left.Ended():
		return left.Gone(err)
	}
}

// shop is a visitor who comes to one site, and then to the other.
func shop(say func(string, ...any), first, second *demo.Site) error {
	one, err := demo.Connect(first.Web)
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := demo.Connect(second.Web)
	if err != nil {
		return err
	}
	defer two.Close()

	say("\nA visitor comes to %s, and then to %s:", first.Name, second.Name)
	// The body is one that ASP.NET would read: timeout 20, no items.
	empty := "\x14\x00\x00\x00\x00\x00\xff"
	session, nowhere := demo.NewSessionID(), demo.NewSessionID()
	steps := []struct {
		what    string
		at      *demo.Conversation
		method  string
		session string
		header  string
		body    string
		expect  string // of the answer's status line
	}{
		{first.Name + ": the first page stores a new session", one, "PUT", session, "Timeout:20\r\nLockCookie:0\r\n", empty, "200"},
		{first.Name + ": the second page locks and reads it", one, "GET", session, "Exclusive:acquire\r\n", "", "200"},
		{second.Name + ": a page there meets the lock", two, "GET", session, "Exclusive:acquire\r\n", "", "423"},
		{first.Name + ": the second page stores it and unlocks", one, "PUT", session, "Timeout:20\r\nLockCookie:2\r\n", empty, "200"},
		{second.Name + ": the page there fetches it, and locks it", two, "GET", session, "Exclusive:acquire\r\n", "", "200"},
		{second.Name + ": and unlocks it", two, "GET", session, "Exclusive:release\r\nLockCookie:3\r\n", "", "200"},
		{first.Name + ": and back again", one, "GET", session, "", "", "200"},
		{first.Name + ": a session that exists nowhere", one, "GET", nowhere, "", "", "404"},
	}
	for _, st := range steps {
		begun := time.Now()
		a, err := st.at.Do(st.method, st.session, st.header, st.body)
		took := time.Since(begun)
		if err != nil {
			return fmt.Errorf("%s: %w", st.what, err)
		}
		note := ""
		if len(a.Body) > 0 {
			note = fmt.Sprintf(", %d bytes", len(a.Body))
		}
		say("  %-50s %s in %.2f ms%s", st.what, a.Status, float64(took.Microseconds())/1000, note)
		if a.Status == "423" { // by far the slowest line, and meant to be
			say("          It waited for the lock, for as long as PEERSTATE_LOCK_WAIT says: 400 ms. Then ASP.NET asks again.")
		}
		if a.Status != st.expect || a.Body != "" && a.Body != empty {
			return fmt.Errorf("%s: %s, expected %s", st.what, a.Status, st.expect)
		}
	}
	return nil
}
