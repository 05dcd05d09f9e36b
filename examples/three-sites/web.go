package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"peerstate/examples/demo"
)

// web stands for a site's web server with an application: a page that counts how often its visitor has opened it. It does
// with the session what ASP.NET does.
type web struct {
	site   *demo.Site
	addr   string
	server *http.Server
}

// cookieName is that of ASP.NET.
const cookieName = "ASP.NET_SessionId"

// start opens the site for visitors.
func (w *web) start(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", w.addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", w.page)
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go serving("the web server of "+w.site.Name, w.server, l)
	return nil
}

// serving serves until it is told to stop, and says what else may have ended it.
func serving(name string, s *http.Server, l net.Listener) {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintf(os.Stderr, "%s has ended: %v\n", name, err)
	}
}

// kill cuts all its connections.
func (w *web) kill() error { return w.server.Close() }

// page answers one visit.
func (w *web) page(out http.ResponseWriter, r *http.Request) {
	id, fresh := "", true
	if c, err := r.Cookie(cookieName); err == nil && len(c.Value) == 24 {
		id, fresh = c.Value, false
	} else {
		id = demo.NewSessionID()
		http.SetCookie(out, &http.Cookie{Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	short := sha256.Sum256([]byte(id)) // a session id is a secret
	count, err := w.count(r.Context(), id, fresh)
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header().Set("X-Site", w.site.Name)
	out.Header().Set("X-Count", strconv.Itoa(count))
	out.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(out, `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="1"><title>%[1]s</title>
<body style="font:2em system-ui;text-align:center;padding:3em;background:%[2]s;color:#111">
<p>This page came from <b>%[1]s</b>.</p><p>You have opened it <b>%[3]d</b> times.</p><p><small>session %[4]x</small></p>
`, html.EscapeString(w.site.Name), colours[w.site.Name].page, count, short[:4])
}

// count adds one to the visitor's counter, under the lock of his session.
func (w *web) count(ctx context.Context, id string, fresh bool) (int, error) {
	c, err := demo.Connect(w.site.Web)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	cookie, n := "0", 0
	if !fresh {
		a, err := lock(ctx, c, id)
		if err != nil {
			return 0, err
		}
		if a.Status == "200" {
			if n, err = strconv.Atoi(a.Body); err != nil {
				return 0, err
			}
			cookie = a.Cookie
		}
	}
	n++
	a, err := c.Do("PUT", id, "Timeout:20\r\nLockCookie:"+cookie+"\r\n", strconv.Itoa(n))
	if err == nil && a.Status != "200" {
		err = fmt.Errorf("the session could not be stored: %s", a.Status)
	}
	return n, err
}

// lock asks for a session until no other page has it, every half second as ASP.NET does.
func lock(ctx context.Context, c *demo.Conversation, id string) (demo.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		a, err := c.Do("GET", id, "Exclusive:acquire\r\n", "")
		if err != nil || a.Status != "423" {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, errors.New("the session stayed locked")
		case <-time.After(500 * time.Millisecond):
		}
	}
}
