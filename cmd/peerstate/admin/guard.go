package admin

import (
	"net"
	"net/http"
	"strings"
)

// guard lets requests pass that only read, and that were meant for this machine.
//
// A page from anywhere, open in a browser on this machine, can have its own host name point to
// 127.0.0.1 and then read what is here (DNS rebinding). Its requests carry that name in the Host header.
// So only IP addresses, localhost and this machine's names are answered.
func guard(next http.Handler, names []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		switch {
		case !ours(r.Host, names):
			text(w, http.StatusForbidden, "this is not "+printable(r.Host)+": use this machine's IP address or host name\n")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			text(w, http.StatusMethodNotAllowed, "this listener only shows; use GET\n")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ours tells whether a Host header names this machine. One of names that has no domain may come with
// one: a machine seldom knows its own, and a stranger seldom knows the machine's name. No Host at
// all is HTTP/1.0, which some health checks speak and no browser does.
func ours(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil {
		return true
	}
	for _, name := range names {
		name = strings.ToLower(name)
		short := name != "" && name != "localhost" && !strings.ContainsAny(name, ".:")
		if host == name || short && strings.HasPrefix(host, name+".") {
			return true
		}
	}
	return false
}

// printable makes a stranger's text fit to be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 100)]
}
