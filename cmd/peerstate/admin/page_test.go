package admin

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// browser finds Chromium.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("the status page is not looked at in a browser: there is no Chromium here (Debian: apt-get install chromium)")
	return ""
}

// open has Chromium open a path of a listener, and gives what stands in it some seconds of virtual time later, and
// what was written to the console. Whatever name it looks up is the listener's address. flags are further ones for Chromium.
func open(t *testing.T, addr, path string, flags ...string) (dom, console string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	flags = append(flags, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir="+t.TempDir(),
		"--host-resolver-rules=MAP * "+addr, "--enable-logging=stderr", "--window-size=1280,1000", "--virtual-time-budget=9000", "--dump-dom", "http://"+addr+path)
	c := exec.CommandContext(ctx, browser(t), flags...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("run Chromium: %v\n%s", err, errs.String())
	}
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "CONSOLE") {
			console += line
		}
	}
	return out.String(), console
}

// visits notes which requests came.
type visits struct {
	mu   sync.Mutex
	seen map[string]int // guarded by mu; by host and path
}

func (v *visits) over(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		v.seen[r.Host+r.URL.Path]++
		v.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// serve runs a listener with such a source, and notes who visits it.
func serve(t *testing.T, s Source) (addr string, v *visits) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, v := New(Config{Source: s}), &visits{seen: map[string]int{}}
	srv.http.Handler = v.over(srv.http.Handler)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), v
}

// evil are texts that run, load something, or break out, where a page reads them as HTML.
var evil = []string{
	`<img src=x onerror="fetch('/pwned')">`,
	`<script>document.title="pwned"</script>`,
	`"><svg onload=alert(1)>`,
	`</title></textarea><script src=http://elsewhere.example/x.js></script>`,
	`<img src=http://elsewhere.example/x.png>`,
	`javascript:alert(1)`,
	`';alert(1);//`,
	`<iframe src=http://elsewhere.example/></iframe>`,
	`<style>@import 'http://elsewhere.example/x.css'</style>`,
	"\u202e\u0000web\n2",
}

// hostile is a farm in which everything that can be named has such a name.
func hostile() Page {
	now := time.Now()
	ms, sessions, end := 1.25, int64(4321), now.Add(50*24*time.Hour+time.Hour)
	p := Page{
		Now: now, Run: "1", Mesh: "auto", WantedBackups: 1, Keepers: 1, EverySeconds: 2, Warnings: evil, Reason: evil[0], ContendedOver: 90,
		Status: Status{Node: evil[0], Site: evil[1], Farm: evil[2], Version: evil[3],
			Sessions: Sessions{Active: 1, Bytes: 2048}, Largest: []Large{{Hash: evil[4], Bytes: 1 << 20}},
			Certificate: &Certificate{Node: evil[0], Issuer: evil[1], IssuerKey: evil[2], Serial: evil[3], Expires: end, CAExpires: end, Rotation: "renew"}},
		Contended: []Contended{{Hash: evil[5], Met: 7, LongestMS: 12}},
		Events:    []Event{{Number: 1, At: now, Level: "warn", Text: evil[0], Details: []Detail{{evil[1], evil[2]}}, Times: 3}},
	}
	for i, e := range evil {
		p.Status.Peers = append(p.Status.Peers, Peer{Node: e, Site: evil[len(evil)-1-i], Addr: e, State: []string{"up", "out", e}[i%3], RTTMillis: &ms, Hops: 1, Reason: e, Since: now,
			CertSerial: e, CertExpires: &end, Rotation: e, Sessions: &sessions})
		p.Status.Links = append(p.Status.Links, Link{A: evil[0], B: e, RTTMillis: &ms})
		p.Events = append(p.Events, Event{Number: int64(i + 2), At: now, Level: e, Text: e, Details: []Detail{{e, e}}, Times: 1})
	}
	return p
}

func TestWhatPeersSayIsTextInTheBrowser(t *testing.T) {
	s := plain()
	s.Page = func(int64) Page { return hostile() }
	addr, v := serve(t, s)
	dom, console := open(t, addr, "/")
	if console != "" {
		t.Errorf("on the console: %s", console)
	}
	for _, tag := range []string{"<img", "<iframe", "<svg onload", "<script>", "<script src=\"http", "<style"} {
		if strings.Contains(dom, tag) {
			t.Errorf("a name has become %s in\n%s", tag, dom)
		}
	}
	if strings.Contains(dom, "\u202e") {
		t.Error("a name turns the direction of the text")
	}
	for _, shown := range []string{"&lt;img src=x onerror=", "&lt;script&gt;document.title=", "&lt;iframe src=", "4,321", "50 days left", "Not ready"} {
		if !strings.Contains(dom, shown) {
			t.Errorf("%s is not shown in\n%s", shown, dom)
		}
	}
	v.wantOnlyThePage(t, addr)
}

func (v *visits) wantOnlyThePage(t *testing.T, addr string) {
	t.Helper()
	files, err := fs.Glob(pageFiles, "page/*")
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		files[i] = addr + "/" + strings.TrimPrefix(f, "page/")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(v.seen)) {
		ours := strings.HasPrefix(what, addr) || strings.HasPrefix(what, "elsewhere.example") // a browser asks its maker for this and that
		if ours && !slices.Contains(files, what) && what != addr+"/" && what != addr+"/api/page" {
			t.Errorf("the browser asked for %s", what)
		}
	}
}

