package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Site is one sidecar of a demonstration.
type Site struct {
	Process
	Web   string // the state protocol
	Peer  string // QUIC
	Admin string
	Env   string // file with its settings
}

// NewSite is a site with its files in dir. It uses the port and the next two, all on loopback.
func NewSite(name, dir string, port int) *Site {
	at := func(p int) string { return fmt.Sprintf("127.0.0.1:%d", p) }
	return &Site{Process: Process{Name: name, Log: filepath.Join(dir, name+".log")},
		Web: at(port), Peer: at(port + 1), Admin: at(port + 2), Env: filepath.Join(dir, name+".env")}
}

// MakeFarm makes certificates with the commands that an operator uses, and a settings file for each
// site, with more settings as NAME=value. What was in dir is removed.
func MakeFarm(ctx context.Context, program, dir string, sites []*Site, more ...string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca := filepath.Join(dir, "ca")
	commands := [][]string{{"cert", "init", "--ca", ca, "--farm", "demo"}}
	for _, s := range sites {
		commands = append(commands, []string{"cert", "issue", s.Name, "--ca", ca, "--out", filepath.Join(dir, s.Name)})
	}
	for _, args := range commands {
		if text, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, text)
		}
	}
	for i, s := range sites {
		settings := append([]string{
			"PEERSTATE_LISTEN=" + s.Web,
			"PEERSTATE_CERT_DIR=" + filepath.ToSlash(filepath.Join(dir, s.Name)),
			"PEERSTATE_PEER_LISTEN=" + s.Peer,
			"PEERSTATE_PEERS=" + sites[(i+1)%len(sites)].Peer, // the rest is learnt of
			"PEERSTATE_SITE=" + s.Name,
			"PEERSTATE_ADMIN_LISTEN=" + s.Admin,
		}, more...)
		if err := os.WriteFile(s.Env, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Start runs the site's sidecar.
func (s *Site) Start(program string) error {
	return s.Process.Start(nil, program, "serve", "--env-file", s.Env)
}

// Await waits until the site is ready and linked with all others.
func (s *Site) Await(ctx context.Context, all []*Site) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		lacks := s.lacks(ctx, client, all)
		if lacks == "" {
			return nil
		}
		select {
		case err := <-s.Ended():
			return s.Gone(err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not %s:\n%s", s.Name, lacks, s.logged())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lacks asks the admin listener what the site is not yet.
func (s *Site) lacks(ctx context.Context, client *http.Client, all []*Site) string {
	if _, err := s.fetch(ctx, client, "/readyz"); err != nil {
		return "ready"
	}
	body, err := s.fetch(ctx, client, "/metrics")
	for _, other := range all {
		if other != s && (err != nil || !strings.Contains(body, `peerstate_peer_rtt_seconds{peer="`+other.Name+`"}`)) {
			return "linked with " + other.Name
		}
	}
	return ""
}

func (s *Site) fetch(ctx context.Context, client *http.Client, path string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Admin+path, nil)
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
