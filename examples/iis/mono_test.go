package iis

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"peerstate/examples/demo"
	"peerstate/examples/demo/demotest"
)

// aspNet is two web servers with the example's page, each with a peerstate, behind nginx that goes from one to the other.
type aspNet struct {
	t   *testing.T
	url string
}

// Mono's own mode="StateServer" does not speak the state protocol; see testdata/mono/StateServer.cs.
func startMono(t *testing.T) aspNet {
	t.Helper()
	for program, pkg := range map[string]string{"fastcgi-mono-server4": "mono-fastcgi-server4", "mcs": "mono-mcs", "nginx": "nginx-light"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed, so there is no ASP.NET here (Debian: apt-get install %s)", program, pkg)
		}
	}
	dir := t.TempDir()
	farm := filepath.Join(dir, "run")
	program, sites := demotest.Build(t, t.TempDir(), "peerstate/cmd/peerstate"), demotest.Sites(t, farm, "london", "tokyo")
	must(t, demo.MakeFarm(t.Context(), program, farm, sites))
	var all []*demo.Process
	t.Cleanup(func() {
		for _, p := range all {
			if err := p.Kill(); err != nil {
				t.Error(err)
			}
			if log, err := os.ReadFile(p.Log); err == nil && t.Failed() {
				t.Logf("%s:\n%s", p.Name, log)
			}
		}
	})
	begin := func(name string, environ []string, program string, args ...string) {
		p := &demo.Process{Name: name, Log: filepath.Join(dir, name+".log")}
		must(t, p.Start(environ, program, args...))
		all = append(all, p)
	}
	for _, s := range sites {
		must(t, s.Start(program))
		all = append(all, &s.Process)
	}
	for _, s := range sites {
		must(t, s.Await(t.Context(), sites))
	}
	layOut(t, filepath.Join(dir, "site"))
	names := []string{"DIR", dir, "LISTEN", demotest.FreeTCP(t)}
	for i, s := range sites {
		addr := demotest.FreeTCP(t)
		names = append(names, []string{"LONDON", "TOKYO"}[i], addr)
		tmp := filepath.Join(dir, "tmp-"+s.Name) // of the compiler
		must(t, os.Mkdir(tmp, 0o700))
		_, port, _ := strings.Cut(s.Web, ":")
		begin("mono-"+s.Name, []string{"STATE_SERVER_PORT=" + port, "TMPDIR=" + tmp}, "fastcgi-mono-server4",
			"/applications=/:"+filepath.Join(dir, "site"), "/socket=tcp:"+addr)
	}
	conf, err := os.ReadFile(filepath.Join("testdata", "mono", "nginx.conf"))
	must(t, err)
	file := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(file, []byte(strings.NewReplacer(names...).Replace(string(conf))), 0o600))
	begin("nginx", nil, "nginx", "-c", file)
	return aspNet{t, "http://" + names[3] + "/Default.aspx"}
}

// layOut makes the application: the example's files, with a session provider that speaks the state protocol.
func layOut(t *testing.T, site string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(site, "App_Code"), 0o755))
	copied := func(from, to string, change func(string) string) {
		data, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(site, to), []byte(change(string(data))), 0o600))
	}
	same := func(s string) string { return s }
	copied("Default.aspx", "Default.aspx", same)
	copied(filepath.Join("testdata", "mono", "StateServer.cs"), filepath.Join("App_Code", "StateServer.cs"), same)
	provider, err := os.ReadFile(filepath.Join("testdata", "mono", "sessionState.xml"))
	must(t, err)
	copied("Web.config", "Web.config", func(s string) string {
		s = regexp.MustCompile(`<sessionState [^>]*/>`).ReplaceAllString(s, string(provider))
		return strings.ReplaceAll(s, `targetFramework="4.8"`, `targetFramework="4.5"`) // what Mono has
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func visitor(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	return &http.Client{Jar: jar, Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
}

var counter = regexp.MustCompile(`<b id="count">(\d+)</b>`)

// page opens the page once; not ok: there is no page.
func (a aspNet) page(v *http.Client, query string) (count int, site string, ok bool) {
	answer, err := v.Get(a.url + query)
	if err != nil {
		return 0, "", false
	}
	body, err := io.ReadAll(answer.Body)
	if cerr := answer.Body.Close(); err != nil || cerr != nil {
		return 0, "", false
	}
	m := counter.FindSubmatch(body)
	if m == nil {
		a.t.Logf("%s: %.300s", answer.Status, body)
		return 0, "", false
	}
	count, err = strconv.Atoi(string(m[1]))
	return count, answer.Header.Get("X-Site"), err == nil
}

func TestThePageCountsOnWhicheverWebServer(t *testing.T) {
	a := startMono(t)
	for end := time.Now().Add(2 * time.Minute); ; { // both compile it at first
		_, one, ok := a.page(visitor(t), "")
		_, other, also := a.page(visitor(t), "")
		if ok && also && one != other {
			break
		}
		if time.Now().After(end) {
			t.Fatal("there are no pages after two minutes")
		}
		time.Sleep(100 * time.Millisecond)
	}
	v, sites := visitor(t), map[string]bool{}
	for want := 1; want <= 10; want++ {
		got, site, ok := a.page(v, "")
		if !ok || got != want {
			t.Fatalf("page %d counts %d on %s", want, got, site)
		}
		sites[site] = true
	}
	if len(sites) != 2 {
		t.Errorf("the pages came from %v", sites)
	}

	var mu sync.Mutex
	var counts []int
	var all sync.WaitGroup
	for range 6 { // of one browser, at once
		all.Go(func() {
			n, _, _ := a.page(v, "?pause=20")
			mu.Lock()
			defer mu.Unlock()
			counts = append(counts, n)
		})
	}
	all.Wait()
	if slices.Sort(counts); !slices.Equal(counts, []int{11, 12, 13, 14, 15, 16}) {
		t.Errorf("six pages at once count %v", counts)
	}
	if n, _, ok := a.page(v, "?end=1"); !ok || n != 1 { // and is sent to the page
		t.Errorf("after the end of the session the page counts %d", n)
	}
}
