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
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// site is one sidecar of the demonstration.
type site struct {
	name    string
	web     string // the state protocol
	peer    string // QUIC
	admin   string
	env     string // file with its settings
	log     string // file with what it logs
	command *exec.Cmd
	ended   chan error
}

func main() {
	program := flag.String("peerstate", filepath.Join("bin", "peerstate"), "the program")
	dir := flag.String("dir", ".run", "directory for the throw-away farm; what an earlier run left there is removed")
	london := flag.Int("london", 42424, "port of the first site; the next two are used as well")
	tokyo := flag.Int("tokyo", 42434, "port of the second site; the next two are used as well")
	once := flag.Bool("once", false, "end after the demonstration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *program, *dir, *once, newSite("london", *dir, *london), newSite("tokyo", *dir, *tokyo)); err != nil {
		fmt.Fprintln(os.Stderr, "two-sites:", err)
		os.Exit(1)
	}
}

func newSite(name, dir string, port int) *site {
	at := func(p int) string { return fmt.Sprintf("127.0.0.1:%d", p) }
	return &site{name: name, web: at(port), peer: at(port + 1), admin: at(port + 2),
		env: filepath.Join(dir, name+".env"), log: filepath.Join(dir, name+".log"), ended: make(chan error, 1)}
}

// run does the whole demonstration.
func run(ctx context.Context, out io.Writer, program, dir string, once bool, sites ...*site) (err error) {
	say := func(format string, a ...any) { fmt.Fprintf(out, format+"\n", a...) }
	if err := makeFarm(ctx, program, dir, sites); err != nil {
		return err
	}
	say("A farm for this demonstration is in %s: a CA, and a certificate for each site.", dir)
	defer func() {
		if err = errors.Join(err, end(sites)); err == nil {
			say("Both have stopped.")
		}
	}()
	for _, s := range sites {
		if err := s.start(program); err != nil {
			return err
		}
	}
	for i, s := range sites {
		if err := s.await(ctx, sites[(i+1)%len(sites)].name); err != nil {
			return err
		}
	}
	say("Two sidecars run, linked over QUIC with mutual TLS:")
	for _, s := range sites {
		say("  %-7s web server at %s, peers at %s (UDP), status at http://%s/api/status, log in %s", s.name, s.web, s.peer, s.admin, s.log)
	}
	if err := shop(say, sites[0], sites[1]); err != nil {
		return err
	}
	say("\nTo try it with IIS on this machine, put this into Web.config (and %s for the other site):", sites[1].web)
	say(`  <sessionState mode="StateServer" stateConnectionString="tcpip=%s" />`, sites[0].web)
	if once {
		return nil
	}
	say("\nBoth stay up until Ctrl-C.")
	select {
	case <-ctx.Done():
	case err := <-sites[0].ended:
		return sites[0].gone(err)
	case err := <-sites[1].ended:
		return sites[1].gone(err)
	}
	return nil
}

// makeFarm makes certificates with the commands that an operator uses, and a settings file for each
// site.
func makeFarm(ctx context.Context, program, dir string, sites []*site) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca := filepath.Join(dir, "ca")
	commands := [][]string{{"cert", "init", "--ca", ca, "--farm", "demo"}}
	for _, s := range sites {
		commands = append(commands, []string{"cert", "issue", s.name, "--ca", ca, "--out", filepath.Join(dir, s.name)})
	}
	for _, args := range commands {
		if text, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, text)
		}
	}
	for i, s := range sites {
		settings := []string{
			"PEERSTATE_LISTEN=" + s.web,
			"PEERSTATE_CERT_DIR=" + filepath.ToSlash(filepath.Join(dir, s.name)),
			"PEERSTATE_PEER_LISTEN=" + s.peer,
			"PEERSTATE_PEERS=" + sites[(i+1)%len(sites)].peer,
			"PEERSTATE_SITE=" + s.name,
			"PEERSTATE_ADMIN_LISTEN=" + s.admin,
		}
		if err := os.WriteFile(s.env, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start runs the site's sidecar with nothing in its environment that would count as a setting.
func (s *site) start(program string) error {
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	s.command = exec.Command(program, "serve", "--env-file", s.env)
	s.command.Stdout, s.command.Stderr = log, log
	apart(s.command)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PEERSTATE_") {
			s.command.Env = append(s.command.Env, v)
		}
	}
	if err := s.command.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", s.name, err), log.Close())
	}
	go func() {
		err := s.command.Wait()
		s.ended <- errors.Join(err, log.Close())
	}()
	return nil
}

