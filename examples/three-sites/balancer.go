package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"peerstate/examples/demo"
)

// balancer stands before the sites: HAProxy with haproxy.cfg if it is installed, or else a few lines of Go that do the same.
type balancer struct {
	what string
	stop func() error
}

// balance starts one. config is the file for HAProxy.
func balance(ctx context.Context, addr, dir, haproxy, config string, webs []*web) (*balancer, error) {
	if haproxy == "" {
		return builtIn(ctx, addr, webs)
	}
	p := &demo.Process{Name: "haproxy", Log: filepath.Join(dir, "haproxy.log")}
	environ := []string{"SHOP=" + addr}
	for _, w := range webs {
		environ = append(environ, strings.ToUpper(w.site.Name)+"="+w.addr)
	}
	if err := p.Start(environ, haproxy, "-db", "-f", config); err != nil {
		return nil, err
	}
	if err := answers(ctx, addr, p); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return &balancer{"HAProxy, with " + config, p.Kill}, nil // it has nothing to hand over
}

// answers waits until there is an answer through HAProxy.
func answers(ctx context.Context, addr string, p *demo.Process) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for !healthy(ctx, addr) {
		select {
		case err := <-p.Ended():
			return p.Gone(err)
		case <-ctx.Done():
			return errors.New("HAProxy does not answer at " + addr)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// findHAProxy gives the program, or "" if it is not installed.
func findHAProxy() string {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// builtIn sends each page to the next site that is healthy.
func builtIn(ctx context.Context, addr string, webs []*web) (*balancer, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(context.Background())
	well := make([]atomic.Bool, len(webs))
	for i, w := range webs {
		go watch(watching, w.addr, &well[i])
	}
	var turn atomic.Uint64
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			for range webs {
				i := int(turn.Add(1) % uint64(len(webs)))
				if well[i].Load() {
					r.SetURL(&url.URL{Scheme: "http", Host: webs[i].addr})
					return
				}
			}
			r.SetURL(&url.URL{Scheme: "http", Host: webs[0].addr}) // it says why not
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 16},
		ErrorLog:  log.New(io.Discard, "", 0), // the visitor's status code says it
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 5 * time.Second}
	go serving("the load balancer", server, l)
	return &balancer{"a few lines of Go (HAProxy is not installed)", func() error {
		stop()
		return server.Close()
	}}, nil
}

// watch asks a site for its health, twice a second.
func watch(ctx context.Context, addr string, well *atomic.Bool) {
	for {
		well.Store(healthy(ctx, addr))
		select {
		case <-ctx.Done():
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// healthy tells whether a web server answers within a second that it is well.
func healthy(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/health", nil)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}