func TestThePageShowsWhatThereIsAndFollowsIt(t *testing.T) {
	var asked atomic.Int64
	s := plain()
	s.Page = func(after int64) Page {
		n := asked.Add(1)
		now, ms, sessions := time.Now(), 7.5, int64(777)
		end := now.Add(80*24*time.Hour + time.Hour)
		p := Page{Now: now, Run: "1", Mesh: "auto", WantedBackups: 1, Keepers: 1, EverySeconds: 2, ContendedOver: 200,
			Status: Status{Node: "web1", Site: "london", Farm: "shop", Version: "1.2.3", UptimeSeconds: 7200, Sessions: Sessions{Active: 5, Bytes: 1, Backups: 66},
				Largest: []Large{{"aaaa1111", 5_000_000}},
				Peers: []Peer{
					{Node: "web2", Site: "tokyo", State: "up", Hops: 1, RTTMillis: &ms, Since: now.Add(-time.Hour), Sessions: &sessions, CertExpires: &end, Rotation: "done"},
					{Node: "web3", Site: "paris", State: "out", Since: now.Add(-3 * time.Minute), Reason: "nothing was heard from it for 5 s"}},
				Links:       []Link{{"web1", "web2", &ms}},
				Certificate: &Certificate{Expires: end, CAExpires: end.AddDate(9, 0, 0), IssuerKey: "0123456789", Serial: "5e71a1", Rotation: "trust"}},
			Contended: []Contended{{Hash: "bbbb2222", Met: 41, LongestMS: 399, Waiting: 2, LockedMS: 15}},
			Events:    []Event{{Number: n, At: now, Level: "warn", Text: "a node is out", Details: []Detail{{"peer", "web3"}}, Times: 1}},
		}
		// A page asks for what it does not have.
		for i := after + 1; i <= n; i++ {
			half, here := 0.25, 0.975
			p.Samples = append(p.Samples, Sample{Number: i, At: now.Add(time.Duration(i-n) * Every).UnixMilli(), Requests: 400, Fetches: 10, Here: &here, P50: &half, P99: &half,
				Sessions: int(1000 + n), Bytes: 2_000_000, Backups: 66})
		}
		return p
	}
	addr, v := serve(t, s)
	dom, console := open(t, addr, "/")
	if console != "" {
		t.Errorf("on the console: %s", console)
	}
	n := asked.Load()
	if n < 3 {
		t.Errorf("the page asked %d times in 9 s", n)
	}
	for _, shown := range []string{
		"web1: ready", "london · farm shop · up 2 h 0 min · peerstate 1.2.3", "2.0 MB · keeps 66 backups", "400<span class=\"unit\"> a second", "0.25<span", "97.5<span",
		"3 nodes · 1 link", "not up: web3", "out for 3 min", "new CA: ✓&nbsp;done", "nothing was heard from it for 5 s", "7.5 ms", "777", "80 days left", "9.2 years left", "trust the new CA", "nobody renews certificates",
		"bbbb2222", "399 ms", "aaaa1111", "5.0 MB", "Warning: </span>a node is out", "<b>web3</b>", `class="link own"`, `class="line first"`, "10 min ago",
	} {
		if !strings.Contains(dom, shown) {
			t.Errorf("%s is not shown", shown)
		}
	}
	later := false // the last answer may have come after the end
	for _, count := range []int64{n, n - 1} {
		later = later || strings.Contains(dom, fmt.Sprintf("1,%03d<", count))
	}
	if !later {
		t.Errorf("after %d answers the figure is still an earlier one", n)
	}
	if t.Failed() {
		t.Log(dom)
	}
	v.wantOnlyThePage(t, addr)
}

func TestThePageReadsNoTextAsHTMLAndLoadsNothingFromElsewhere(t *testing.T) {
	files, err := fs.Glob(pageFiles, "page/*")
	if err != nil || len(files) < 5 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		text, err := fs.ReadFile(pageFiles, name)
		if err != nil {
			t.Fatal(err)
		}
		rest := strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "") // the name of a language, which nobody loads
		for _, no := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "http:", "https:", "url(", "style=", "onclick", "<script>"} {
			if strings.Contains(rest, no) {
				t.Errorf("%s has %s", name, no)
			}
		}
		r := ask(t, plain(), "GET", "localhost", "/"+strings.TrimPrefix(strings.TrimPrefix(name, "page/"), "index.html"))
		if r.StatusCode != 200 || r.Header.Get("Content-Security-Policy") != pagePolicy || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %q", name, r.StatusCode, r.Header)
		}
	}
}

func TestThePageCanOnlyBeReadByItself(t *testing.T) {
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "trusted-types 'none'"} {
		if !strings.Contains(pagePolicy, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
	for _, unsafe := range []string{"unsafe", "*", "data:", "http"} {
		if strings.Contains(pagePolicy, unsafe) {
			t.Errorf("the policy has %s", unsafe)
		}
	}
}