// await waits until the site is ready and linked with the other.
func (s *site) await(ctx context.Context, other string) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if s.linked(ctx, client, other) {
			return nil
		}
		select {
		case err := <-s.ended:
			return s.gone(err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not linked with %s:\n%s", s.name, other, s.logged())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// linked asks the admin listener.
func (s *site) linked(ctx context.Context, client *http.Client, other string) bool {
	if _, err := s.fetch(ctx, client, "/readyz"); err != nil {
		return false
	}
	body, err := s.fetch(ctx, client, "/metrics")
	return err == nil && strings.Contains(body, `peerstate_peer_rtt_seconds{peer="`+other+`"}`)
}

func (s *site) fetch(ctx context.Context, client *http.Client, path string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+path, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return string(body), err
}

func (s *site) logged() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (s *site) gone(err error) error {
	s.command = nil
	return fmt.Errorf("%s has ended (%v). It logged:\n%s", s.name, err, s.logged())
}

// end stops the sites and waits for them.
func end(sites []*site) error {
	var errs []error
	for _, s := range sites {
		if s.command != nil {
			errs = append(errs, interrupt(s.command.Process))
		}
	}
	for _, s := range sites {
		if s.command == nil {
			continue
		}
		select {
		case err := <-s.ended:
			if err != nil {
				errs = append(errs, s.gone(err))
			}
		case <-time.After(15 * time.Second):
			errs = append(errs, fmt.Errorf("%s did not stop", s.name), s.command.Process.Kill())
		}
	}
	return errors.Join(errs...)
}

// shop is a visitor who comes to one site, and then to the other.
func shop(say func(string, ...any), first, second *site) error {
	one, err := connect(first.web)
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := connect(second.web)
	if err != nil {
		return err
	}
	defer two.Close()

	say("\nA visitor comes to %s, and then to %s:", first.name, second.name)
	// The body is one that ASP.NET would read: timeout 20, no items.
	empty := "\x14\x00\x00\x00\x00\x00\xff"
	steps := []struct {
		what   string
		at     *conversation
		method string
		header string
		body   string
		expect string // of the answer's status line
	}{
		{first.name + ": the first page stores a new session", one, "PUT", "Timeout:20\r\nLockCookie:0\r\n", empty, "200"},
		{first.name + ": the second page locks and reads it", one, "GET", "Exclusive:acquire\r\n", "", "200"},
		{second.name + ": a page there meets the lock", two, "GET", "Exclusive:acquire\r\n", "", "423"},
		{first.name + ": the second page stores it and unlocks", one, "PUT", "Timeout:20\r\nLockCookie:2\r\n", empty, "200"},
		{second.name + ": the page there fetches it, and locks it", two, "GET", "Exclusive:acquire\r\n", "", "200"},
		{second.name + ": and unlocks it", two, "GET", "Exclusive:release\r\nLockCookie:3\r\n", "", "200"},
		{first.name + ": and back again", one, "GET", "", "", "200"},
		{first.name + ": a session that exists nowhere", one, "MISS", "", "", "404"},
	}
	for _, st := range steps {
		begun := time.Now()
		status, body, err := st.at.request(st.method, st.header, st.body)
		took := time.Since(begun)
		if err != nil {
			return fmt.Errorf("%s: %w", st.what, err)
		}
		note := ""
		if len(body) > 0 {
			note = fmt.Sprintf(", %d bytes", len(body))
		}
		say("  %-50s %s in %.2f ms%s", st.what, status, float64(took.Microseconds())/1000, note)
		if status != st.expect || body != "" && body != empty {
			return fmt.Errorf("%s: %s, expected %s", st.what, status, st.expect)
		}
	}
	return nil
}
